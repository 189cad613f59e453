//! The store port: begins units, claims timers, reads the audit chain.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use amarra_messaging::{Group, Parked, TxError};
use amarra_store::audit::AuditRow;
use amarra_store::{Claim, DueQuery, Store, UnitOfWork};
use async_trait::async_trait;
use sqlx::Row as _;

use crate::clock::{int, nat, rows};
use crate::database::Shared;
use crate::error;
use crate::messaging;
use crate::timers;
use crate::unit::SqliteUnit;

/// The store of a [`SqliteDatabase`](crate::SqliteDatabase).
#[derive(Debug)]
pub struct SqliteStore {
    shared: Arc<Shared>,
    timers_seen: AtomicU64,
}

impl Clone for SqliteStore {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl SqliteStore {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let timers_seen = AtomicU64::new(shared.timers_changed.count());
        Self { shared, timers_seen }
    }

    /// Forgets admissions older than `age`, at most `limit` of them, and returns how many: a
    /// message that comes again after that is applied again. Keep them longer than a broker
    /// keeps records.
    /// # Errors
    /// Any [`TxError`].
    pub async fn prune_inbox(&self, age: Duration, limit: usize) -> Result<u64, TxError> {
        let before = self.shared.clock.now().minus(age).as_micros();
        let mut writer = self.shared.write().await?;
        let delete = "DELETE FROM inbox WHERE (grp, event) IN \
                      (SELECT grp, event FROM inbox WHERE at < ? LIMIT ?)";
        let connection = writer.connection().map_err(|e| error::tx(&e))?;
        let deleted = sqlx::query(delete).bind(before).bind(rows(limit)).execute(connection).await;
        let deleted = deleted.map_err(|e| error::tx(&e))?.rows_affected();
        writer.commit().await.map_err(|e| error::commit(&e))?;
        Ok(deleted)
    }

    /// Lists messages that consumers set aside, for operators: ascending by ticket, after ticket
    /// `after`, at most `limit`.
    ///
    /// # Errors
    /// [`TxError::Connection`] and [`TxError::Corrupt`].
    pub async fn parked(&self, after: u64, limit: usize) -> Result<Vec<(Group, Parked)>, TxError> {
        messaging::list(&self.shared.readers, after, limit).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, TxError> {
        Ok(Box::new(SqliteUnit::new(Arc::clone(&self.shared))))
    }

    async fn claim_due(&self, query: &DueQuery) -> Result<Vec<Claim>, TxError> {
        timers::claim(&self.shared, query).await
    }

    async fn next_due(&self, kind: &str) -> Result<Option<Duration>, TxError> {
        timers::next_due(&self.shared, kind).await
    }

    async fn audit_rows(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, TxError> {
        let found = sqlx::query(
            "SELECT number, previous, hash, entry FROM audit WHERE number > ? \
             ORDER BY number LIMIT ?",
        )
        .bind(int(after))
        .bind(rows(limit))
        .fetch_all(&self.shared.readers)
        .await
        .map_err(|error| error::tx(&error))?;
        found.iter().map(audit_row).collect()
    }

    async fn timers_changed(&self) {
        self.shared.timers_changed.changed(&self.timers_seen).await;
    }
}

fn audit_row(row: &sqlx::sqlite::SqliteRow) -> Result<AuditRow, TxError> {
    let driver = |e: sqlx::Error| error::tx(&e);
    let number = nat(row.try_get(0).map_err(driver)?);
    let corrupt = |why: String| TxError::Corrupt { what: format!("audit row {number}"), why };
    let hash = |index| {
        let bytes: Vec<u8> = row.try_get(index).map_err(driver)?;
        <[u8; 32]>::try_from(bytes).map_err(|_| corrupt("a hash is not 32 bytes".to_owned()))
    };
    let entry: String = row.try_get(3).map_err(driver)?;
    let entry = serde_json::from_str(&entry).map_err(|e| corrupt(e.to_string()))?;
    Ok(AuditRow { number, previous: hash(1)?, entry, hash: hash(2)? })
}
