//! The outbox-log port: rows from the database, leases and cursors from the relay's file.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use amarra_core::{PartitionKey, Timestamp};
use amarra_messaging::message::{Epoch, Owner, Pos, Seq, Shard};
use amarra_messaging::outbox::{
    Backlog, Chunk, Cursor, Lease, LogError, ParkedRow, Resumed, Row, Snapshot,
};
use amarra_messaging::{OutboxLog, Topic};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::clock::{int, nat, rows};
use crate::database::{Shared, next_seq};
use crate::error;
use crate::messaging::record;
use crate::pairing;

/// The relay's side of a [`SqliteDatabase`](crate::SqliteDatabase)'s outbox.
///
/// With one writer at a time a sequence value is drawn and committed before the next one is drawn:
/// commit order is sequence order. A message's transaction id is therefore its own sequence value,
/// and a snapshot is one number: `xmin` and `xmax` are the next value to be drawn, nothing is ever
/// in progress below it.
#[derive(Debug)]
pub struct SqliteOutboxLog {
    shared: Arc<Shared>,
    seen: AtomicU64,
}

impl Clone for SqliteOutboxLog {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

fn driver(error: sqlx::Error) -> LogError {
    error::log(&error)
}

fn corrupt(what: &str, why: impl ToString) -> LogError {
    LogError::Corrupt { what: what.to_owned(), why: why.to_string() }
}

impl SqliteOutboxLog {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let seen = AtomicU64::new(shared.outbox_changed.count());
        Self { shared, seen }
    }

    /// Runs one transaction on the relay's file.
    async fn run<R>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<R, LogError>,
    ) -> Result<R, LogError> {
        let mut relay = self.shared.relay.lock().await;
        relay.begin().await.map_err(driver)?;
        let out = work(relay.connection().map_err(driver)?).await;
        match out {
            Ok(out) => {
                relay.commit().await.map_err(driver)?;
                Ok(out)
            }
            Err(error) => {
                relay.settle().await;
                Err(error)
            }
        }
    }

    /// Deletes messages that every shard's relay has passed and that are older than `age`, at most
    /// `limit`; returns how many.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    pub async fn prune(&self, age: Duration, limit: usize) -> Result<u64, LogError> {
        let passed = self
            .run(async |relay| {
                let passed = sqlx::query_scalar::<_, i64>("SELECT min(passed) FROM shards");
                passed.fetch_one(relay).await.map_err(driver)
            })
            .await?;
        let unavailable =
            |e: amarra_messaging::TxError| LogError::Unavailable { why: e.to_string() };
        let before = self.shared.clock.now().minus(age).as_micros();
        let mut writer = self.shared.write().await.map_err(unavailable)?;
        let delete = "DELETE FROM outbox WHERE seq IN \
                      (SELECT seq FROM outbox WHERE seq < ? AND at < ? ORDER BY seq LIMIT ?)";
        let delete = sqlx::query(delete).bind(passed).bind(before).bind(rows(limit));
        let connection = writer.connection().map_err(driver)?;
        let deleted = delete.execute(&mut *connection).await.map_err(driver)?;
        if deleted.rows_affected() > 0 {
            pairing::note_pruned(connection, passed).await.map_err(driver)?;
        }
        writer.commit().await.map_err(driver)?;
        Ok(deleted.rows_affected())
    }
}

#[async_trait]
impl OutboxLog for SqliteOutboxLog {
    fn source(&self) -> Arc<str> {
        Arc::clone(&self.shared.name)
    }

    async fn lease(
        &self,
        owner: &Owner,
        limit: usize,
        ttl: Duration,
    ) -> Result<Vec<Lease>, LogError> {
        let ttl = ttl.min(self.shared.config.lease_max);
        self.run(async |relay| {
            let now = self.shared.clock.now();
            let until = now.plus(ttl).as_micros();
            let held = "UPDATE shards SET expires = ?1 WHERE shard IN \
                        (SELECT shard FROM shards WHERE owner = ?2 AND expires > ?3 \
                         ORDER BY shard LIMIT ?4) RETURNING shard, epoch";
            let free = "UPDATE shards SET expires = ?1, owner = ?2, epoch = epoch + 1 \
                        WHERE shard IN (SELECT shard FROM shards WHERE expires <= ?3 \
                         ORDER BY shard LIMIT ?4) RETURNING shard, epoch";
            let mut leases: Vec<Lease> = Vec::new();
            for statement in [held, free] {
                let room = limit.saturating_sub(leases.len());
                let taken = sqlx::query_as::<_, (u16, i64)>(statement)
                    .bind(until)
                    .bind(owner.as_str())
                    .bind(now.as_micros())
                    .bind(rows(room))
                    .fetch_all(&mut *relay)
                    .await
                    .map_err(driver)?;
                leases.extend(taken.into_iter().map(|(shard, epoch)| Lease {
                    shard: Shard(shard),
                    epoch: Epoch(nat(epoch)),
                    owner: owner.clone(),
                }));
            }
            leases.sort_by_key(|lease| lease.shard);
            Ok(leases)
        })
        .await
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.run(async |relay| {
            for lease in leases {
                sqlx::query(
                    "UPDATE shards SET expires = 0, epoch = epoch + 1 \
                     WHERE shard = ? AND epoch = ?",
                )
                .bind(i64::from(lease.shard.0))
                .bind(int(lease.epoch.0))
                .execute(&mut *relay)
                .await
                .map_err(driver)?;
            }
            Ok(())
        })
        .await
    }

    async fn resume(&self, lease: &Lease) -> Result<Resumed, LogError> {
        let shard = i64::from(lease.shard.0);
        self.run(async |relay| {
            let cursor: Option<String> =
                sqlx::query_scalar("SELECT cursor FROM shards WHERE shard = ?")
                    .bind(shard)
                    .fetch_optional(&mut *relay)
                    .await
                    .map_err(driver)?;
            let cursor = cursor.ok_or_else(|| corrupt("lease", "there is no such shard"))?;
            let cursor = serde_json::from_str(&cursor).map_err(|e| corrupt("cursor", e))?;
            let keys: Vec<String> =
                sqlx::query_scalar("SELECT DISTINCT key FROM parked WHERE shard = ?")
                    .bind(shard)
                    .fetch_all(relay)
                    .await
                    .map_err(driver)?;
            let parked: BTreeSet<_> = keys.iter().map(|key| PartitionKey::new(&**key)).collect();
            Ok(Resumed { cursor, parked })
        })
        .await
    }

    async fn next_chunk(
        &self,
        lease: &Lease,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<Chunk, LogError> {
        let readers = &self.shared.readers;
        let cur = match &cursor.cur {
            Some(cur) => cur.clone(),
            None => {
                let next = next_seq(readers).await.map_err(driver)?;
                Snapshot { xmin: next, xmax: next, xip: Vec::new() }
            }
        };
        let found = sqlx::query(
            "SELECT seq, topic, at, key, headers, value FROM outbox \
             WHERE shard = ? AND seq >= ? AND seq < ? ORDER BY seq LIMIT ?",
        )
        .bind(i64::from(lease.shard.0))
        .bind(int(cursor.prev.xmax.max(cursor.last_seq.next().0)))
        .bind(int(cur.xmax))
        .bind(rows(limit.saturating_add(1)))
        .fetch_all(readers)
        .await
        .map_err(driver)?;
        let last = found.len() <= limit;
        let rows: Result<_, _> = found.iter().take(limit).map(row).collect();
        Ok(Chunk { cur, rows: rows.map_err(driver)?, last })
    }

    async fn checkpoint(&self, lease: &Lease, cursor: &Cursor) -> Result<(), LogError> {
        let text = serde_json::to_string(cursor).map_err(|e| corrupt("cursor", e))?;
        self.run(async |relay| {
            let saved: Option<String> =
                sqlx::query_scalar("SELECT cursor FROM shards WHERE shard = ? AND epoch = ?")
                    .bind(i64::from(lease.shard.0))
                    .bind(int(lease.epoch.0))
                    .fetch_optional(&mut *relay)
                    .await
                    .map_err(driver)?;
            let saved = saved.ok_or_else(|| fenced(lease))?;
            let saved: Cursor = serde_json::from_str(&saved).map_err(|e| corrupt("cursor", e))?;
            if !cursor.follows(&saved) {
                let why = format!("position {} would go back behind {}", cursor.pos, saved.pos);
                return Err(corrupt("cursor", why));
            }
            sqlx::query("UPDATE shards SET cursor = ?, passed = ? WHERE shard = ?")
                .bind(text)
                .bind(int(cursor.prev.xmax))
                .bind(i64::from(lease.shard.0))
                .execute(relay)
                .await
                .map(drop)
                .map_err(driver)
        })
        .await
    }

    async fn park(&self, lease: &Lease, parked: &[ParkedRow]) -> Result<(), LogError> {
        self.run(async |relay| {
            check(relay, lease).await?;
            take_back(relay, parked).await?;
            for row in parked {
                sqlx::query(
                    "INSERT OR IGNORE INTO parked (seq, pos, shard, topic, key, record_key, \
                     headers, value, reason, released) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                )
                .bind(int(row.seq.0))
                .bind(int(row.pos.0))
                .bind(i64::from(lease.shard.0))
                .bind(row.topic.as_str())
                .bind(row.record.partition_key().as_str())
                .bind(&*row.record.key)
                .bind(row.record.headers.as_bytes())
                .bind(&*row.record.value)
                .bind(&*row.reason)
                .execute(&mut *relay)
                .await
                .map_err(driver)?;
            }
            Ok(())
        })
        .await
    }

    async fn released(&self, lease: &Lease, limit: usize) -> Result<Vec<ParkedRow>, LogError> {
        let shard = i64::from(lease.shard.0);
        self.run(async |relay| {
            let found = sqlx::query(
                "SELECT seq, pos, topic, reason, record_key, headers, value FROM parked \
                 WHERE shard = ? AND released = 1 ORDER BY seq LIMIT ?",
            )
            .bind(shard)
            .bind(rows(limit))
            .fetch_all(relay)
            .await
            .map_err(driver)?;
            found.iter().map(parked_row).collect::<Result<_, _>>().map_err(driver)
        })
        .await
    }

    async fn settle(&self, lease: &Lease, settled: &[ParkedRow]) -> Result<(), LogError> {
        self.run(async |relay| {
            check(relay, lease).await?;
            for row in settled {
                sqlx::query("DELETE FROM parked WHERE seq = ? AND shard = ?")
                    .bind(int(row.seq.0))
                    .bind(i64::from(lease.shard.0))
                    .execute(&mut *relay)
                    .await
                    .map_err(driver)?;
            }
            Ok(())
        })
        .await
    }

    async fn parked(&self, after: Seq, limit: usize) -> Result<Vec<ParkedRow>, LogError> {
        self.run(async |relay| {
            let found = sqlx::query(
                "SELECT seq, pos, topic, reason, record_key, headers, value FROM parked \
                 WHERE seq > ? ORDER BY seq LIMIT ?",
            )
            .bind(int(after.0))
            .bind(rows(limit))
            .fetch_all(relay)
            .await
            .map_err(driver)?;
            found.iter().map(parked_row).collect::<Result<_, _>>().map_err(driver)
        })
        .await
    }

    async fn release(&self, topic: &Topic, key: &PartitionKey) -> Result<(), LogError> {
        self.run(async |relay| {
            sqlx::query("UPDATE parked SET released = 1 WHERE topic = ? AND key = ?")
                .bind(topic.as_str())
                .bind(key.as_str())
                .execute(relay)
                .await
                .map(drop)
                .map_err(driver)
        })
        .await?;
        self.shared.outbox_changed.raise();
        Ok(())
    }

    async fn backlog(&self) -> Result<Vec<Backlog>, LogError> {
        type Held = (u16, i64, Option<String>, i64, String);
        let held: Vec<Held> = self
            .run(async |relay| {
                let all = "SELECT shard, epoch, owner, expires, cursor FROM shards ORDER BY shard";
                sqlx::query_as(all).fetch_all(relay).await.map_err(driver)
            })
            .await?;
        let now = self.shared.clock.now();
        let mut backlogs = Vec::new();
        for (shard, epoch, owner, expires, cursor) in held {
            let cursor: Cursor = serde_json::from_str(&cursor).map_err(|e| corrupt("cursor", e))?;
            let from = int(cursor.prev.xmax.max(cursor.last_seq.next().0));
            let waiting = "SELECT count(*), min(at) FROM outbox WHERE shard = ? AND seq >= ?";
            let (waiting, oldest): (i64, Option<i64>) = sqlx::query_as(waiting)
                .bind(shard)
                .bind(from)
                .fetch_one(&self.shared.readers)
                .await
                .map_err(driver)?;
            backlogs.push(Backlog {
                shard: Shard(shard),
                epoch: Epoch(nat(epoch)),
                owner: owner.filter(|_| expires > now.as_micros()).map(Owner::new),
                waiting: nat(waiting),
                oldest: oldest.map(|at| now.since(Timestamp::from_micros(at))),
            });
        }
        Ok(backlogs)
    }

    async fn changed(&self) {
        self.shared.outbox_changed.changed(&self.seen).await;
    }
}

fn fenced(lease: &Lease) -> LogError {
    LogError::Fenced { shard: lease.shard, epoch: lease.epoch }
}

/// Checks that a lease is the newest of its shard.
async fn check(relay: &mut SqliteConnection, lease: &Lease) -> Result<(), LogError> {
    let newest: Option<i64> = sqlx::query_scalar("SELECT epoch FROM shards WHERE shard = ?")
        .bind(i64::from(lease.shard.0))
        .fetch_optional(relay)
        .await
        .map_err(driver)?;
    if newest.map(nat) == Some(lease.epoch.0) { Ok(()) } else { Err(fenced(lease)) }
}

/// Takes back the release of the keys of rows that were released and are parked again.
async fn take_back(relay: &mut SqliteConnection, parked: &[ParkedRow]) -> Result<(), LogError> {
    let mut again = Vec::new();
    for row in parked {
        let changed = sqlx::query("UPDATE parked SET reason = ? WHERE seq = ? AND released = 1")
            .bind(&*row.reason)
            .bind(int(row.seq.0))
            .execute(&mut *relay)
            .await
            .map_err(driver)?;
        if changed.rows_affected() > 0 {
            again.push(row);
        }
    }
    for row in again {
        sqlx::query("UPDATE parked SET released = 0 WHERE topic = ? AND key = ?")
            .bind(row.topic.as_str())
            .bind(row.record.partition_key().as_str())
            .execute(&mut *relay)
            .await
            .map_err(driver)?;
    }
    Ok(())
}

fn row(row: &SqliteRow) -> Result<Row, sqlx::Error> {
    let topic: String = row.try_get(1)?;
    Ok(Row {
        seq: Seq(nat(row.try_get(0)?)),
        topic: Topic::from(&*topic),
        record: record(row, 3)?,
        at: Timestamp::from_micros(row.try_get(2)?),
    })
}

fn parked_row(row: &SqliteRow) -> Result<ParkedRow, sqlx::Error> {
    let (topic, reason): (String, String) = (row.try_get(2)?, row.try_get(3)?);
    Ok(ParkedRow {
        seq: Seq(nat(row.try_get(0)?)),
        pos: Pos(nat(row.try_get(1)?)),
        topic: Topic::from(&*topic),
        record: record(row, 4)?,
        reason: Arc::from(reason),
    })
}
