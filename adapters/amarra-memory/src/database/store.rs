//! The store port and the read-model port: one client's connections.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use amarra_messaging::TxError;
use amarra_store::audit::AuditRow;
use amarra_store::read_model::{Page, PageQuery, ViewRow};
use amarra_store::{Claim, DueQuery, ReadModel, Store, UnitOfWork};
use async_trait::async_trait;

use super::Shared;
use super::locks::LockKey;
use super::state::{State, lost};
use super::unit::MemoryUnit;
use crate::client::ClientId;
use crate::faults::{Effect, Operation};
use crate::hooks::pause;

/// A client's connections to a [`MemoryDatabase`](super::MemoryDatabase).
#[derive(Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    client: ClientId,
    timers_seen: AtomicU64,
}

impl Clone for MemoryStore {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared), self.client.clone())
    }
}

impl MemoryStore {
    pub(super) fn new(shared: Arc<Shared>, client: ClientId) -> Self {
        let timers_seen = AtomicU64::new(shared.signals.timers.count());
        Self { shared, client, timers_seen }
    }

    /// Runs one statement in a transaction of its own.
    async fn run<R: Send>(
        &self,
        operation: Operation<'_>,
        work: impl FnOnce(&mut State) -> R + Send,
    ) -> Result<R, TxError> {
        let verdict = self.shared.arrive(&self.client, operation).await;
        match verdict.effect {
            Effect::Fail | Effect::LoseRequest => return Err(lost("refused")),
            Effect::Serialization => return Err(TxError::Serialization),
            _ => {}
        }
        let out = self.shared.with(|state| match state.refusal(&self.client) {
            Some(why) => Err(lost(why)),
            None => Ok(work(state)),
        })?;
        pause(&self.shared.env, verdict.delay_after).await;
        match verdict.effect {
            Effect::LoseReply => Err(lost("the answer was lost")),
            _ => Ok(out),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, TxError> {
        // Made under the lock, so that it is let go of when its answer is lost.
        let begun = self.run(Operation::Begin, |state| {
            let (id, wakeup) = state.begin(&self.client)?;
            Ok(MemoryUnit::new(Arc::clone(&self.shared), self.client.clone(), id, wakeup))
        });
        Ok(Box::new(begun.await??))
    }

    async fn claim_due(&self, query: &DueQuery) -> Result<Vec<Claim>, TxError> {
        let lease = query.lease.min(self.shared.config.lease_max);
        self.run(Operation::ClaimDue { kind: &query.kind }, |state| {
            let State { locks, tables, .. } = state;
            tables.timers.claim(query, self.shared.env.now(), lease, |id| {
                locks.is_held_by_another(None, &LockKey::Timer(id.clone()))
            })
        })
        .await
    }

    async fn next_due(&self, kind: &str) -> Result<Option<Duration>, TxError> {
        self.run(Operation::NextDue { kind }, |state| {
            let now = self.shared.env.now();
            state.tables.timers.next(kind).map(|at| at.since(now))
        })
        .await
    }

    async fn audit_rows(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, TxError> {
        self.run(Operation::AuditRows, |state| {
            let skip = usize::try_from(after).unwrap_or(usize::MAX);
            state.tables.audit.iter().skip(skip).take(limit).cloned().collect()
        })
        .await
    }

    async fn timers_changed(&self) {
        self.shared.signals.timers.changed(&self.timers_seen).await;
    }
}

#[async_trait]
impl ReadModel for MemoryStore {
    async fn get(&self, view: &str, key: &str) -> Result<Option<ViewRow>, TxError> {
        self.run(Operation::ReadView { view }, |s| s.tables.view_row(view, key).cloned()).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, TxError> {
        self.run(Operation::ReadView { view: &query.view }, |s| s.tables.page(query)).await
    }
}
