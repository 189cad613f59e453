//! The outbox-log port: leases, cursors and rows for the relay.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use amarra_core::PartitionKey;
use amarra_messaging::message::{Owner, Seq, Shard};
use amarra_messaging::outbox::{Chunk, Cursor, Lease, LogError, ParkedRow, Resumed};
use amarra_messaging::{OutboxLog, Topic};
use async_trait::async_trait;

use super::Shared;
use super::state::State;
use crate::client::ClientId;
use crate::faults::{Effect, Operation};
use crate::hooks::pause;

/// The relay's side of a [`MemoryDatabase`](super::MemoryDatabase)'s outbox.
#[derive(Debug)]
pub struct MemoryOutboxLog {
    shared: Arc<Shared>,
    client: ClientId,
    seen: AtomicU64,
}

impl MemoryOutboxLog {
    pub(super) fn new(shared: Arc<Shared>, client: ClientId) -> Self {
        let seen = AtomicU64::new(shared.signals.outbox.count());
        Self { shared, client, seen }
    }

    /// Runs one statement in a transaction of its own.
    async fn run<R: Send>(
        &self,
        operation: Operation<'_>,
        work: impl FnOnce(&mut State) -> Result<R, LogError> + Send,
    ) -> Result<R, LogError> {
        let verdict = self.shared.arrive(&self.client, operation).await;
        match verdict.effect {
            Effect::Fail | Effect::LoseRequest | Effect::Serialization => {
                return Err(unavailable("refused"));
            }
            _ => {}
        }
        let out = self.shared.with(|state| match state.refusal(&self.client) {
            Some(why) => Err(unavailable(why)),
            None => work(state),
        });
        pause(&self.shared.env, verdict.delay_after).await;
        match verdict.effect {
            Effect::LoseReply => Err(unavailable("the answer was lost")),
            _ => out,
        }
    }
}

fn unavailable(why: &str) -> LogError {
    LogError::Unavailable { why: why.to_owned() }
}

#[async_trait]
impl OutboxLog for MemoryOutboxLog {
    fn source(&self) -> Arc<str> {
        Arc::clone(&self.shared.name)
    }

    async fn lease(
        &self,
        owner: &Owner,
        limit: usize,
        ttl: Duration,
    ) -> Result<Vec<Lease>, LogError> {
        let ttl = ttl.min(self.shared.config.lease_max);
        self.run(Operation::LogLease, |state| {
            Ok(state.tables.outbox.lease(owner, limit, self.shared.env.now(), ttl))
        })
        .await
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.run(Operation::LogLease, |state| {
            leases.iter().for_each(|lease| state.tables.outbox.give_back(lease));
            Ok(())
        })
        .await
    }

    async fn resume(&self, lease: &Lease) -> Result<Resumed, LogError> {
        self.run(Operation::LogResume { shard: lease.shard }, |state| {
            let (cursor, parked) = state.tables.outbox.resume(lease.shard)?;
            Ok(Resumed { cursor, parked })
        })
        .await
    }

    async fn next_chunk(
        &self,
        lease: &Lease,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<Chunk, LogError> {
        self.run(Operation::LogRead { shard: lease.shard }, |state| {
            read(state, lease.shard, cursor, limit)
        })
        .await
    }

    /// Reads and saves at once, as the adapter of a server does in one transaction.
    async fn open_chunk(
        &self,
        lease: &Lease,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<(Chunk, bool), LogError> {
        self.run(Operation::LogRead { shard: lease.shard }, |state| {
            let chunk = read(state, lease.shard, cursor, limit)?;
            let opens = cursor.cur.is_none() && !chunk.rows.is_empty();
            let opening = Cursor { cur: Some(chunk.cur.clone()), ..cursor.clone() };
            // A superseded epoch saves nothing, and learns of it at its next checkpoint.
            let saved = opens && state.tables.outbox.checkpoint(lease, &opening).is_ok();
            Ok((chunk, saved))
        })
        .await
    }

    async fn checkpoint(&self, lease: &Lease, cursor: &Cursor) -> Result<(), LogError> {
        self.run(Operation::LogCheckpoint { shard: lease.shard }, |state| {
            state.tables.outbox.checkpoint(lease, cursor)
        })
        .await
    }

    async fn park(&self, lease: &Lease, rows: &[ParkedRow]) -> Result<(), LogError> {
        self.run(Operation::LogPark, |state| state.tables.outbox.park(lease, rows)).await
    }

    async fn released(&self, lease: &Lease, limit: usize) -> Result<Vec<ParkedRow>, LogError> {
        self.run(Operation::LogPark, |s| Ok(s.tables.outbox.released(lease.shard, limit))).await
    }

    async fn settle(&self, lease: &Lease, rows: &[ParkedRow]) -> Result<(), LogError> {
        self.run(Operation::LogPark, |state| state.tables.outbox.settle(lease, rows)).await
    }

    async fn parked(&self, after: Seq, limit: usize) -> Result<Vec<ParkedRow>, LogError> {
        self.run(Operation::LogPark, |state| Ok(state.tables.outbox.parked(after, limit))).await
    }

    async fn release(&self, topic: &Topic, key: &PartitionKey) -> Result<(), LogError> {
        self.run(Operation::LogPark, |state| {
            state.tables.outbox.release(topic, key);
            Ok(())
        })
        .await?;
        self.shared.signals.outbox.raise();
        Ok(())
    }

    async fn changed(&self) {
        self.shared.signals.outbox.changed(&self.seen).await;
    }
}

fn read(state: &State, shard: Shard, cursor: &Cursor, limit: usize) -> Result<Chunk, LogError> {
    let cur = cursor.cur.clone().unwrap_or_else(|| state.transactions.snapshot());
    let (rows, last) = state.tables.outbox.read(shard, cursor, &cur, limit)?;
    Ok(Chunk { cur, rows, last })
}
