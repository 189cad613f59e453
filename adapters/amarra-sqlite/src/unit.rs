//! The unit-of-work port: one write transaction, begun by its first call.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{AggregateId, Timestamp, Version};
use amarra_messaging::inbox::GroupInbox;
use amarra_messaging::{Group, TxError};
use amarra_store::audit::Hash;
use amarra_store::read_model::{ViewName, ViewRow, ViewWrite};
use amarra_store::unit::StoredState;
use amarra_store::{
    AuditDraft, AuditRow, Claim, IdempotencyKey, Idempotent, StoredResponse, UnitOfWork,
};
use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{Row as _, SqliteConnection};
use tokio::sync::OwnedMutexGuard;

use crate::clock::{int, nat};
use crate::database::Shared;
use crate::error;
use crate::file::Writer;
use crate::timers;

/// One local transaction of a [`SqliteDatabase`](crate::SqliteDatabase).
///
/// # State
/// Idle until its first call, which waits for the permit to write and keeps it; then open until it
/// commits, is dropped or fails. An error ends it at once: every later call answers the same one.
#[derive(Debug)]
pub(crate) struct SqliteUnit {
    shared: Arc<Shared>,
    now: Timestamp,
    writer: Option<OwnedMutexGuard<Writer>>,
    failed: Option<TxError>,
    begun: BTreeSet<(Arc<str>, Arc<str>, Arc<str>)>,
    appended: bool,
    scheduled: bool,
}

/// Turns a driver's error into the port's.
pub(crate) fn driver(error: sqlx::Error) -> TxError {
    error::tx(&error)
}

impl SqliteUnit {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let now = shared.clock.now();
        let begun = BTreeSet::new();
        Self { shared, now, writer: None, failed: None, begun, appended: false, scheduled: false }
    }

    /// Runs one call on the open transaction; an error ends it and gives the permit on.
    pub(crate) async fn attempt<R>(
        &mut self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<R, TxError>,
    ) -> Result<R, TxError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        // A call that is cancelled leaves the unit failed: half of it may have been done.
        self.failed = Some(TxError::Connection { why: "a call was cancelled".to_owned() });
        let outcome = self.run(work).await;
        self.failed = outcome.as_ref().err().cloned();
        if self.failed.is_some() {
            self.roll_back().await;
        }
        outcome
    }

    async fn run<R>(
        &mut self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<R, TxError>,
    ) -> Result<R, TxError> {
        if self.writer.is_none() {
            self.writer = Some(self.shared.write().await?);
        }
        let writer = self.writer.as_mut().ok_or(TxError::Serialization)?;
        work(writer.connection().map_err(driver)?).await
    }

    async fn roll_back(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            writer.settle().await;
        }
    }

    pub(crate) fn shards(&self) -> u16 {
        self.shared.config.shards
    }

    pub(crate) fn inbox_of(&self, group: &Group) -> GroupInbox {
        *self.shared.config.inbox.of(group)
    }

    pub(crate) fn note_append(&mut self) {
        self.appended = true;
    }

    pub(crate) fn message_bytes_max(&self) -> usize {
        self.shared.config.message_bytes_max
    }

    fn bounded(&self, what: &'static str, bytes: usize) -> Result<(), TxError> {
        let bound = self.shared.config.state_bytes_max;
        if bytes <= bound {
            return Ok(());
        }
        Err(TxError::TooLarge { what, bound: u64::try_from(bound).unwrap_or(u64::MAX) })
    }
}

#[async_trait]
impl UnitOfWork for SqliteUnit {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn load(&mut self, ids: &[AggregateId]) -> Result<Vec<StoredState>, TxError> {
        self.attempt(async |connection| {
            let mut states = Vec::with_capacity(ids.len());
            for id in ids {
                states.push(state_of(connection, id).await?);
            }
            Ok(states)
        })
        .await
    }

    async fn save(
        &mut self,
        id: &AggregateId,
        expected: Version,
        body: Bytes,
    ) -> Result<(), TxError> {
        let bounded = self.bounded("state (state_bytes_max)", body.len());
        self.attempt(async |connection| {
            bounded?;
            let next = int(expected.next().get());
            let saved = if expected == Version::ABSENT {
                sqlx::query(
                    "INSERT OR IGNORE INTO aggregates (version, body, kind, id) \
                     VALUES (?, ?, ?, ?)",
                )
            } else {
                sqlx::query(
                    "UPDATE aggregates SET version = ?1, body = ?2 \
                     WHERE kind = ?3 AND id = ?4 AND version = ?1 - 1",
                )
            };
            let saved = saved.bind(next).bind(&*body).bind(&*id.kind).bind(&*id.id);
            match saved.execute(connection).await.map_err(driver)?.rows_affected() {
                0 => Err(TxError::Conflict { id: id.clone() }),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn schedule(&mut self, id: &AggregateId, after: Option<Duration>) -> Result<(), TxError> {
        let due = after.map(|after| self.now.plus(after));
        self.scheduled = true;
        self.attempt(async |connection| timers::set(connection, id, due).await).await
    }

    async fn verify(&mut self, claim: &Claim) -> Result<(), TxError> {
        self.attempt(async |connection| timers::verify(connection, claim).await).await
    }

    async fn begin_idempotent(&mut self, key: &IdempotencyKey) -> Result<Idempotent, TxError> {
        let answer = self.attempt(async |connection| recorded(connection, key).await).await?;
        if answer == Idempotent::Fresh {
            self.begun.insert(name(key));
        }
        Ok(answer)
    }

    async fn record_response(
        &mut self,
        key: &IdempotencyKey,
        response: &StoredResponse,
    ) -> Result<(), TxError> {
        let bounded = self.bounded("response (state_bytes_max)", response.body.len());
        let begun = self.begun.remove(&name(key));
        let at = self.now.as_micros();
        self.attempt(async |connection| {
            bounded?;
            if !begun {
                let id = AggregateId::new("idempotency-key", Arc::clone(&key.key));
                return Err(TxError::Conflict { id });
            }
            sqlx::query(
                "INSERT INTO idempotency (principal, route, key, request_hash, status, body, at) \
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(&*key.principal)
            .bind(&*key.route)
            .bind(&*key.key)
            .bind(&key.request_hash[..])
            .bind(i64::from(response.status))
            .bind(&*response.body)
            .bind(at)
            .execute(connection)
            .await
            .map(drop)
            .map_err(driver)
        })
        .await
    }

    async fn audit(&mut self, entry: AuditDraft) -> Result<(), TxError> {
        self.attempt(async |connection| append_audit(connection, entry).await).await
    }

    async fn load_views(&mut self, names: &[ViewName]) -> Result<Vec<Option<ViewRow>>, TxError> {
        self.attempt(async |connection| {
            let mut rows = Vec::with_capacity(names.len());
            for (view, key) in names {
                rows.push(crate::read_model::row(&mut *connection, view, key).await?);
            }
            Ok(rows)
        })
        .await
    }

    async fn write_view(&mut self, write: ViewWrite) -> Result<(), TxError> {
        let bytes = write.body.as_ref().map_or(0, Bytes::len);
        let bounded = self.bounded("view row (state_bytes_max)", bytes);
        self.attempt(async |connection| {
            bounded?;
            crate::read_model::write(connection, &write).await
        })
        .await
    }

    async fn commit(mut self: Box<Self>) -> Result<(), TxError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        if let Err(error) = writer.commit().await {
            let answer = error::commit(&error);
            writer.settle().await;
            return Err(answer);
        }
        drop(writer);
        if self.appended {
            self.shared.outbox_changed.raise();
        }
        if self.scheduled {
            self.shared.timers_changed.raise();
        }
        Ok(())
    }
}

fn name(key: &IdempotencyKey) -> (Arc<str>, Arc<str>, Arc<str>) {
    (Arc::clone(&key.principal), Arc::clone(&key.route), Arc::clone(&key.key))
}

async fn state_of(
    connection: &mut SqliteConnection,
    id: &AggregateId,
) -> Result<StoredState, TxError> {
    let row = sqlx::query("SELECT version, body FROM aggregates WHERE kind = ? AND id = ?")
        .bind(&*id.kind)
        .bind(&*id.id)
        .fetch_optional(connection)
        .await
        .map_err(driver)?;
    let Some(row) = row else {
        return Ok(StoredState { version: Version::ABSENT, body: Bytes::new() });
    };
    let body: Vec<u8> = row.try_get(1).map_err(driver)?;
    let version = Version::new(nat(row.try_get(0).map_err(driver)?));
    Ok(StoredState { version, body: Bytes::from(body) })
}

async fn recorded(
    connection: &mut SqliteConnection,
    key: &IdempotencyKey,
) -> Result<Idempotent, TxError> {
    let row = sqlx::query(
        "SELECT request_hash, status, body FROM idempotency \
         WHERE principal = ? AND route = ? AND key = ?",
    )
    .bind(&*key.principal)
    .bind(&*key.route)
    .bind(&*key.key)
    .fetch_optional(connection)
    .await
    .map_err(driver)?;
    let Some(row) = row else { return Ok(Idempotent::Fresh) };
    let hash: Vec<u8> = row.try_get(0).map_err(driver)?;
    if hash != key.request_hash {
        return Ok(Idempotent::Mismatch);
    }
    let body: Vec<u8> = row.try_get(2).map_err(driver)?;
    let status = row.try_get(1).map_err(driver)?;
    Ok(Idempotent::Replay(StoredResponse { status, body: Bytes::from(body) }))
}

/// Chains an entry behind the last row: nobody else appends before this unit ends.
async fn append_audit(connection: &mut SqliteConnection, entry: AuditDraft) -> Result<(), TxError> {
    let last = sqlx::query("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")
        .fetch_optional(&mut *connection)
        .await
        .map_err(driver)?;
    let (number, previous) = match last {
        None => (0, Hash::default()),
        Some(row) => {
            let hash: Vec<u8> = row.try_get(1).map_err(driver)?;
            let hash = Hash::try_from(hash).map_err(|_| TxError::Corrupt {
                what: "the last audit row".to_owned(),
                why: "its hash is not 32 bytes".to_owned(),
            })?;
            (nat(row.try_get(0).map_err(driver)?), hash)
        }
    };
    let row = AuditRow::chain(number.saturating_add(1), previous, entry);
    let entry = serde_json::to_string(&row.entry)
        .map_err(|e| TxError::Corrupt { what: "an audit entry".to_owned(), why: e.to_string() })?;
    sqlx::query("INSERT INTO audit (number, previous, hash, entry) VALUES (?, ?, ?, ?)")
        .bind(int(row.number))
        .bind(&row.previous[..])
        .bind(&row.hash[..])
        .bind(entry)
        .execute(connection)
        .await
        .map(drop)
        .map_err(driver)
}
