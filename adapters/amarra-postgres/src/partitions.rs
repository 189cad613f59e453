//! Makes the outbox's partitions ahead of the writers, and drops those that every relay has left.

use std::time::Duration;

use amarra_messaging::outbox::Snapshot;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Postgres, Transaction};

use crate::error::{PgError, require, sqlstate};
use crate::log::origin;
use crate::log::snapshot::{from_text, in_progress};

/// How the outbox is cut, and how long upkeep may stand in the writers' way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionsConfig {
    /// Sequence values of a partition, at least 1. A million rows of a kilobyte are a gigabyte,
    /// dropped at once.
    pub rows: u64,
    /// Empty partitions kept ahead of the sequence, 1 to 100. Rows that find none go to the
    /// default partition, which is never dropped.
    pub ahead: u16,
    /// How long a drop waits for the writers, and they for it, at least 1 ms.
    pub lock_timeout: Duration,
    /// How often a drop is tried in one call, at least 1; the next call tries again.
    pub tries: u32,
}

impl Default for PartitionsConfig {
    /// A million rows, two ahead, three tries of 100 ms.
    fn default() -> Self {
        let lock_timeout = Duration::from_millis(100);
        Self { rows: 1_000_000, ahead: 2, lock_timeout, tries: 3 }
    }
}

impl PartitionsConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`PgError::Field`] for the first field out of range.
    pub fn validate(&self) -> Result<(), PgError> {
        let rows = i64::try_from(self.rows).is_ok_and(|rows| rows >= 1);
        require(rows, "rows", "must be at least 1")?;
        require((1..=100).contains(&self.ahead), "ahead", "must be 1 to 100")?;
        let waits = self.lock_timeout >= Duration::from_millis(1);
        require(waits, "lock_timeout", "must be at least a millisecond")?;
        require(self.tries >= 1, "tries", "must be at least 1")
    }
}

/// What upkeep did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Upkeep {
    /// Partitions made.
    pub created: Vec<String>,
    /// Partitions dropped, with every row of theirs relayed by every group.
    pub dropped: Vec<String>,
    /// Partitions that may be dropped and were in use; the next call tries again.
    pub busy: Vec<String>,
}

/// The upkeep of the outbox's partitions, by the role that owns the tables.
///
/// # Laws
/// - A partition is dropped only when it holds no row that some group has not relayed, and no
///   transaction can add one: that is looked at again once nobody else can write.
#[derive(Debug, Clone, Copy)]
pub struct PgPartitions {
    config: PartitionsConfig,
}

struct Range {
    name: String,
    upper: i64,
    closed: Option<i64>,
}

struct Place {
    shard: i16,
    prev: Snapshot,
}

impl PgPartitions {
    /// Makes the upkeep.
    ///
    /// # Errors
    /// [`PgError::Field`].
    pub fn new(config: PartitionsConfig) -> Result<Self, PgError> {
        config.validate()?;
        Ok(Self { config })
    }

    /// Makes partitions ahead and drops relayed ones; with `dry_run` it only says which.
    ///
    /// Two calls at once are harmless: the second waits for the first, or fails.
    ///
    /// # Errors
    /// [`PgError::Database`], also when a new partition waited longer than `lock_timeout` for a
    /// reader of the default partition; what was done stays done, and the next call goes on.
    pub async fn maintain(
        &self,
        conn: &mut PgConnection,
        dry_run: bool,
    ) -> Result<Upkeep, PgError> {
        let mut done = Upkeep::default();
        self.create(conn, dry_run, &mut done).await.map_err(failed)?;
        self.close(conn, dry_run).await.map_err(failed)?;
        for range in self.droppable(conn).await? {
            let dropped = dry_run || self.drop_one(conn, &range).await?;
            if dropped { done.dropped.push(range.name) } else { done.busy.push(range.name) }
        }
        Ok(done)
    }

    async fn create(
        &self,
        conn: &mut PgConnection,
        dry_run: bool,
        done: &mut Upkeep,
    ) -> Result<(), sqlx::Error> {
        let rows = i64::try_from(self.config.rows).unwrap_or(i64::MAX);
        let sql = "SELECT (SELECT last_value FROM outbox_seq_seq), \
                   (SELECT coalesce(max(upper), 1) FROM outbox_range)";
        let (last, top): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut *conn).await?;
        // Values that went to the default partition meanwhile stay there.
        let mut lower = if top > last { top } else { last.saturating_add(rows) };
        let ahead = i64::from(self.config.ahead).saturating_mul(rows);
        while lower <= last.saturating_add(ahead) {
            let (name, upper) = (format!("outbox_{lower}"), lower.saturating_add(rows));
            if !dry_run {
                let mut tx = self.locked(conn).await?;
                // Attached, because a table made as a partition waits for every open writer and
                // lets none begin meanwhile.
                let make = format!(
                    "CREATE TABLE {name} (LIKE outbox INCLUDING DEFAULTS INCLUDING STORAGE); \
                     ALTER TABLE outbox ATTACH PARTITION {name} \
                     FOR VALUES FROM ({lower}) TO ({upper})"
                );
                sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut *tx).await?;
                let note = "INSERT INTO outbox_range (name, lower, upper) VALUES ($1, $2, $3)";
                sqlx::query(note).bind(&name).bind(lower).bind(upper).execute(&mut *tx).await?;
                tx.commit().await?;
            }
            done.created.push(name);
            lower = upper;
        }
        Ok(())
    }

    /// Takes note of the transactions that may still write below the sequence.
    async fn close(&self, conn: &mut PgConnection, dry_run: bool) -> Result<(), sqlx::Error> {
        if dry_run {
            return Ok(());
        }
        let sql = "UPDATE outbox_range \
                   SET closed = pg_snapshot_xmax(pg_current_snapshot())::text::bigint \
                   WHERE closed IS NULL AND upper <= (SELECT last_value FROM outbox_seq_seq)";
        sqlx::query(sql).execute(conn).await.map(|_| ())
    }

    async fn droppable(&self, conn: &mut PgConnection) -> Result<Vec<Range>, PgError> {
        let places = places(conn).await?;
        let sql = "SELECT name, upper, closed FROM outbox_range \
                   WHERE upper <= (SELECT last_value FROM outbox_seq_seq) ORDER BY lower";
        let ranges: Vec<(String, i64, Option<i64>)> =
            sqlx::query_as(sql).fetch_all(&mut *conn).await.map_err(failed)?;
        let mut free = Vec::new();
        for (name, upper, closed) in ranges {
            let range = Range { name, upper, closed };
            if left(&range, &places) && relayed(conn, &range, &places).await? {
                free.push(range);
            }
        }
        Ok(free)
    }

    async fn drop_one(&self, conn: &mut PgConnection, range: &Range) -> Result<bool, PgError> {
        for _ in 0..self.config.tries {
            match self.try_drop(conn, range).await {
                Err(Failed::Locked) => tokio::time::sleep(self.config.lock_timeout).await,
                Err(Failed::Other(e)) => return Err(e),
                Ok(dropped) => return Ok(dropped),
            }
        }
        Ok(false)
    }

    async fn try_drop(&self, conn: &mut PgConnection, range: &Range) -> Result<bool, Failed> {
        let mut tx = self.locked(conn).await?;
        // From here on nobody has an open transaction that wrote, or starts one that writes.
        sqlx::query("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE").execute(&mut *tx).await?;
        let places = places(&mut tx).await.map_err(Failed::Other)?;
        if !relayed(&mut tx, range, &places).await.map_err(Failed::Other)? {
            return Ok(false);
        }
        let drop = format!("DROP TABLE {}", range.name);
        sqlx::query(AssertSqlSafe(drop)).execute(&mut *tx).await?;
        sqlx::query("DELETE FROM outbox_range WHERE name = $1")
            .bind(&range.name)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn locked<'c>(
        &self,
        conn: &'c mut PgConnection,
    ) -> Result<Transaction<'c, Postgres>, sqlx::Error> {
        let mut tx = conn.begin().await?;
        let millis = self.config.lock_timeout.as_millis();
        let set = format!("SET LOCAL lock_timeout = {millis}");
        sqlx::query(AssertSqlSafe(set)).execute(&mut *tx).await?;
        Ok(tx)
    }

    /// Takes over an outbox that was restored from a dump into another cluster.
    ///
    /// The transaction ids of a dump mean nothing in the new cluster. Rows that a group had not
    /// relayed get the id of this transaction, the others one that everybody sees, and the cursors
    /// move there: nothing is lost, and what was relayed after the dump is relayed again under the
    /// outbox's new name. The one place where rows are rewritten; writers wait meanwhile. With
    /// several groups a row that one of them has not relayed is relayed again by each.
    ///
    /// # Errors
    /// [`PgError::Database`]; nothing was changed.
    pub async fn adopt(&self, conn: &mut PgConnection) -> Result<(), PgError> {
        let mut tx = conn.begin().await.map_err(failed)?;
        let (system, timeline) = origin::identity(&mut tx).await.map_err(failed)?;
        let known = "SELECT EXISTS (SELECT FROM outbox_origin WHERE system = $1)";
        let known: bool =
            sqlx::query_scalar(known).bind(&system).fetch_one(&mut *tx).await.map_err(failed)?;
        if !known {
            sqlx::raw_sql("LOCK TABLE outbox, outbox_cursor IN ACCESS EXCLUSIVE MODE")
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
            sqlx::raw_sql(RESTAMP).execute(&mut *tx).await.map_err(failed)?;
            origin::recognise(&mut tx, &system, &timeline).await.map_err(failed)?;
        }
        tx.commit().await.map_err(failed)
    }
}

/// Rows relayed by every group become visible to every snapshot; the rest are this transaction's.
const RESTAMP: &str = "UPDATE outbox o SET xid = CASE WHEN EXISTS ( \
         SELECT FROM outbox_cursor c WHERE c.shard = o.shard AND NOT ( \
             c.prev <> '0:0:' \
             AND pg_visible_in_snapshot(o.xid, nullif(c.prev, '0:0:')::pg_snapshot) \
             OR c.cur IS NOT NULL AND pg_visible_in_snapshot(o.xid, c.cur::pg_snapshot) \
                 AND o.seq <= c.last_seq)) \
         THEN pg_current_xact_id() ELSE '3'::xid8 END; \
     UPDATE outbox_cursor SET cur = NULL, last_seq = 0, \
         prev = pg_current_xact_id()::text || ':' || pg_current_xact_id()::text || ':'";

enum Failed {
    Locked,
    Other(PgError),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        match sqlstate(&error).as_deref() {
            Some("55P03" | "40P01") => Self::Locked,
            _ => Self::Other(failed(error)),
        }
    }
}

fn failed(error: sqlx::Error) -> PgError {
    PgError::Database { why: error.to_string() }
}

async fn places(conn: &mut PgConnection) -> Result<Vec<Place>, PgError> {
    let sql = "SELECT s.shard, coalesce(c.prev, '0:0:') FROM outbox_shard s \
               LEFT JOIN outbox_cursor c ON c.shard = s.shard";
    let rows: Vec<(i16, String)> = sqlx::query_as(sql).fetch_all(conn).await.map_err(failed)?;
    let place = |(shard, prev): (i16, String)| {
        let prev = from_text(&prev).map_err(|e| PgError::Database { why: e.to_string() })?;
        Ok(Place { shard, prev })
    };
    rows.into_iter().map(place).collect()
}

/// Tells whether every transaction that could hold a value of the range had ended for everybody: a
/// cheap look that spares most of the locking.
fn left(range: &Range, places: &[Place]) -> bool {
    let closed = range.closed.map_or(u64::MAX, i64::cast_unsigned);
    !places.is_empty() && places.iter().all(|place| place.prev.xmin >= closed)
}

/// Tells whether no committed row of a partition is left to relay.
async fn relayed(
    conn: &mut PgConnection,
    range: &Range,
    places: &[Place],
) -> Result<bool, PgError> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM {0} WHERE shard = $1 AND xid >= $2::text::xid8 \
         AND seq < $4) OR EXISTS (SELECT FROM {0} WHERE shard = $1 \
         AND xid = ANY ($3::text::xid8[]) AND seq < $4)",
        range.name
    );
    for place in places {
        let waiting: bool = sqlx::query_scalar(AssertSqlSafe(sql.as_str()))
            .bind(place.shard)
            .bind(place.prev.xmax.to_string())
            .bind(in_progress(&place.prev))
            .bind(range.upper)
            .fetch_one(&mut *conn)
            .await
            .map_err(failed)?;
        if waiting {
            return Ok(false);
        }
    }
    Ok(!places.is_empty())
}
