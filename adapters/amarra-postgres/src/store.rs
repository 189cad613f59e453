//! The store port: begins units of work, claims timers, reads the audit chain.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use amarra_core::AggregateId;
use amarra_messaging::{Admit, Group, Incoming, Parked, TxError};
use amarra_store::unit::StoredState;
use amarra_store::{AuditRow, Claim, Due, DueQuery, Store, UnitOfWork};
use async_trait::async_trait;

use crate::database::PgDatabase;
use crate::unit::PgUnit;
use crate::{audit, parking, timers};

/// A [`Store`] on PostgreSQL.
#[derive(Debug)]
pub struct PgStore {
    database: PgDatabase,
    timers_seen: AtomicU64,
}

impl Clone for PgStore {
    fn clone(&self) -> Self {
        Self::new(self.database.clone())
    }
}

impl PgStore {
    /// Makes the store of a database.
    #[must_use]
    pub fn new(database: PgDatabase) -> Self {
        let timers_seen = AtomicU64::new(database.wake().timers.changed.count());
        Self { database, timers_seen }
    }

    /// Lists messages that consumers set aside, for operators: ascending by ticket, after ticket
    /// `after`, at most `limit`.
    ///
    /// # Errors
    /// [`TxError::Connection`] and [`TxError::Corrupt`].
    pub async fn parked(&self, after: u64, limit: usize) -> Result<Vec<(Group, Parked)>, TxError> {
        let limit = limit.min(self.database.config().rows_max);
        parking::list(&self.database, after, limit).await
    }
}

#[async_trait]
impl Store for PgStore {
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, TxError> {
        Ok(Box::new(PgUnit::begin(&self.database).await?))
    }

    async fn begin_admitting(
        &self,
        group: &Group,
        messages: &[Incoming],
    ) -> Result<(Box<dyn UnitOfWork>, Vec<Admit>), TxError> {
        let (unit, answers) = PgUnit::begin_admitting(&self.database, group, messages).await?;
        Ok((Box::new(unit), answers))
    }

    async fn begin_claimed(
        &self,
        claim: &Claim,
        ids: &[AggregateId],
    ) -> Result<(Box<dyn UnitOfWork>, Vec<StoredState>), TxError> {
        let (unit, states) = PgUnit::begin_claimed(&self.database, claim, ids).await?;
        Ok((Box::new(unit), states))
    }

    async fn claim_due(&self, query: &DueQuery) -> Result<Vec<Claim>, TxError> {
        timers::claim(&self.database, query).await
    }

    async fn claim_or_wait(&self, query: &DueQuery) -> Result<Due, TxError> {
        timers::claim_or_wait(&self.database, query).await
    }

    async fn next_due(&self, kind: &str) -> Result<Option<Duration>, TxError> {
        timers::next_due(&self.database, kind).await
    }

    async fn audit_rows(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, TxError> {
        audit::rows(&self.database, after, limit).await
    }

    /// Told by the units of this process; those of others are found by polling.
    async fn timers_changed(&self) {
        self.database.wake().timers.changed.changed(&self.timers_seen).await;
    }
}
