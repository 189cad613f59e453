//! The transport port: sessions that number their records and are fenced by newer ones.

use std::collections::VecDeque;
use std::sync::Arc;

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::murmur2::choose;
use amarra_messaging::outbox::Lease;
use amarra_messaging::transport::Publish;
use amarra_messaging::{Partition, PublishError, Session, Transport};
use async_trait::async_trait;

use super::Shared;
use super::state::State;
use super::topic::{ProducerId, Stored};
use crate::client::ClientId;
use crate::faults::{Effect, Operation, Verdict};
use crate::hooks::pause;

/// Opens publishing sessions for the shards of one outbox.
#[derive(Debug, Clone)]
pub struct MemoryTransport {
    shared: Arc<Shared>,
    client: ClientId,
    source: Arc<str>,
}

impl MemoryTransport {
    pub(super) fn new(shared: Arc<Shared>, client: ClientId, source: Arc<str>) -> Self {
        Self { shared, client, source }
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    async fn open(&self, lease: &Lease) -> Result<Box<dyn Session>, PublishError> {
        let (shard, epoch) = (lease.shard, lease.epoch);
        let operation = Operation::OpenSession { shard, epoch };
        let verdict = self.shared.arrive(&self.client, operation).await;
        if matches!(verdict.effect, Effect::Fail | Effect::LoseRequest) {
            return Err(unavailable(0, "refused"));
        }
        let opened = self.shared.with(|state| match state.refusal(&self.client) {
            Some(why) => Err(unavailable(0, why)),
            None => Ok(state.open(&self.source, shard, epoch)),
        })?;
        pause(&self.shared.env, verdict.delay_after).await;
        if verdict.effect == Effect::LoseReply {
            return Err(unavailable(0, "the answer was lost"));
        }
        let producer = opened.ok_or(PublishError::Fenced { shard, epoch })?;
        Ok(Box::new(MemorySession {
            shared: Arc::clone(&self.shared),
            client: self.client.clone(),
            source: Arc::clone(&self.source),
            lease: lease.clone(),
            producer,
            next_sequence: 1,
            unsure: VecDeque::new(),
        }))
    }
}

/// A session: one idempotent producer.
///
/// Records whose fate is unknown keep their sequence numbers: publishing the same ones again in the
/// same session stores each once.
#[derive(Debug)]
struct MemorySession {
    shared: Arc<Shared>,
    client: ClientId,
    source: Arc<str>,
    lease: Lease,
    producer: ProducerId,
    next_sequence: u64,
    unsure: VecDeque<(Publish, u64)>,
}

/// How far one call got.
enum Stop {
    /// All records are appended.
    Done,
    /// The record at this index is refused.
    Refused(usize, String),
    /// The connection broke before the record at this index.
    Broken(usize),
}

#[async_trait]
impl Session for MemorySession {
    async fn publish(&mut self, records: &[Publish]) -> Result<(), PublishError> {
        let sequences = self.number(records);
        let outcome = self.send(records, &sequences).await;
        if let Err(PublishError::Unavailable { acked, .. }) = &outcome {
            let unknown = records.iter().cloned().zip(sequences).skip(*acked);
            self.unsure = unknown.chain(std::mem::take(&mut self.unsure)).collect();
        }
        outcome
    }
}

impl MemorySession {
    /// Numbers records: those of unknown fate as before, as long as the caller repeats them.
    fn number(&mut self, records: &[Publish]) -> Vec<u64> {
        let mut number = |record: &Publish| {
            if let Some((unsure, sequence)) = self.unsure.pop_front() {
                if unsure == *record {
                    return sequence;
                }
                self.unsure.clear();
            }
            let sequence = self.next_sequence;
            self.next_sequence = sequence.saturating_add(1);
            sequence
        };
        records.iter().map(&mut number).collect()
    }

    async fn send(&self, records: &[Publish], sequences: &[u64]) -> Result<(), PublishError> {
        let (source, shard) = (&*self.source, self.lease.shard);
        let operation = Operation::Publish { source, shard, records };
        let verdict = self.shared.arrive(&self.client, operation).await;
        if matches!(verdict.effect, Effect::Fail | Effect::LoseRequest) {
            return Err(unavailable(0, "refused"));
        }
        let mut replication = Replication { shared: &self.shared, ends: Vec::new() };
        let stop = self.shared.with(|state| {
            let (stop, ends) = self.append(state, (records, sequences), verdict)?;
            replication.ends = ends;
            Ok(stop)
        })?;
        let slow = self.shared.arrive(&self.client, Operation::Replicate).await;
        pause(&self.shared.env, self.shared.config.replication_latency).await;
        pause(&self.shared.env, slow.delay_after).await;
        if !replication.finish() {
            return Err(unavailable(0, "the leader changed before the records were replicated"));
        }
        pause(&self.shared.env, verdict.delay_after).await;
        if verdict.effect == Effect::LoseReply {
            return Err(unavailable(0, "the acknowledgement was lost"));
        }
        match stop {
            Stop::Done => Ok(()),
            Stop::Refused(acked, why) => Err(PublishError::Refused { acked, why }),
            Stop::Broken(acked) => Err(unavailable(acked, "the connection broke")),
        }
    }

    /// Appends records to their partitions' logs and returns up to where each must be replicated.
    fn append(
        &self,
        state: &mut State,
        (records, sequences): (&[Publish], &[u64]),
        verdict: Verdict,
    ) -> Result<(Stop, Vec<End>), PublishError> {
        if let Some(why) = state.refusal(&self.client) {
            return Err(unavailable(0, why));
        }
        let (shard, epoch) = (self.lease.shard, self.lease.epoch);
        if !state.is_newest(&self.source, shard, self.producer) {
            return Err(PublishError::Fenced { shard, epoch });
        }
        let (passes, limit) = match verdict.effect {
            Effect::FailPartway(n) => (1, n.min(records.len())),
            Effect::Duplicate => (2, records.len()),
            _ => (1, records.len()),
        };
        let mut stop = if limit < records.len() { Stop::Broken(limit) } else { Stop::Done };
        if matches!(verdict.effect, Effect::FailPartway(_)) {
            stop = Stop::Broken(limit);
        }
        let mut ends = Vec::new();
        for pass in 0..passes {
            for (index, (publish, &sequence)) in records.iter().zip(sequences).enumerate() {
                if index >= limit {
                    break;
                }
                match self.append_one(state, publish, sequence, pass > 0) {
                    Ok(end) => ends.push(end),
                    Err(why) => {
                        stop = Stop::Refused(index, why);
                        break;
                    }
                }
            }
        }
        Ok((stop, ends))
    }

    fn append_one(
        &self,
        state: &mut State,
        publish: &Publish,
        sequence: u64,
        again: bool,
    ) -> Result<End, String> {
        let record = &publish.record;
        let bound = self.shared.config.record_bytes_max;
        if record.bytes() > bound {
            return Err(format!("it is larger than record_bytes_max, {bound}"));
        }
        if record.key.is_empty() {
            return Err("its key is empty: it would go to any partition".to_owned());
        }
        let logs = state.topics.get(&publish.topic).map_or(0, Vec::len);
        let count = u32::try_from(logs).unwrap_or(u32::MAX);
        let Some(number) = choose(&record.key, count) else {
            return Err(format!("there is no topic {}", publish.topic));
        };
        let topic = publish.topic.clone();
        let partition = TopicPartition { topic, partition: Partition(number) };
        let Some(log) = state.log_mut(&partition) else {
            return Err(format!("there is no topic {}", publish.topic));
        };
        if again || !log.has(self.producer, sequence) {
            log.append(Stored {
                record: record.clone(),
                source: Arc::clone(&self.source),
                shard: self.lease.shard,
                producer: self.producer,
                sequence,
            });
        }
        Ok(End { end: log.end(), leader_epoch: log.leader_epoch(), partition })
    }
}

/// Up to where a partition must be replicated before a call is acknowledged.
struct End {
    partition: TopicPartition,
    end: usize,
    leader_epoch: u64,
}

/// Replication under way: the broker finishes it even when its client is gone.
struct Replication<'a> {
    shared: &'a Shared,
    ends: Vec<End>,
}

impl Replication<'_> {
    /// Makes the records readable; false when a leader changed and some are lost.
    fn finish(&mut self) -> bool {
        let ends = std::mem::take(&mut self.ends);
        self.shared.with(|state| {
            let mut all = true;
            for end in &ends {
                all &= state.replicate(&end.partition, end.end, end.leader_epoch);
            }
            all
        })
    }
}

impl Drop for Replication<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

fn unavailable(acked: usize, why: &str) -> PublishError {
    PublishError::Unavailable { acked, why: why.to_owned() }
}
