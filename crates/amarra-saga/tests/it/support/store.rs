//! A store in memory: optimistic units of work, timers with claims, and one planned fault.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use amarra_core::{AggregateId, Clock, PartitionKey, Timestamp, Version};
use amarra_messaging::message::{Delivery, Epoch, Owner};
use amarra_messaging::{
    Admit, Group, Inbox, Incoming, Outbox, Outgoing, Parked, ParkingLot, Topic, TxError,
};
use amarra_store::read_model::ViewWrite;
use amarra_store::unit::StoredState;
use amarra_store::{
    AuditDraft, AuditRow, Claim, DueQuery, IdempotencyKey, Idempotent, Store, StoredResponse,
    UnitOfWork, ViewName, ViewRow,
};
use async_trait::async_trait;
use bytes::Bytes;

use super::TestTime;

/// What goes wrong at the next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Serialization,
    UnknownApplied,
    UnknownLost,
}

#[derive(Debug, Clone, Copy)]
struct TimerRow {
    due: Option<Timestamp>,
    epoch: u64,
    leased_until: Timestamp,
}

#[derive(Debug, Default)]
struct Tables {
    states: BTreeMap<AggregateId, StoredState>,
    outbox: Vec<Outgoing>,
    audit: Vec<AuditDraft>,
    timers: BTreeMap<AggregateId, TimerRow>,
    faults: Vec<Fault>,
    loads: Vec<Vec<AggregateId>>,
    open: usize,
}

#[derive(Debug, Clone)]
pub struct TestStore {
    time: Arc<TestTime>,
    tables: Arc<Mutex<Tables>>,
}

impl TestStore {
    pub fn new(time: Arc<TestTime>) -> Self {
        Self { time, tables: Arc::default() }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap()
    }

    pub fn outbox(&self) -> Vec<Outgoing> {
        self.tables().outbox.clone()
    }

    /// Returns the types of all messages, in commit order.
    pub fn sent(&self) -> Vec<String> {
        self.tables().outbox.iter().map(|m| m.envelope.kind.to_string()).collect()
    }

    pub fn audit(&self) -> Vec<AuditDraft> {
        self.tables().audit.clone()
    }

    /// Returns how long until the aggregate's timer is due.
    pub fn due_in(&self, id: &AggregateId) -> Option<Duration> {
        let now = self.time.now();
        self.tables().timers.get(id)?.due.map(|due| due.since(now))
    }

    pub fn fail_commits(&self, faults: &[Fault]) {
        self.tables().faults = faults.iter().rev().copied().collect();
    }

    /// Returns what was locked by every load so far.
    pub fn loads(&self) -> Vec<Vec<AggregateId>> {
        self.tables().loads.clone()
    }

    pub fn open_units(&self) -> usize {
        self.tables().open
    }

    pub fn has(&self, id: &AggregateId) -> bool {
        self.tables().states.contains_key(id)
    }

    /// Claims the one due timer of `kind` for ten seconds.
    pub fn claim(&self, kind: &str) -> Option<Claim> {
        let query = DueQuery {
            kind: kind.into(),
            owner: Owner::new("w"),
            lease: Duration::from_secs(10),
            limit: 1,
        };
        super::run(self.claim_due(&query)).unwrap().pop()
    }
}

#[async_trait]
impl Store for TestStore {
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, TxError> {
        self.tables().open += 1;
        Ok(Box::new(TestUnit {
            store: self.clone(),
            now: self.time.now(),
            read: BTreeMap::new(),
            states: BTreeMap::new(),
            outbox: Vec::new(),
            audit: Vec::new(),
            timers: Vec::new(),
            claim: None,
        }))
    }

    async fn claim_due(&self, query: &DueQuery) -> Result<Vec<Claim>, TxError> {
        let now = self.time.now();
        let mut claims = Vec::new();
        for (id, timer) in &mut self.tables().timers {
            let due = timer.due.is_some_and(|due| due <= now) && timer.leased_until <= now;
            if due && id.kind == query.kind && claims.len() < query.limit {
                timer.epoch += 1;
                timer.leased_until = now.plus(query.lease);
                let (id, owner) = (id.clone(), query.owner.clone());
                claims.push(Claim { id, epoch: Epoch(timer.epoch), owner });
            }
        }
        Ok(claims)
    }

    async fn next_due(&self, kind: &str) -> Result<Option<Duration>, TxError> {
        let now = self.time.now();
        let tables = self.tables();
        let of_kind = tables.timers.iter().filter(|(id, _)| *id.kind == *kind);
        let at = of_kind.filter_map(|(_, timer)| Some(timer.due?.max(timer.leased_until)));
        Ok(at.min().map(|at| at.since(now)))
    }

    async fn audit_rows(&self, _: u64, _: usize) -> Result<Vec<AuditRow>, TxError> {
        Ok(Vec::new())
    }

    async fn timers_changed(&self) {}
}

#[derive(Debug)]
struct TestUnit {
    store: TestStore,
    now: Timestamp,
    read: BTreeMap<AggregateId, Version>,
    states: BTreeMap<AggregateId, StoredState>,
    outbox: Vec<Outgoing>,
    audit: Vec<AuditDraft>,
    timers: Vec<(AggregateId, Option<Duration>)>,
    claim: Option<Claim>,
}

impl Drop for TestUnit {
    fn drop(&mut self) {
        self.store.tables().open -= 1;
    }
}

impl TestUnit {
    fn current(tables: &Tables, claim: &Claim) -> Result<(), TxError> {
        let timer = tables.timers.get(&claim.id);
        if timer.is_some_and(|timer| timer.epoch == claim.epoch.0) {
            return Ok(());
        }
        Err(TxError::Fenced { what: claim.id.to_string(), held: claim.epoch.0 })
    }

    fn apply(&self) -> Result<(), TxError> {
        let mut tables = self.store.tables();
        for (id, version) in &self.read {
            let stored = tables.states.get(id).map_or(Version::ABSENT, |s| s.version);
            if stored != *version {
                return Err(TxError::Conflict { id: id.clone() });
            }
        }
        if let Some(claim) = &self.claim {
            Self::current(&tables, claim)?;
        }
        tables.states.extend(self.states.clone());
        tables.outbox.extend(self.outbox.clone());
        tables.audit.extend(self.audit.clone());
        for (id, after) in &self.timers {
            let epoch = tables.timers.get(id).map_or(0, |timer| timer.epoch) + 1;
            let due = after.map(|after| self.store.time.now().plus(after));
            let row = TimerRow { due, epoch, leased_until: Timestamp::EPOCH };
            tables.timers.insert(id.clone(), row);
        }
        Ok(())
    }
}

#[async_trait]
impl Outbox for TestUnit {
    async fn enqueue(&mut self, messages: &[Outgoing]) -> Result<(), TxError> {
        self.outbox.extend_from_slice(messages);
        Ok(())
    }
}

#[async_trait]
impl Inbox for TestUnit {
    async fn admit(&mut self, _: &Group, _: &Incoming) -> Result<Admit, TxError> {
        unreachable!("the shell admits nothing")
    }
}

#[async_trait]
impl ParkingLot for TestUnit {
    async fn park(&mut self, _: &Group, _: &Delivery, _: &str) -> Result<(), TxError> {
        unreachable!("the shell parks no messages")
    }

    async fn parked_among(
        &mut self,
        _: &Group,
        _: &Topic,
        _: &BTreeSet<PartitionKey>,
    ) -> Result<BTreeSet<PartitionKey>, TxError> {
        Ok(BTreeSet::new())
    }

    async fn first_parked(
        &mut self,
        _: &Group,
        _: &Topic,
        _: &PartitionKey,
    ) -> Result<Option<Parked>, TxError> {
        Ok(None)
    }

    async fn unpark(&mut self, _: &Group, _: u64) -> Result<(), TxError> {
        Ok(())
    }
}

#[async_trait]
impl UnitOfWork for TestUnit {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn load(&mut self, ids: &[AggregateId]) -> Result<Vec<StoredState>, TxError> {
        let absent = || StoredState { version: Version::ABSENT, body: Bytes::new() };
        let mut tables = self.store.tables();
        tables.loads.push(ids.to_vec());
        let mut loaded = Vec::new();
        for id in ids {
            let stored = tables.states.get(id).cloned().unwrap_or_else(absent);
            self.read.entry(id.clone()).or_insert(stored.version);
            loaded.push(self.states.get(id).cloned().unwrap_or(stored));
        }
        Ok(loaded)
    }

    async fn save(
        &mut self,
        id: &AggregateId,
        expected: Version,
        body: Bytes,
    ) -> Result<(), TxError> {
        let stored = self.load(std::slice::from_ref(id)).await?.remove(0);
        if stored.version != expected {
            return Err(TxError::Conflict { id: id.clone() });
        }
        self.states.insert(id.clone(), StoredState { version: expected.next(), body });
        Ok(())
    }

    async fn schedule(&mut self, id: &AggregateId, after: Option<Duration>) -> Result<(), TxError> {
        self.timers.push((id.clone(), after));
        Ok(())
    }

    async fn verify(&mut self, claim: &Claim) -> Result<(), TxError> {
        Self::current(&self.store.tables(), claim)?;
        self.claim = Some(claim.clone());
        Ok(())
    }

    async fn begin_idempotent(&mut self, _: &IdempotencyKey) -> Result<Idempotent, TxError> {
        Ok(Idempotent::Fresh)
    }

    async fn record_response(
        &mut self,
        _: &IdempotencyKey,
        _: &StoredResponse,
    ) -> Result<(), TxError> {
        Ok(())
    }

    async fn audit(&mut self, entry: AuditDraft) -> Result<(), TxError> {
        self.audit.push(entry);
        Ok(())
    }

    async fn load_views(&mut self, names: &[ViewName]) -> Result<Vec<Option<ViewRow>>, TxError> {
        Ok(vec![None; names.len()])
    }

    async fn write_view(&mut self, _: ViewWrite) -> Result<(), TxError> {
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), TxError> {
        let fault = self.store.tables().faults.pop();
        match fault {
            None => self.apply(),
            Some(Fault::Serialization) => Err(TxError::Serialization),
            Some(Fault::UnknownLost) => Err(TxError::OutcomeUnknown),
            Some(Fault::UnknownApplied) => {
                self.apply()?;
                Err(TxError::OutcomeUnknown)
            }
        }
    }
}
