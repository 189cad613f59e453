//! Appends messages inside the caller's own transaction, in one statement.

use amarra_messaging::message::{Outgoing, Record};
use amarra_messaging::{TxError, wire};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Postgres, query::Query};
use uuid::Uuid;

use crate::config::PgConfig;
use crate::error::{PgError, tx_error};
use crate::sql::Argument;
use crate::wake::Touched;
use amarra_messaging::murmur2::choose;

/// Inserts rows; sequence values are drawn in the order of the arrays.
macro_rules! insert {
    ($rest:literal) => {
        concat!(
            "INSERT INTO outbox (shard, topic, key, ce_id, headers, payload) ",
            "SELECT r.shard, r.topic, r.key, r.ce_id, r.headers, r.payload ",
            "FROM unnest($1::smallint[], $2::text[], $3::bytea[], $4::uuid[], $5::bytea[], ",
            "$6::bytea[]) WITH ORDINALITY AS r (shard, topic, key, ce_id, headers, payload, n) ",
            $rest
        )
    };
}

/// Inserts one row, which is what most transactions append: without arrays it costs less.
const ONE: &str = "INSERT INTO outbox (shard, topic, key, ce_id, headers, payload) \
     VALUES ($1, $2, $3, $4, $5, $6)";

/// Appends messages to the outbox of a database, on any connection or transaction to it.
///
/// The caller tells [`Wake::outbox_committed`](crate::wake::Wake::outbox_committed) after its
/// commit; without it the messages wait for the relay's next poll.
///
/// # Laws
/// Those of [`Outbox`](amarra_messaging::Outbox). Append after the aggregate was locked or written,
/// never before, or messages of one key may be published out of order.
///
/// # Example
/// ```no_run
/// # use amarra_messaging::Outgoing;
/// # use amarra_postgres::PgDatabase;
/// # async fn place(database: &PgDatabase, message: Outgoing)
/// #     -> Result<(), Box<dyn std::error::Error>> {
/// use amarra_postgres::PgOutbox;
///
/// let outbox = PgOutbox::new(database.config());
/// let mut tx = database.pool().begin().await?;
/// let change = "UPDATE stock SET left_over = left_over - 1 WHERE sku = 'a'";
/// sqlx::query(change).execute(&mut *tx).await?;
/// outbox.enqueue(&mut tx, &[message]).await?;
/// tx.commit().await?;
/// database.wake().outbox_committed();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PgOutbox {
    shards: u16,
    bytes_max: usize,
}

impl PgOutbox {
    /// Makes an outbox with the shards and bounds of a configuration.
    #[must_use]
    pub fn new(config: &PgConfig) -> Self {
        Self { shards: config.shards, bytes_max: config.message_bytes_max }
    }

    /// Appends messages, in order, inside the transaction that `conn` is in.
    ///
    /// # Errors
    /// [`TxError::TooLarge`] before anything is sent; any other [`TxError`], after which the
    /// transaction must be rolled back.
    pub async fn enqueue(
        &self,
        conn: &mut PgConnection,
        messages: &[Outgoing],
    ) -> Result<(), TxError> {
        self.encode(messages)?.insert(conn).await.map_err(|e| tx_error(&e))
    }

    /// Encodes messages for [`with_change`](Self::with_change).
    ///
    /// # Errors
    /// [`TxError::TooLarge`].
    pub fn encode(&self, messages: &[Outgoing]) -> Result<OutboxRows, TxError> {
        if messages.iter().any(|message| message.envelope.data.len() > self.bytes_max) {
            let bound = u64::try_from(self.bytes_max).unwrap_or(u64::MAX);
            return Err(TxError::TooLarge { what: "message (message_bytes_max)", bound });
        }
        let mut rows = OutboxRows::default();
        for message in messages {
            rows.push(self.shard(message.envelope.partition_key.as_str().as_bytes()), message);
        }
        Ok(rows)
    }

    /// Returns one statement that makes a change and, if it touched a row, appends messages.
    ///
    /// One round trip less than the two statements. `change` is an `INSERT`, `UPDATE` or `DELETE`
    /// with a `RETURNING` clause whose parameters start at `$7`; it is done, and its rows are
    /// locked, before a sequence value is drawn. Bind the messages first
    /// ([`OutboxRows::bind`]), then its own parameters. The number of rows affected is the number
    /// of messages, or zero when the change touched none.
    ///
    /// # Example
    /// ```
    /// use amarra_postgres::PgOutbox;
    /// let sql = PgOutbox::with_change("UPDATE stock SET n = n - 1 WHERE sku = $7 RETURNING 1");
    /// assert!(sql.starts_with("WITH changed AS (UPDATE stock"));
    /// ```
    #[must_use]
    pub fn with_change(change: &str) -> String {
        format!(
            "WITH changed AS ({change}) {}",
            insert!("WHERE (SELECT count(*) FROM changed) > 0 ORDER BY r.n")
        )
    }

    /// Returns what [`with_change`](Self::with_change) does for exactly one message, whose values
    /// are bound by [`OutboxRows::bind_one`]: without arrays it costs the server a tenth less.
    ///
    /// When nothing else belongs to the transaction, it needs no `BEGIN` and `COMMIT` either: that
    /// is a third of the round trips.
    ///
    /// # Example
    /// ```
    /// use amarra_postgres::PgOutbox;
    /// let sql = PgOutbox::with_change_of_one("DELETE FROM cart WHERE id = $7 RETURNING 1");
    /// assert!(sql.starts_with("WITH changed AS (DELETE FROM cart"));
    /// ```
    #[must_use]
    pub fn with_change_of_one(change: &str) -> String {
        format!(
            "WITH changed AS ({change}) \
             INSERT INTO outbox (shard, topic, key, ce_id, headers, payload) \
             SELECT $1::smallint, $2::text, $3::bytea, $4::uuid, $5::bytea, $6::bytea \
             WHERE (SELECT count(*) FROM changed) > 0"
        )
    }

    /// Returns the shards that messages go to, for
    /// [`Wake::outbox_committed_to`](crate::wake::Wake::outbox_committed_to).
    #[must_use]
    pub fn touched(&self, messages: &[Outgoing]) -> Touched {
        let mut touched = Touched::default();
        for message in messages {
            let key = message.envelope.partition_key.as_str().as_bytes();
            touched.add(self.shard(key).cast_unsigned());
        }
        touched
    }

    fn shard(&self, key: &[u8]) -> i16 {
        let shard = choose(key, u32::from(self.shards)).unwrap_or(0);
        i16::try_from(shard).unwrap_or(0)
    }
}

/// Encoded messages, column by column.
#[derive(Debug, Default)]
pub struct OutboxRows {
    shards: Vec<i16>,
    topics: Vec<String>,
    keys: Vec<Vec<u8>>,
    ids: Vec<Uuid>,
    headers: Vec<Vec<u8>>,
    payloads: Vec<Vec<u8>>,
}

impl OutboxRows {
    fn push(&mut self, shard: i16, message: &Outgoing) {
        let Record { key, headers, value } = wire::encode(&message.envelope, None);
        self.shards.push(shard);
        self.topics.push(message.topic.as_str().to_owned());
        self.keys.push(key.into());
        self.ids.push(message.envelope.id.as_uuid());
        self.headers.push(headers.into_bytes().into());
        self.payloads.push(value.into());
    }

    /// Returns how many bytes the rows hold, but for the few that are the same for each.
    pub(crate) fn bytes(&self) -> usize {
        let columns = [&self.keys, &self.headers, &self.payloads];
        columns.iter().flat_map(|column| column.iter()).map(Vec::len).sum()
    }

    /// Refuses what the server would, before it is kept.
    pub(crate) fn check(self) -> Result<Self, TxError> {
        if self.topics.iter().any(|topic| topic.contains('\0')) {
            let why = "PostgreSQL cannot store a NUL character".to_owned();
            return Err(TxError::Corrupt { what: "topic".to_owned(), why });
        }
        Ok(self)
    }

    /// Adds rows behind these.
    pub(crate) fn append(&mut self, mut later: Self) {
        self.shards.append(&mut later.shards);
        self.topics.append(&mut later.topics);
        self.keys.append(&mut later.keys);
        self.ids.append(&mut later.ids);
        self.headers.append(&mut later.headers);
        self.payloads.append(&mut later.payloads);
    }

    /// Inserts the rows in a round trip of their own.
    pub(crate) async fn insert(self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let query = match self.shards.len() {
            0 => return Ok(()),
            1 => self.bind_one(sqlx::query(ONE)),
            _ => self.bind(sqlx::query(insert!("ORDER BY r.n"))),
        };
        query.execute(conn).await.map(drop)
    }

    /// Adds the statement that inserts the rows along with others.
    pub(crate) fn script(&self, execute: &mut impl FnMut(&str, &[Argument<'_>]) -> usize) {
        let (shards, topics, ids) = (&self.shards, &self.topics, &self.ids);
        let columns = [&self.keys, &self.headers, &self.payloads];
        match (shards.as_slice(), topics.as_slice(), ids.as_slice(), columns.map(Vec::as_slice)) {
            ([], ..) => {}
            ([shard], [topic], [id], [[key], [headers], [payload]]) => {
                let shard = Argument::Int(i64::from(*shard));
                let [key, headers, payload] = [key, headers, payload].map(|b| Argument::Bytes(b));
                let (topic, id) = (Argument::Text(topic), Argument::Uuid(*id));
                execute("amarra_append", &[shard, topic, key, id, headers, payload]);
            }
            _ => {
                let [keys, headers, payloads] = columns
                    .map(|column| Argument::ByteArrays(column.iter().map(Vec::as_slice).collect()));
                let shards = Argument::Ints(shards.iter().map(|s| i64::from(*s)).collect());
                let topics = Argument::Texts(topics.iter().map(String::as_str).collect());
                let ids = Argument::Uuids(ids.clone());
                execute("amarra_append_all", &[shards, topics, keys, ids, headers, payloads]);
            }
        }
    }

    /// Binds parameters `$1` to `$6` of [`PgOutbox::with_change_of_one`] to the only row; without a
    /// row they are null, which the server refuses.
    pub fn bind_one<'q>(
        mut self,
        query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        query
            .bind(self.shards.pop())
            .bind(self.topics.pop())
            .bind(self.keys.pop())
            .bind(self.ids.pop())
            .bind(self.headers.pop())
            .bind(self.payloads.pop())
    }

    /// Binds parameters `$1` to `$6`.
    pub fn bind<'q>(
        self,
        query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        query
            .bind(self.shards)
            .bind(self.topics)
            .bind(self.keys)
            .bind(self.ids)
            .bind(self.headers)
            .bind(self.payloads)
    }
}

/// Makes the shards of an outbox, once and for ever, and checks that they are as many.
///
/// # Errors
/// [`PgError::Setting`] when the outbox has another number of shards.
pub(crate) async fn fix_shards(conn: &mut PgConnection, shards: u16) -> Result<(), PgError> {
    let database = |e: sqlx::Error| PgError::Database { why: e.to_string() };
    let made = "INSERT INTO outbox_shard SELECT s FROM generate_series(0, $1 - 1) AS s \
                WHERE NOT EXISTS (SELECT FROM outbox_shard) ON CONFLICT DO NOTHING";
    sqlx::query(made).bind(i32::from(shards)).execute(&mut *conn).await.map_err(database)?;
    let count = "SELECT count(*) FROM outbox_shard";
    let found: i64 = sqlx::query_scalar(count).fetch_one(conn).await.map_err(database)?;
    if found == i64::from(shards) {
        return Ok(());
    }
    let expected = "the number of shards that the outbox was made with";
    Err(PgError::Setting { name: "shards", found: format!("not {found}"), expected })
}
