//! Leases by the database's clock, and cursors that only the newest epoch saves.

use std::collections::BTreeSet;
use std::time::Duration;

use amarra_core::PartitionKey;
use amarra_messaging::message::{Epoch, Owner, Pos, Seq, Shard};
use amarra_messaging::outbox::{Cursor, Lease, LogError, Resumed};
use sqlx::postgres::PgConnection;

use super::read::corrupt;
use super::snapshot::{from_text, to_text};
use crate::error::log_error;

/// Only rows of leases are ever skipped: two who ask at once must not wait for each other, while a
/// renewal waits for the checkpoint that holds its own row.
const LEASE: &str = "WITH mine AS MATERIALIZED ( \
         SELECT shard FROM outbox_cursor \
         WHERE grp = $1 AND owner = $2 AND expires > clock_timestamp() \
         ORDER BY shard LIMIT $3 FOR UPDATE), \
     free AS MATERIALIZED ( \
         SELECT shard FROM outbox_cursor WHERE grp = $1 AND expires <= clock_timestamp() \
         ORDER BY shard LIMIT (SELECT greatest($3 - count(*), 0) FROM mine) \
         FOR UPDATE SKIP LOCKED), \
     chosen AS (SELECT shard, 0 AS step FROM mine UNION ALL SELECT shard, 1 FROM free) \
     UPDATE outbox_cursor c SET owner = $2, epoch = c.epoch + chosen.step, \
         expires = clock_timestamp() + $4 * interval '1 microsecond' \
     FROM chosen WHERE c.grp = $1 AND c.shard = chosen.shard RETURNING c.shard, c.epoch";

/// Rounded up: asked for a moment too early, it is asked for a whole lease too late.
const UNTIL_FREE: &str = "SELECT min(ceil(extract(epoch FROM expires - clock_timestamp()) * 1000)) \
     ::bigint FROM outbox_cursor WHERE grp = $1 AND owner <> $2 AND expires > clock_timestamp()";

const GIVE_BACK: &str = "UPDATE outbox_cursor c \
     SET owner = NULL, expires = '-infinity', epoch = c.epoch + 1 \
     FROM unnest($2::smallint[], $3::bigint[]) AS g (shard, epoch) \
     WHERE c.grp = $1 AND c.shard = g.shard AND c.epoch = g.epoch";

const RESUME: &str = "SELECT c.epoch, c.prev, c.cur, c.last_seq, c.pos, \
     (SELECT array_agg(DISTINCT p.key) FROM outbox_parked p \
      WHERE p.grp = c.grp AND p.shard = c.shard) \
     FROM outbox_cursor c WHERE c.grp = $1 AND c.shard = $2";

/// A cursor never goes back within an epoch: a call that was given up may still arrive, late.
const CHECKPOINT: &str = "UPDATE outbox_cursor \
     SET prev = $4, cur = $5, last_seq = $6, pos = $7 \
     WHERE grp = $1 AND shard = $2 AND epoch = $3 AND (pos < $7 OR pos = $7 \
         AND (cur IS NULL OR $5 IS NOT DISTINCT FROM cur OR $5::text IS NULL AND $4 = cur))";

pub(super) async fn lease(
    conn: &mut PgConnection,
    group: &str,
    owner: &Owner,
    limit: usize,
    ttl: Duration,
) -> Result<Vec<Lease>, LogError> {
    let taken: Vec<(i16, i64)> = sqlx::query_as(LEASE)
        .bind(group)
        .bind(owner.as_str())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .bind(i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await
        .map_err(|e| log_error(&e))?;
    let lease = |(shard, epoch): (i16, i64)| Lease {
        shard: Shard(shard.cast_unsigned()),
        epoch: Epoch(epoch.cast_unsigned()),
        owner: owner.clone(),
    };
    let mut leases: Vec<_> = taken.into_iter().map(lease).collect();
    leases.sort_by_key(|lease| lease.shard);
    Ok(leases)
}

pub(super) async fn until_free(
    conn: &mut PgConnection,
    group: &str,
    owner: &Owner,
) -> Result<Option<Duration>, LogError> {
    let millis: Option<i64> = sqlx::query_scalar(UNTIL_FREE)
        .bind(group)
        .bind(owner.as_str())
        .fetch_one(conn)
        .await
        .map_err(|e| log_error(&e))?;
    Ok(millis.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))))
}

pub(super) async fn give_back(
    conn: &mut PgConnection,
    group: &str,
    leases: &[Lease],
) -> Result<(), LogError> {
    let shards: Vec<i16> = leases.iter().map(|l| l.shard.0.cast_signed()).collect();
    let epochs: Vec<i64> = leases.iter().map(|l| l.epoch.0.cast_signed()).collect();
    let done = sqlx::query(GIVE_BACK).bind(group).bind(shards).bind(epochs).execute(conn).await;
    done.map(|_| ()).map_err(|e| log_error(&e))
}

type Saved = (i64, String, Option<String>, i64, i64, Option<Vec<Vec<u8>>>);

pub(super) async fn resume(
    conn: &mut PgConnection,
    group: &str,
    lease: &Lease,
) -> Result<Resumed, LogError> {
    let saved: Option<Saved> = sqlx::query_as(RESUME)
        .bind(group)
        .bind(lease.shard.0.cast_signed())
        .fetch_optional(conn)
        .await
        .map_err(|e| log_error(&e))?;
    let unknown = || corrupt("lease", &format!("there is no shard {}", lease.shard));
    let (epoch, prev, cur, last_seq, pos, keys) = saved.ok_or_else(unknown)?;
    if epoch.cast_unsigned() != lease.epoch.0 {
        return Err(fenced(lease));
    }
    let key = |key: Vec<u8>| PartitionKey::new(String::from_utf8_lossy(&key).as_ref());
    let parked: BTreeSet<_> = keys.unwrap_or_default().into_iter().map(key).collect();
    let cursor = Cursor {
        prev: from_text(&prev)?,
        cur: cur.as_deref().map(from_text).transpose()?,
        last_seq: Seq(last_seq.cast_unsigned()),
        pos: Pos(pos.cast_unsigned()),
    };
    Ok(Resumed { cursor, parked })
}

pub(super) async fn checkpoint(
    conn: &mut PgConnection,
    group: &str,
    lease: &Lease,
    cursor: &Cursor,
) -> Result<(), LogError> {
    let done = sqlx::query(CHECKPOINT)
        .bind(group)
        .bind(lease.shard.0.cast_signed())
        .bind(lease.epoch.0.cast_signed())
        .bind(to_text(&cursor.prev))
        .bind(cursor.cur.as_ref().map(to_text))
        .bind(cursor.last_seq.0.cast_signed())
        .bind(cursor.pos.0.cast_signed())
        .execute(&mut *conn)
        .await
        .map_err(|e| log_error(&e))?;
    if done.rows_affected() > 0 {
        return Ok(());
    }
    // Fenced, or a step back: told apart only here, where it does not cost every checkpoint.
    let saved = resume(conn, group, lease).await?.cursor;
    if saved == *cursor {
        return Ok(());
    }
    let why = format!("position {} would go back behind {}", cursor.pos, saved.pos);
    Err(corrupt("cursor", &why))
}

pub(super) fn fenced(lease: &Lease) -> LogError {
    LogError::Fenced { shard: lease.shard, epoch: lease.epoch }
}
