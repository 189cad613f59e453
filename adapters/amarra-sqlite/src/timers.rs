//! Durable timers: claimed under the permit to write, by the database's clock.

use std::time::Duration;

use amarra_core::{AggregateId, Timestamp};
use amarra_messaging::TxError;
use amarra_messaging::message::Epoch;
use amarra_store::{Claim, DueQuery};
use sqlx::{Row as _, SqliteConnection};

use crate::clock::{nat, rows};
use crate::database::Shared;
use crate::error;

/// Claims what is due, the longest due first.
pub(crate) async fn claim(shared: &Shared, query: &DueQuery) -> Result<Vec<Claim>, TxError> {
    // Asked without the permit: a worker that polls holds nobody up.
    if next_due(shared, &query.kind).await?.is_none_or(|wait| !wait.is_zero()) {
        return Ok(Vec::new());
    }
    let driver = |e: sqlx::Error| error::tx(&e);
    let mut writer = shared.write().await?;
    let now = shared.clock.now();
    let until = now.plus(query.lease.min(shared.config.lease_max)).as_micros();
    let connection = writer.connection().map_err(driver)?;
    let due = sqlx::query(
        "SELECT id, epoch FROM timers WHERE kind = ? AND claimable <= ? ORDER BY due, id LIMIT ?",
    )
    .bind(&*query.kind)
    .bind(now.as_micros())
    .bind(rows(query.limit))
    .fetch_all(&mut *connection)
    .await
    .map_err(driver)?;
    let mut claims = Vec::with_capacity(due.len());
    for row in due {
        let id: String = row.try_get(0).map_err(driver)?;
        let epoch = Epoch(nat(row.try_get(1).map_err(driver)?)).next();
        sqlx::query("UPDATE timers SET epoch = epoch + 1, claimable = ? WHERE kind = ? AND id = ?")
            .bind(until)
            .bind(&*query.kind)
            .bind(&id)
            .execute(&mut *connection)
            .await
            .map_err(driver)?;
        let id = AggregateId::new(query.kind.clone(), id);
        claims.push(Claim { id, epoch, owner: query.owner.clone() });
    }
    // What may have been claimed is claimable again after its lease.
    writer.commit().await.map_err(driver)?;
    Ok(claims)
}

/// Returns how long it takes until a timer may be claimed.
pub(crate) async fn next_due(shared: &Shared, kind: &str) -> Result<Option<Duration>, TxError> {
    let next: Option<i64> = sqlx::query_scalar(
        "SELECT min(claimable) FROM timers WHERE kind = ? AND claimable IS NOT NULL",
    )
    .bind(kind)
    .fetch_one(&shared.readers)
    .await
    .map_err(|error| error::tx(&error))?;
    let now = shared.clock.now();
    Ok(next.map(|at| Timestamp::from_micros(at).since(now)))
}

/// Sets or removes a timer and ends any claim on it.
pub(crate) async fn set(
    connection: &mut SqliteConnection,
    id: &AggregateId,
    due: Option<Timestamp>,
) -> Result<(), TxError> {
    sqlx::query(
        "INSERT INTO timers (kind, id, due, claimable, epoch) VALUES (?1, ?2, ?3, ?3, 1) \
         ON CONFLICT (kind, id) DO UPDATE SET due = ?3, claimable = ?3, epoch = epoch + 1",
    )
    .bind(&*id.kind)
    .bind(&*id.id)
    .bind(due.map(Timestamp::as_micros))
    .execute(connection)
    .await
    .map(drop)
    .map_err(|error| error::tx(&error))
}

/// Checks that a claim is still the newest; nobody else writes until the unit ends.
pub(crate) async fn verify(
    connection: &mut SqliteConnection,
    claim: &Claim,
) -> Result<(), TxError> {
    let epoch: Option<i64> =
        sqlx::query_scalar("SELECT epoch FROM timers WHERE kind = ? AND id = ?")
            .bind(&*claim.id.kind)
            .bind(&*claim.id.id)
            .fetch_optional(connection)
            .await
            .map_err(|error| error::tx(&error))?;
    if epoch.map(nat) == Some(claim.epoch.0) {
        return Ok(());
    }
    Err(TxError::Fenced { what: format!("the timer of {}", claim.id), held: claim.epoch.0 })
}
