//! An outbox log with the defect of its test, and the transaction ids it sorts or waits by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use amarra_core::{AggregateId, EventId, PartitionKey, Version};
use amarra_messaging::message::{Epoch, Owner, Seq, Shard};
use amarra_messaging::outbox::{Chunk, Cursor, Lease, LogError, ParkedRow, Resumed};
use amarra_messaging::wire;
use amarra_messaging::{OutboxLog, Topic};
use amarra_store::Claim;
use async_trait::async_trait;

use super::Defect;

/// Transaction ids, drawn at the first write of a unit, and other things a defect remembers.
#[derive(Debug, Default)]
pub struct Tickets(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    audits: u64,
    told: bool,
    open: BTreeSet<u64>,
    events: BTreeMap<EventId, u64>,
    highest: BTreeMap<Shard, Seq>,
    claims: BTreeMap<AggregateId, Epoch>,
}

impl Tickets {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn draw(&self) -> u64 {
        let mut inner = self.lock();
        inner.next += 1;
        let ticket = inner.next;
        inner.open.insert(ticket);
        ticket
    }

    pub fn end(&self, ticket: u64) {
        self.lock().open.remove(&ticket);
    }

    pub fn note(&self, event: EventId, ticket: u64) {
        self.lock().events.insert(event, ticket);
    }

    pub fn note_claim(&self, claim: &Claim) {
        self.lock().claims.insert(claim.id.clone(), claim.epoch);
    }

    pub fn claimed(&self, claim: &Claim) -> Option<Epoch> {
        self.lock().claims.get(&claim.id).copied()
    }

    /// Tells whether this was asked before.
    pub fn tell_again(&self) -> bool {
        std::mem::replace(&mut self.lock().told, true)
    }

    pub fn count_audits(&self) -> u64 {
        let mut inner = self.lock();
        inner.audits += 1;
        inner.audits
    }
}

#[derive(Debug)]
pub struct BrokenLog {
    pub inner: Arc<dyn OutboxLog>,
    pub defect: Defect,
    pub tickets: Arc<Tickets>,
}

impl BrokenLog {
    fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    fn unfenced(&self, answer: Result<(), LogError>) -> Result<(), LogError> {
        match answer {
            Err(LogError::Fenced { .. }) if self.is(Defect::LogIgnoresFences) => Ok(()),
            answer => answer,
        }
    }

    fn spoil(&self, lease: &Lease, chunk: &mut Chunk) {
        let mut inner = self.tickets.lock();
        let ticket = |inner: &Inner, id: EventId| inner.events.get(&id).copied().unwrap_or(0);
        match self.defect {
            Defect::LogSortsByTransactionId => {
                chunk
                    .rows
                    .sort_by_key(|row| ticket(&inner, wire::envelope(&row.record).unwrap().id));
            }
            Defect::LogWaitsForOpenTransactions => {
                let oldest = inner.open.first().copied().unwrap_or(u64::MAX);
                chunk
                    .rows
                    .retain(|row| ticket(&inner, wire::envelope(&row.record).unwrap().id) < oldest);
            }
            Defect::LogReadsAfterTheHighestSequence => {
                let highest = inner.highest.entry(lease.shard).or_default();
                chunk.rows.retain(|row| row.seq > *highest);
                *highest = chunk.rows.last().map_or(*highest, |row| row.seq);
            }
            Defect::LogInventsARow if chunk.last && !inner.told => {
                if let Some(mut row) = chunk.rows.last().cloned() {
                    let mut envelope = wire::envelope(&row.record).unwrap();
                    envelope.partition_key = PartitionKey::from("nobody");
                    envelope.subject_version = Version::new(1);
                    row.record = wire::encode(&envelope, None);
                    chunk.rows.push(row);
                    inner.told = true;
                }
            }
            _ => {}
        }
    }
}

#[async_trait]
impl OutboxLog for BrokenLog {
    fn source(&self) -> Arc<str> {
        self.inner.source()
    }

    async fn lease(
        &self,
        owner: &Owner,
        limit: usize,
        ttl: Duration,
    ) -> Result<Vec<Lease>, LogError> {
        let anybody = Owner::from("anybody");
        let owner = if self.is(Defect::LogLeasesToAnybody) { &anybody } else { owner };
        let ttl = if self.is(Defect::LogNeverExpires) { ttl * 1000 } else { ttl };
        self.inner.lease(owner, limit, ttl).await
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        if self.is(Defect::LogKeepsWhatIsGivenBack) {
            return Ok(());
        }
        self.inner.give_back(leases).await
    }

    async fn resume(&self, lease: &Lease) -> Result<Resumed, LogError> {
        let mut resumed = self.inner.resume(lease).await?;
        match self.defect {
            Defect::LogResumesWithoutParkedKeys => resumed.parked.clear(),
            Defect::LogResumesAtTheStart => resumed.cursor = Cursor::default(),
            Defect::LogSkipsAPosition if resumed.cursor.cur.is_none() => resumed.cursor.pos.0 += 1,
            _ => {}
        }
        Ok(resumed)
    }

    async fn next_chunk(
        &self,
        lease: &Lease,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<Chunk, LogError> {
        let mut cursor = cursor.clone();
        if self.is(Defect::LogForgetsTheOpenBatch) {
            cursor.cur = None;
        }
        let mut chunk = self.inner.next_chunk(lease, &cursor, limit).await?;
        while self.is(Defect::LogPassesOverAKey) {
            let last = chunk.rows.last().map(|row| row.seq);
            chunk.rows.retain(|row| row.record.partition_key().as_str() != "key-7");
            let (true, false, Some(last)) = (chunk.rows.is_empty(), chunk.last, last) else {
                break;
            };
            cursor = Cursor { cur: Some(chunk.cur), last_seq: last, ..cursor };
            chunk = self.inner.next_chunk(lease, &cursor, limit).await?;
        }
        self.spoil(lease, &mut chunk);
        Ok(chunk)
    }

    async fn checkpoint(&self, lease: &Lease, cursor: &Cursor) -> Result<(), LogError> {
        match self.inner.checkpoint(lease, cursor).await {
            Err(LogError::Corrupt { .. }) if self.is(Defect::LogAcceptsStepsBack) => Ok(()),
            answer => self.unfenced(answer),
        }
    }

    async fn park(&self, lease: &Lease, rows: &[ParkedRow]) -> Result<(), LogError> {
        if self.is(Defect::LogIgnoresWhatIsParkedAgain) {
            let known = self.inner.parked(Seq::default(), 1000).await?;
            let known: BTreeSet<Seq> = known.iter().map(|row| row.seq).collect();
            let fresh: Vec<_> =
                rows.iter().filter(|row| !known.contains(&row.seq)).cloned().collect();
            return self.inner.park(lease, &fresh).await;
        }
        self.unfenced(self.inner.park(lease, rows).await)
    }

    async fn released(&self, lease: &Lease, limit: usize) -> Result<Vec<ParkedRow>, LogError> {
        self.inner.released(lease, limit).await
    }

    async fn settle(&self, lease: &Lease, rows: &[ParkedRow]) -> Result<(), LogError> {
        if self.is(Defect::LogSettlesTheWholeKey) {
            let all = self.inner.released(lease, 1000).await?;
            return self.inner.settle(lease, &all).await;
        }
        self.unfenced(self.inner.settle(lease, rows).await)
    }

    async fn parked(&self, after: Seq, limit: usize) -> Result<Vec<ParkedRow>, LogError> {
        self.inner.parked(after, limit).await
    }

    async fn release(&self, topic: &Topic, key: &PartitionKey) -> Result<(), LogError> {
        self.inner.release(topic, key).await
    }

    async fn changed(&self) {
        if self.is(Defect::LogTellsOfOneAppend) && self.tickets.tell_again() {
            return std::future::pending().await;
        }
        self.inner.changed().await;
    }
}
