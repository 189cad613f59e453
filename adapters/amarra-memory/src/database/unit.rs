//! The unit-of-work port: rows locked and read, writes kept until the commit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{AggregateId, Timestamp, Version};
use amarra_messaging::TxError;
use amarra_store::read_model::{ViewName, ViewRow, ViewWrite};
use amarra_store::unit::StoredState;
use amarra_store::{AuditDraft, Claim, IdempotencyKey, Idempotent, StoredResponse, UnitOfWork};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::Shared;
use super::locks::{LockKey, Request, UnitId};
use super::state::{State, lost};
use super::tables::replay;
use super::writes::WriteSet;
use crate::client::ClientId;
use crate::faults::{Effect, Operation, Verdict};
use crate::hooks::pause;
use crate::observer::Deadlocked;

/// One local transaction of a [`MemoryDatabase`](super::MemoryDatabase).
///
/// Any error rolls it back at once, as Postgres does: every later call answers the same error.
#[derive(Debug)]
pub(super) struct MemoryUnit {
    pub(super) shared: Arc<Shared>,
    client: ClientId,
    pub(super) id: UnitId,
    wakeup: Arc<Notify>,
    pub(super) now: Timestamp,
    pub(super) writes: WriteSet,
}

impl MemoryUnit {
    pub(super) fn new(
        shared: Arc<Shared>,
        client: ClientId,
        id: UnitId,
        wakeup: Arc<Notify>,
    ) -> Self {
        let now = shared.env.now();
        Self { shared, client, id, wakeup, now, writes: WriteSet::default() }
    }

    /// Starts one call: the hook may delay it, or fail it and the unit with it. Whether the unit is
    /// still open is checked where the call touches the state.
    pub(super) async fn arrive(&self, operation: Operation<'_>) -> Result<Verdict, TxError> {
        let verdict = self.shared.arrive(&self.client, operation).await;
        let failed = match verdict.effect {
            Effect::Fail => Some(lost("refused")),
            Effect::Serialization => Some(TxError::Serialization),
            _ => None,
        };
        match failed {
            Some(error) => Err(self.roll_back(error)),
            None => Ok(verdict),
        }
    }

    /// Ends one call within the unit: a connection that breaks takes the unit with it.
    pub(super) async fn answer<R>(&self, verdict: Verdict, out: R) -> Result<R, TxError> {
        pause(&self.shared.env, verdict.delay_after).await;
        match verdict.effect {
            Effect::LoseReply | Effect::LoseRequest => {
                Err(self.roll_back(lost("the answer was lost")))
            }
            _ => Ok(out),
        }
    }

    /// Works on the state of an open unit; an error rolls it back.
    pub(super) fn attempt<R>(
        &mut self,
        work: impl FnOnce(&mut State, &mut WriteSet) -> Result<R, TxError>,
    ) -> Result<R, TxError> {
        let (id, writes) = (self.id, &mut self.writes);
        self.shared.with(|state| {
            state.check(id)?;
            work(state, writes).inspect_err(|error| state.roll_back(id, error.clone()))
        })
    }

    /// Ends the commit: a lost answer leaves its outcome unknown.
    async fn commit_answer(&self, verdict: Verdict) -> Result<(), TxError> {
        pause(&self.shared.env, verdict.delay_after).await;
        match verdict.effect {
            Effect::LoseReply => Err(TxError::OutcomeUnknown),
            _ => Ok(()),
        }
    }

    pub(super) fn roll_back(&self, error: TxError) -> TxError {
        self.shared.with(|state| state.roll_back(self.id, error.clone()));
        error
    }

    /// Takes a lock, waiting for its holder's end, and draws the transaction id.
    pub(super) async fn lock(&self, key: LockKey) -> Result<(), TxError> {
        let request = self.shared.with(|state| {
            state.check(self.id)?;
            state.xid(self.id)?;
            let request = state.locks.request(self.id, &key);
            if request == Request::Deadlock {
                state.roll_back(self.id, TxError::Serialization);
            }
            Ok(request)
        })?;
        match request {
            Request::Granted => Ok(()),
            Request::Deadlock => {
                if let Some(observer) = &self.shared.hooks.observer {
                    observer.deadlocked(&Deadlocked {
                        database: &self.shared.name,
                        client: &self.client,
                        wanted: &format!("{key:?}"),
                    });
                }
                Err(TxError::Serialization)
            }
            Request::Queued => self.wait().await,
        }
    }

    async fn wait(&self) -> Result<(), TxError> {
        // A caller that stops waiting breaks the unit: it must not be granted the lock later.
        let mut cancelled = RollBackOnDrop { unit: self, armed: true };
        let granted = async {
            loop {
                let waiting = self.shared.with(|state| {
                    state.check(self.id)?;
                    Ok(state.locks.is_waiting(self.id))
                });
                match waiting {
                    Ok(false) => return Ok(()),
                    Ok(true) => self.wakeup.notified().await,
                    Err(error) => return Err(error),
                }
            }
        };
        let outcome = self.shared.env.timeout(self.shared.config.lock_timeout, granted).await;
        cancelled.armed = false;
        match outcome {
            Ok(granted) => granted,
            Err(_) => Err(self.roll_back(TxError::Serialization)),
        }
    }

    fn bounded(&self, what: &'static str, bytes: usize) -> Result<(), TxError> {
        let bound = self.shared.config.state_bytes_max;
        if bytes <= bound {
            return Ok(());
        }
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        Err(self.roll_back(TxError::TooLarge { what, bound }))
    }
}

struct RollBackOnDrop<'a> {
    unit: &'a MemoryUnit,
    armed: bool,
}

impl Drop for RollBackOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.unit.roll_back(lost("the call was cancelled"));
        }
    }
}

impl Drop for MemoryUnit {
    fn drop(&mut self) {
        self.shared.with(|state| state.let_go(self.id));
    }
}

#[async_trait]
impl UnitOfWork for MemoryUnit {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn load(&mut self, ids: &[AggregateId]) -> Result<Vec<StoredState>, TxError> {
        let verdict = self.arrive(Operation::Load { ids }).await?;
        let sorted: BTreeSet<&AggregateId> = ids.iter().collect();
        for id in sorted {
            self.lock(LockKey::Aggregate(id.clone())).await?;
        }
        let absent = || StoredState { version: Version::ABSENT, body: Bytes::new() };
        let states = self.attempt(|state, writes| {
            let committed = |id| state.tables.aggregates.get(id).cloned();
            let state_of =
                |id| writes.state_of(id).or_else(|| committed(id)).unwrap_or_else(absent);
            Ok(ids.iter().map(state_of).collect())
        })?;
        self.answer(verdict, states).await
    }

    async fn save(
        &mut self,
        id: &AggregateId,
        expected: Version,
        body: Bytes,
    ) -> Result<(), TxError> {
        let verdict = self.arrive(Operation::Save { id }).await?;
        self.bounded("state (state_bytes_max)", body.len())?;
        self.lock(LockKey::Aggregate(id.clone())).await?;
        self.attempt(|state, writes| {
            let own = writes.state_of(id).map(|state| state.version);
            let committed = state.tables.aggregates.get(id).map(|state| state.version);
            if own.or(committed).unwrap_or(Version::ABSENT) != expected {
                return Err(TxError::Conflict { id: id.clone() });
            }
            writes.save(id.clone(), expected.next(), body);
            Ok(())
        })?;
        self.answer(verdict, ()).await
    }

    async fn schedule(&mut self, id: &AggregateId, after: Option<Duration>) -> Result<(), TxError> {
        let verdict = self.arrive(Operation::Schedule { id }).await?;
        self.lock(LockKey::Timer(id.clone())).await?;
        let due = after.map(|after| self.now.plus(after));
        self.attempt(|_, writes| {
            writes.timers.insert(id.clone(), due);
            Ok(())
        })?;
        self.answer(verdict, ()).await
    }

    async fn verify(&mut self, claim: &Claim) -> Result<(), TxError> {
        let verdict = self.arrive(Operation::Verify { id: &claim.id }).await?;
        self.lock(LockKey::Timer(claim.id.clone())).await?;
        self.attempt(|state, writes| {
            let superseded = writes.timers.contains_key(&claim.id)
                || state.tables.timers.epoch(&claim.id) != Some(claim.epoch);
            if superseded {
                let what = format!("the timer of {}", claim.id);
                return Err(TxError::Fenced { what, held: claim.epoch.0 });
            }
            Ok(())
        })?;
        self.answer(verdict, ()).await
    }

    async fn begin_idempotent(&mut self, key: &IdempotencyKey) -> Result<Idempotent, TxError> {
        let verdict = self.arrive(Operation::Idempotency { route: &key.route }).await?;
        let id = self.id;
        let outcome = self.attempt(|state, writes| {
            if let Some((stored, response)) = writes.response_of(key) {
                return Ok(replay(stored, response, key));
            }
            if let Some(answer) = state.tables.response(key) {
                return Ok(answer);
            }
            let name = LockKey::from(key);
            if state.locks.is_held_by_another(Some(id), &name) {
                return Ok(Idempotent::InFlight);
            }
            state.xid(id)?;
            state.locks.request(id, &name);
            writes.begun.insert(name);
            Ok(Idempotent::Fresh)
        })?;
        self.answer(verdict, outcome).await
    }

    async fn record_response(
        &mut self,
        key: &IdempotencyKey,
        response: &StoredResponse,
    ) -> Result<(), TxError> {
        let verdict = self.arrive(Operation::Idempotency { route: &key.route }).await?;
        self.bounded("response (state_bytes_max)", response.body.len())?;
        self.attempt(|_, writes| {
            // Begun here, so the key is locked and was not committed by anybody.
            let begun = writes.begun.contains(&LockKey::from(key));
            if !begun || writes.response_of(key).is_some() {
                let id = AggregateId::new("idempotency-key", Arc::clone(&key.key));
                return Err(TxError::Conflict { id });
            }
            writes.responses.push((key.clone(), response.clone()));
            Ok(())
        })?;
        self.answer(verdict, ()).await
    }

    async fn audit(&mut self, entry: AuditDraft) -> Result<(), TxError> {
        let verdict = self.arrive(Operation::Audit { id: &entry.aggregate }).await?;
        let id = self.id;
        self.attempt(|state, writes| {
            state.xid(id)?;
            writes.audit.push(entry);
            Ok(())
        })?;
        self.answer(verdict, ()).await
    }

    async fn load_views(&mut self, names: &[ViewName]) -> Result<Vec<Option<ViewRow>>, TxError> {
        let verdict = self.arrive(Operation::LoadView { names }).await?;
        let sorted: BTreeSet<_> = names.iter().collect();
        for (view, key) in sorted {
            self.lock(LockKey::View(Arc::clone(view), Arc::clone(key))).await?;
        }
        let rows = self.attempt(|state, writes| {
            let row = |name: &ViewName| match writes.views.get(name) {
                None => state.tables.view_row(&name.0, &name.1).cloned(),
                Some(write) => write.body.as_ref().map(|body| ViewRow {
                    key: Arc::clone(&write.key),
                    position: write.position,
                    body: body.clone(),
                }),
            };
            Ok(names.iter().map(row).collect())
        })?;
        self.answer(verdict, rows).await
    }

    async fn write_view(&mut self, write: ViewWrite) -> Result<(), TxError> {
        let verdict = self.arrive(Operation::WriteView { view: &write.view }).await?;
        self.bounded("view row (state_bytes_max)", write.body.as_ref().map_or(0, Bytes::len))?;
        let name = (Arc::clone(&write.view), Arc::clone(&write.key));
        self.lock(LockKey::View(Arc::clone(&name.0), Arc::clone(&name.1))).await?;
        self.attempt(|_, writes| {
            writes.views.insert(name, write);
            Ok(())
        })?;
        self.answer(verdict, ()).await
    }

    async fn commit(mut self: Box<Self>) -> Result<(), TxError> {
        let (admitted, saved) = (self.writes.admitted.as_slice(), self.writes.saved.as_slice());
        let verdict = self.arrive(Operation::Commit { admitted, saved }).await?;
        if verdict.effect == Effect::LoseRequest {
            // The caller cannot tell this from a lost answer.
            self.shared.with(|state| state.check(self.id))?;
            self.roll_back(lost("the commit was lost on its way"));
            return Err(TxError::OutcomeUnknown);
        }
        let (now, writes) = (self.now, std::mem::take(&mut self.writes));
        if writes.is_empty() {
            self.shared.with(|state| state.check(self.id))?;
            self.roll_back(lost("the unit has ended"));
            return self.commit_answer(verdict).await;
        }
        self.shared.with(|state| state.write_ahead(self.id, now, writes))?;
        let flush = self.shared.arrive(&self.client, Operation::Flush).await;
        pause(&self.shared.env, self.shared.config.flush_latency).await;
        pause(&self.shared.env, flush.delay_after).await;
        self.shared.with(|state| state.complete(self.id))?;
        self.commit_answer(verdict).await
    }
}
