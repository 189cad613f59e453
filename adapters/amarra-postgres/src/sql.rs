//! Several statements in one round trip: literals, the statements prepared on each connection.
//!
//! The extended protocol as the driver speaks it is a round trip a statement, and a statement reads
//! by the snapshot it began with, also when it waited for a lock. A script is one message of the
//! simple protocol: each of its statements has a snapshot of its own, taken after the one before
//! ended, and `EXECUTE` spares the planning.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use amarra_messaging::TxError;
use futures_util::TryStreamExt as _;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Either, PgConnection};

/// What is prepared on every connection of the pool: name with types, and statement.
const PREPARED: &[(&str, &str)] = &[
    ("amarra_lock(bigint[])", "SELECT pg_advisory_xact_lock(k) FROM unnest($1) AS k"),
    ("amarra_try_lock(bigint)", "SELECT pg_try_advisory_xact_lock($1)"),
    (
        "amarra_load(text[], text[])",
        "SELECT w.n, a.version, a.body \
         FROM unnest($1, $2) WITH ORDINALITY AS w (kind, id, n) \
         JOIN aggregate a ON a.kind = w.kind AND a.id = w.id",
    ),
    (
        "amarra_create(text[], text[], bigint[], bytea[])",
        // What is not returned was there already.
        "INSERT INTO aggregate (kind, id, version, body) SELECT * FROM unnest($1, $2, $3, $4) \
         ON CONFLICT (kind, id) DO NOTHING RETURNING kind, id",
    ),
    (
        "amarra_update(text[], text[], bigint[], bigint[], bytea[])",
        "UPDATE aggregate a SET version = w.version, body = w.body \
         FROM unnest($1, $2, $3, $4, $5) AS w (kind, id, expected, version, body) \
         WHERE a.kind = w.kind AND a.id = w.id AND a.version = w.expected",
    ),
    (
        "amarra_claimed(text, text, bigint)",
        "SELECT true FROM timer WHERE kind = $1 AND id = $2 AND epoch = $3 FOR UPDATE",
    ),
    (
        "amarra_claim(text, bigint, bigint, text)",
        "WITH due AS MATERIALIZED ( \
             SELECT kind, id FROM timer WHERE kind = $1 AND claimable <= now() \
             ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED) \
         UPDATE timer t SET claimable = now() + $3 * interval '1 microsecond', \
             epoch = nextval('timer_epoch'), owner = $4 \
         FROM due WHERE t.kind = due.kind AND t.id = due.id \
         RETURNING t.id, t.epoch, (extract(epoch FROM t.due) * 1000000)::bigint",
    ),
    (
        "amarra_next_due(text)",
        "SELECT (extract(epoch FROM min(claimable) - clock_timestamp()) * 1000000)::bigint \
         FROM timer WHERE kind = $1",
    ),
    (
        "amarra_timer_set(text[], text[], bigint[])",
        "INSERT INTO timer (kind, id, due, claimable, epoch) \
         SELECT kind, id, now() + micros * interval '1 microsecond', \
             now() + micros * interval '1 microsecond', nextval('timer_epoch') \
         FROM unnest($1, $2, $3) AS w (kind, id, micros) \
         ON CONFLICT (kind, id) DO UPDATE SET due = excluded.due, claimable = excluded.claimable, \
             epoch = excluded.epoch, owner = NULL",
    ),
    (
        "amarra_timer_clear(text[], text[])",
        "DELETE FROM timer t USING unnest($1, $2) AS w (kind, id) \
         WHERE t.kind = w.kind AND t.id = w.id",
    ),
    (
        "amarra_response(text, text, text)",
        "SELECT request_hash, status, body FROM idempotency \
         WHERE principal = $1 AND route = $2 AND key = $3",
    ),
    (
        "amarra_respond(text, text, text, bytea, integer, bytea)",
        "INSERT INTO idempotency (principal, route, key, request_hash, status, body) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    ),
    (
        "amarra_append(smallint, text, bytea, uuid, bytea, bytea)",
        "INSERT INTO outbox (shard, topic, key, ce_id, headers, payload) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    ),
    (
        "amarra_append_all(bigint[], text[], bytea[], uuid[], bytea[], bytea[])",
        "INSERT INTO outbox (shard, topic, key, ce_id, headers, payload) \
         SELECT r.shard, r.topic, r.key, r.ce_id, r.headers, r.payload \
         FROM unnest($1, $2, $3, $4, $5, $6) WITH ORDINALITY \
             AS r (shard, topic, key, ce_id, headers, payload, n) ORDER BY r.n",
    ),
    (
        "amarra_head",
        "SELECT pg_current_xact_id()::text::bigint, number, hash FROM audit_head FOR UPDATE",
    ),
    (
        "amarra_audit(bigint[], bytea[], bytea[], text[], text[], text[], text[], bigint[], \
         uuid[], bigint[], bytea[])",
        "INSERT INTO audit (number, previous, hash, actor, action, kind, id, version, \
             correlation, at_micros, state_hash) \
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    ),
    ("amarra_head_set(bigint, bytea)", "UPDATE audit_head SET number = $1, hash = $2"),
    (
        "amarra_first_parked(text, text, text)",
        "SELECT ticket, partition, \"offset\", record_key, headers, value, reason, \
             (extract(epoch FROM at) * 1000000)::bigint \
         FROM parked WHERE grp = $1 AND topic = $2 AND key = $3 \
         ORDER BY ticket LIMIT 1 FOR UPDATE",
    ),
    (
        "amarra_admit(text, uuid[], text[], bigint[], bigint[])",
        "INSERT INTO inbox (grp, message, topic, partition, \"offset\") \
         SELECT $1, * FROM unnest($2, $3, $4, $5) ON CONFLICT (grp, message) DO NOTHING \
         RETURNING message, pg_current_xact_id()::text::bigint",
    ),
    (
        "amarra_parked(text, text[], text[])",
        "SELECT w.n FROM unnest($2, $3) WITH ORDINALITY AS w (topic, key, n) WHERE EXISTS \
             (SELECT FROM parked p WHERE p.grp = $1 AND p.topic = w.topic AND p.key = w.key)",
    ),
    (
        "amarra_windows(text[], text[], bigint[], text[], bigint[], bytea[])",
        "UPDATE inbox_window i SET bits = w.bits \
         FROM unnest($1, $2, $3, $4, $5, $6) AS w (grp, topic, partition, source, shard, bits) \
         WHERE i.grp = w.grp AND i.topic = w.topic AND i.partition = w.partition \
             AND i.source = w.source AND i.shard = w.shard",
    ),
    (
        "amarra_offsets(text[], text[], bigint[], bigint[])",
        "UPDATE inbox_offset i SET next = w.next \
         FROM unnest($1, $2, $3, $4) AS w (grp, topic, partition, next) \
         WHERE i.grp = w.grp AND i.topic = w.topic AND i.partition = w.partition",
    ),
    (
        "amarra_view_get(text[], text[])",
        "SELECT w.n, v.position, v.body \
         FROM unnest($1, $2) WITH ORDINALITY AS w (view, key, n) \
         JOIN view_rows v ON v.view = w.view AND v.key = w.key",
    ),
    (
        "amarra_view_put(text[], text[], bigint[], bytea[])",
        "INSERT INTO view_rows (view, key, position, body) SELECT * FROM unnest($1, $2, $3, $4) \
         ON CONFLICT (view, key) DO UPDATE SET position = excluded.position, body = excluded.body",
    ),
    (
        "amarra_view_delete(text[], text[])",
        "DELETE FROM view_rows v USING unnest($1, $2) AS w (view, key) \
         WHERE v.view = w.view AND v.key = w.key",
    ),
];

/// Returns what prepares every statement, those of the views' own tables among them.
///
/// Each is to be sent alone: the server keeps the text of the whole message with each statement of
/// it, and copies that at every execution.
pub(crate) fn prepare(views: &BTreeMap<String, String>) -> Vec<String> {
    let mut all = Vec::new();
    let mut add = |name: &str, sql: &str| all.push(format!("PREPARE {name} AS {sql}"));
    for (name, sql) in PREPARED {
        add(name, sql);
    }
    let tables: std::collections::BTreeSet<&String> = views.values().collect();
    for table in tables {
        add(
            &format!("amarra_get_{table}(text[])"),
            &format!(
                "SELECT w.n, v.position, v.body FROM unnest($1) WITH ORDINALITY AS w (key, n) \
                 JOIN {table} v ON v.key = w.key"
            ),
        );
        add(
            &format!("amarra_put_{table}(text[], bigint[], bytea[])"),
            &format!(
                "INSERT INTO {table} (key, position, body, json) \
                 SELECT key, position, body, convert_from(body, 'UTF8')::jsonb \
                 FROM unnest($1, $2, $3) AS w (key, position, body) \
                 ON CONFLICT (key) DO UPDATE SET position = excluded.position, \
                     body = excluded.body, json = excluded.json"
            ),
        );
        add(
            &format!("amarra_delete_{table}(text[])"),
            &format!("DELETE FROM {table} WHERE key = ANY ($1)"),
        );
    }
    all
}

/// What one statement of a script answered.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) rows: Vec<PgRow>,
    pub(crate) affected: u64,
}

/// Statements that are sent together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    text: String,
    nul: bool,
}

impl Script {
    /// Tells whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Adds the statements of another script.
    pub(crate) fn append(&mut self, other: &Self) -> &mut Self {
        self.text.push_str(&other.text);
        self.nul |= other.nul;
        self
    }

    /// Adds a statement as it is.
    pub(crate) fn plain(&mut self, sql: &'static str) -> &mut Self {
        self.text.push_str(sql);
        self.text.push(';');
        self
    }

    /// Adds the execution of a prepared statement.
    pub(crate) fn execute(&mut self, name: &str, arguments: &[Argument<'_>]) -> &mut Self {
        let _ = write!(self.text, "EXECUTE {name}");
        for (n, argument) in arguments.iter().enumerate() {
            self.text.push(if n == 0 { '(' } else { ',' });
            self.argument(argument);
        }
        self.text.push_str(if arguments.is_empty() { ";" } else { ");" });
        self
    }

    fn argument(&mut self, argument: &Argument<'_>) {
        match argument {
            Argument::Int(value) => {
                let _ = write!(self.text, "{value}");
            }
            Argument::Text(text) => self.literal(text),
            Argument::Bytes(bytes) => self.hex(bytes),
            Argument::Uuid(id) => {
                let _ = write!(self.text, "'{id}'");
            }
            Argument::Ints(values) => {
                self.array(values, "bigint", |s, v| {
                    let _ = write!(s.text, "{v}");
                });
            }
            Argument::Texts(values) => self.array(values, "text", |s, v| s.literal(v)),
            Argument::Uuids(values) => self.array(values, "uuid", |s, v| {
                let _ = write!(s.text, "'{v}'");
            }),
            Argument::ByteArrays(values) => self.array(values, "bytea", |s, v| s.hex(v)),
        }
    }

    fn array<T>(&mut self, values: &[T], kind: &str, each: impl Fn(&mut Self, &T)) {
        self.text.push_str("ARRAY[");
        for (n, value) in values.iter().enumerate() {
            if n > 0 {
                self.text.push(',');
            }
            each(self, value);
        }
        let _ = write!(self.text, "]::{kind}[]");
    }

    /// Writes text as an escape string, which means the same under every setting of the server.
    fn literal(&mut self, text: &str) {
        self.nul |= text.contains('\0');
        self.text.push_str("E'");
        for c in text.chars() {
            if c == '\'' || c == '\\' {
                self.text.push(c);
            }
            self.text.push(c);
        }
        self.text.push('\'');
    }

    fn hex(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.text.reserve(bytes.len().saturating_mul(2).saturating_add(16));
        self.text.push_str("E'\\\\x");
        for byte in bytes {
            for nibble in [byte >> 4, byte & 15] {
                let digit = DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
                self.text.push(char::from(digit));
            }
        }
        self.text.push_str("'::bytea");
    }

    /// Refuses text that the server cannot store, and that would end the script early.
    pub(crate) fn check(&self) -> Result<(), TxError> {
        if self.nul {
            let why = "PostgreSQL cannot store a NUL character".to_owned();
            return Err(TxError::Corrupt { what: "name or key".to_owned(), why });
        }
        Ok(())
    }

    /// Sends the statements and returns what each of them answered.
    pub(crate) async fn run(self, conn: &mut PgConnection) -> Result<Vec<Answer>, sqlx::Error> {
        let mut answers = vec![Answer::default()];
        let mut stream = sqlx::raw_sql(AssertSqlSafe(self.text)).fetch_many(conn);
        while let Some(step) = stream.try_next().await? {
            match (step, answers.last_mut()) {
                (Either::Right(row), Some(last)) => last.rows.push(row),
                (Either::Left(done), Some(last)) => {
                    last.affected = done.rows_affected();
                    answers.push(Answer::default());
                }
                (_, None) => {}
            }
        }
        answers.pop();
        Ok(answers)
    }
}

/// An argument of a prepared statement.
#[derive(Debug)]
pub(crate) enum Argument<'a> {
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Uuid(uuid::Uuid),
    Ints(Vec<i64>),
    Texts(Vec<&'a str>),
    Uuids(Vec<uuid::Uuid>),
    ByteArrays(Vec<&'a [u8]>),
}

/// Names a lock: what kind of thing, and its name in parts. Two names that share the 64 bits of
/// their hashes wait for each other, and nothing worse.
pub(crate) fn lock_key(kind: &str, parts: &[&str]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    for part in std::iter::once(&kind).chain(parts) {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(hasher.finalize().as_bytes()).for_each(|(to, from)| *to = *from);
    i64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_literal() {
        let check = |text: &str, expect: &str| {
            let mut script = Script::default();
            script.execute("f", &[Argument::Text(text)]);
            assert_eq!(script.text, format!("EXECUTE f({expect});"));
        };
        check("käse", "E'käse'");
        check("'; DROP TABLE x; --", "E'''; DROP TABLE x; --'");
        check("\\'", "E'\\\\'''");
        check("\\", "E'\\\\'");
    }

    #[test]
    fn a_nul_character_is_refused() {
        let mut script = Script::default();
        script.execute("f", &[Argument::Texts(vec!["a\0b"])]);
        assert!(script.check().is_err());
    }

    #[test]
    fn arrays_say_their_type_even_when_empty() {
        let mut script = Script::default();
        script.execute("f", &[Argument::Ints(vec![]), Argument::ByteArrays(vec![&[0, 255]])]);
        assert_eq!(
            script.text,
            "EXECUTE f(ARRAY[]::bigint[],ARRAY[E'\\\\x00ff'::bytea]::bytea[]);"
        );
    }

    #[test]
    fn locks_of_different_names_differ() {
        assert_ne!(lock_key("aggregate", &["a", "bc"]), lock_key("aggregate", &["ab", "c"]));
        assert_ne!(lock_key("aggregate", &["a"]), lock_key("view", &["a"]));
    }
}
