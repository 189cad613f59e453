//! Rows that the broker refused, and those queued behind them.

use std::sync::Arc;

use amarra_core::PartitionKey;
use amarra_messaging::message::{Pos, Seq, Topic};
use amarra_messaging::outbox::{Lease, LogError, ParkedRow};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::lease::fenced;
use super::read::{Batch, raw};
use crate::error::log_error;

/// The lease is held until the statement ends: nobody takes the shard over in between.
macro_rules! held {
    ($change:literal) => {
        concat!(
            "WITH held AS MATERIALIZED (SELECT FROM outbox_cursor ",
            "WHERE grp = $1 AND shard = $2 AND epoch = $3 FOR SHARE), changed AS (",
            $change,
            ") SELECT count(*) FROM held"
        )
    };
}

/// Rows that were released and are parked again take the release of their keys back.
const PARK: &str = held!(
    "INSERT INTO outbox_parked (grp, shard, seq, pos, topic, key, headers, payload, reason) \
     SELECT $1, $2, r.* FROM held, unnest($4::bigint[], $5::bigint[], $6::text[], $7::bytea[], \
         $8::bytea[], $9::bytea[], $10::text[]) AS r \
     ON CONFLICT (grp, seq) DO UPDATE SET released = false, reason = excluded.reason \
         WHERE outbox_parked.released), \
     taken_back AS (UPDATE outbox_parked p SET released = false FROM held, outbox_parked q \
         WHERE q.grp = $1 AND q.shard = $2 AND q.seq = ANY ($4) AND q.released \
             AND p.grp = q.grp AND p.topic = q.topic AND p.key = q.key AND p.released \
             AND p.seq <> ALL ($4)"
);

const SETTLE: &str = held!(
    "DELETE FROM outbox_parked p USING held \
     WHERE p.grp = $1 AND p.shard = $2 AND p.seq = ANY ($4::bigint[])"
);

const RELEASED: &str = "SELECT seq, topic, key, headers, payload, pos, reason FROM outbox_parked \
     WHERE grp = $1 AND shard = $2 AND released ORDER BY seq LIMIT $3";

const PARKED: &str = "SELECT seq, topic, key, headers, payload, pos, reason FROM outbox_parked \
     WHERE grp = $1 AND seq > $2 ORDER BY seq LIMIT $3";

const RELEASE: &str = "UPDATE outbox_parked SET released = true \
     WHERE grp = $1 AND topic = $2 AND key = $3 AND NOT released";

pub(super) async fn park(
    conn: &mut PgConnection,
    group: &str,
    lease: &Lease,
    rows: &[ParkedRow],
) -> Result<(), LogError> {
    let column = |get: fn(&ParkedRow) -> &[u8]| rows.iter().map(get).collect::<Vec<_>>();
    let held: i64 = sqlx::query_scalar(PARK)
        .bind(group)
        .bind(lease.shard.0.cast_signed())
        .bind(lease.epoch.0.cast_signed())
        .bind(rows.iter().map(|row| row.seq.0.cast_signed()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.pos.0.cast_signed()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.topic.as_str()).collect::<Vec<_>>())
        .bind(column(|row| &row.record.key))
        .bind(column(|row| row.record.headers.as_bytes()))
        .bind(column(|row| &row.record.value))
        .bind(rows.iter().map(|row| row.reason.as_ref()).collect::<Vec<_>>())
        .fetch_one(conn)
        .await
        .map_err(|e| log_error(&e))?;
    if held > 0 { Ok(()) } else { Err(fenced(lease)) }
}

pub(super) async fn settle(
    conn: &mut PgConnection,
    group: &str,
    lease: &Lease,
    rows: &[ParkedRow],
) -> Result<(), LogError> {
    let held: i64 = sqlx::query_scalar(SETTLE)
        .bind(group)
        .bind(lease.shard.0.cast_signed())
        .bind(lease.epoch.0.cast_signed())
        .bind(rows.iter().map(|row| row.seq.0.cast_signed()).collect::<Vec<_>>())
        .fetch_one(conn)
        .await
        .map_err(|e| log_error(&e))?;
    if held > 0 { Ok(()) } else { Err(fenced(lease)) }
}

pub(super) async fn released(
    conn: &mut PgConnection,
    group: &str,
    lease: &Lease,
    limit: usize,
) -> Result<Vec<ParkedRow>, LogError> {
    let query = sqlx::query(RELEASED).bind(group).bind(lease.shard.0.cast_signed());
    let query = query.bind(i64::try_from(limit).unwrap_or(i64::MAX));
    decode(&query.fetch_all(conn).await.map_err(|e| log_error(&e))?)
}

pub(super) async fn parked(
    conn: &mut PgConnection,
    group: &str,
    after: Seq,
    limit: usize,
) -> Result<Vec<ParkedRow>, LogError> {
    let query = sqlx::query(PARKED).bind(group).bind(after.0.cast_signed());
    let query = query.bind(i64::try_from(limit).unwrap_or(i64::MAX));
    decode(&query.fetch_all(conn).await.map_err(|e| log_error(&e))?)
}

pub(super) async fn release(
    conn: &mut PgConnection,
    group: &str,
    topic: &Topic,
    key: &PartitionKey,
) -> Result<(), LogError> {
    let query = sqlx::query(RELEASE).bind(group).bind(topic.as_str());
    let done = query.bind(key.as_str().as_bytes()).execute(conn).await;
    done.map(|_| ()).map_err(|e| log_error(&e))
}

fn decode(rows: &[PgRow]) -> Result<Vec<ParkedRow>, LogError> {
    let mut batch = Batch::default();
    let mut rest = Vec::with_capacity(rows.len());
    for row in rows {
        let failed = |e: sqlx::Error| log_error(&e);
        let seq: i64 = row.try_get(0_usize).map_err(failed)?;
        let topic = batch.topic(row.try_get(1_usize).map_err(failed)?);
        let pos: i64 = row.try_get(5_usize).map_err(failed)?;
        let reason: Arc<str> = row.try_get::<&str, _>(6_usize).map_err(failed)?.into();
        let parts = [raw(row, 2)?, raw(row, 3)?, raw(row, 4)?];
        batch.push_parts(Seq(seq.cast_unsigned()), topic, parts, 0);
        rest.push((Pos(pos.cast_unsigned()), reason));
    }
    let parked = batch.into_rows()?.into_iter().zip(rest).map(|(row, (pos, reason))| ParkedRow {
        seq: row.seq,
        pos,
        topic: row.topic,
        record: row.record,
        reason,
    });
    Ok(parked.collect())
}
