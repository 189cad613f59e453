//! Durable timers: claimed by lease and epoch, by the server's clock.

use std::time::Duration;

use amarra_core::AggregateId;
use amarra_messaging::TxError;
use amarra_messaging::message::Epoch;
use amarra_store::{Claim, DueQuery};
use sqlx::PgConnection;

use crate::database::PgDatabase;

fn micros(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

/// Claims what is due and in nobody's hands, the longest due first: one round trip.
pub(crate) async fn claim(database: &PgDatabase, query: &DueQuery) -> Result<Vec<Claim>, TxError> {
    let limit = query.limit.min(database.config().rows_max);
    let rows = || {
        sqlx::query_as(
            "WITH due AS MATERIALIZED ( \
             SELECT kind, id FROM timer WHERE kind = $1 AND claimable <= now() \
             ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED) \
         UPDATE timer t SET claimable = now() + $3 * interval '1 microsecond', \
             epoch = nextval('timer_epoch'), owner = $4 \
         FROM due WHERE t.kind = due.kind AND t.id = due.id \
         RETURNING t.id, t.epoch, (extract(epoch FROM t.due) * 1000000)::bigint",
        )
        .bind(&*query.kind)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .bind(micros(query.lease.min(database.config().lease_max)))
        .bind(query.owner.as_str())
        .fetch_all(database.pool())
    };
    let mut rows: Vec<(String, i64, i64)> = database.bounded(rows).await?;
    rows.sort_by_key(|(_, _, due)| *due);
    let claim = |(id, epoch, _): (String, i64, i64)| Claim {
        id: AggregateId::new(query.kind.clone(), id),
        epoch: Epoch(u64::try_from(epoch).unwrap_or_default()),
        owner: query.owner.clone(),
    };
    Ok(rows.into_iter().map(claim).collect())
}

/// Returns how long it takes until a timer of `kind` may be claimed.
pub(crate) async fn next_due(
    database: &PgDatabase,
    kind: &str,
) -> Result<Option<Duration>, TxError> {
    let next = || {
        sqlx::query_scalar(
            "SELECT (extract(epoch FROM min(claimable) - clock_timestamp()) * 1000000)::bigint \
         FROM timer WHERE kind = $1",
        )
        .bind(kind)
        .fetch_one(database.pool())
    };
    let next: Option<i64> = database.bounded(next).await?;
    Ok(next.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))))
}

/// Locks the timer's row and tells whether the claim is the newest on it.
pub(crate) async fn verify(conn: &mut PgConnection, claim: &Claim) -> Result<bool, sqlx::Error> {
    let row: Option<bool> = sqlx::query_scalar(
        "SELECT true FROM timer WHERE kind = $1 AND id = $2 AND epoch = $3 FOR UPDATE",
    )
    .bind(&*claim.id.kind)
    .bind(&*claim.id.id)
    .bind(i64::try_from(claim.epoch.0).unwrap_or(i64::MAX))
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}
