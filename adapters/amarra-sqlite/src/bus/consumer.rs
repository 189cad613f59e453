//! The consumer port: one member of a group, its partitions and where it reads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use amarra_core::Monotonic;
use amarra_core::time::timeout_at;
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::Delivery;
use amarra_messaging::{Consumer, ConsumerError, Group, Offset, Polled, Record, Topic};
use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::group::{Change, Member, MemberId};
use super::request::Request;
use super::state::{Found, PartitionId, State};
use super::{Gone, MemberConfig, Shared, table};
use crate::error;

/// A member of a consumer group of a [`SqliteBus`](super::SqliteBus).
///
/// It joins at its first poll and is expelled when it does not poll again within its session
/// timeout; it then gives its partitions up and joins again at the next poll. Dropping it leaves
/// the group at once.
#[derive(Debug)]
pub struct SqliteConsumer {
    shared: Arc<Shared>,
    group: Group,
    topics: Arc<[Topic]>,
    config: MemberConfig,
    wakeup: Arc<Notify>,
    member: Option<MemberId>,
    /// Whether the file knows that the group reads these topics.
    subscribed: bool,
    assigned: BTreeMap<TopicPartition, Reading>,
    /// Which of the assigned partitions the next fetch starts with.
    turn: usize,
    /// A read of the file that is under way, also between two polls.
    ahead: Option<ReadAhead>,
}

/// Where a partition is read.
#[derive(Debug, Default)]
struct Reading {
    next: Offset,
    paused: bool,
    /// Records read ahead; the first one is the next to hand out.
    buffer: VecDeque<(Offset, Record)>,
}

#[derive(Debug)]
struct ReadAhead {
    partition: TopicPartition,
    from: Offset,
    task: JoinHandle<Result<Vec<(Offset, Record)>, sqlx::Error>>,
}

enum Step {
    Ready(Polled),
    Subscribe,
    Read { partition: TopicPartition, id: PartitionId, from: Offset, below: u64 },
    Wait(Monotonic),
}

impl SqliteConsumer {
    pub(super) fn new(
        shared: Arc<Shared>,
        group: Group,
        topics: Arc<[Topic]>,
        config: MemberConfig,
    ) -> Self {
        Self {
            shared,
            group,
            topics,
            config,
            wakeup: Arc::new(Notify::new()),
            member: None,
            subscribed: false,
            assigned: BTreeMap::new(),
            turn: 0,
            ahead: None,
        }
    }

    fn step(
        &mut self,
        state: &mut State,
        (now, until): (Monotonic, Monotonic),
        limit: usize,
    ) -> Result<Step, ConsumerError> {
        if state.closed {
            return Err(unavailable(Gone::WHY));
        }
        state.groups.entry(self.group.clone()).or_default();
        state.expire(&self.group, now);
        let alive_until = until.plus(self.config.session_timeout);
        if !self.is_alive(state, alive_until) {
            self.member = None;
            let revoked: Vec<_> = std::mem::take(&mut self.assigned).into_keys().collect();
            if !revoked.is_empty() {
                return Ok(Step::Ready(Polled::Revoked(revoked)));
            }
            self.join(state, alive_until);
        }
        if !self.subscribed {
            return Ok(Step::Subscribe);
        }
        if let Some(polled) = self.take(state) {
            return Ok(Step::Ready(polled));
        }
        if let Some(step) = self.fetch(state, limit) {
            return Ok(step);
        }
        let group = state.groups.get(&self.group);
        let next = group.and_then(super::group::GroupState::next_deadline).unwrap_or(until);
        Ok(Step::Wait(next.min(until)))
    }

    /// Tells whether the group still counts this member, and keeps it alive.
    fn is_alive(&self, state: &mut State, alive_until: Monotonic) -> bool {
        let group = state.groups.get_mut(&self.group);
        match group.and_then(|group| group.member_mut(self.member?)) {
            Some(member) => {
                member.alive_until = alive_until;
                true
            }
            None => false,
        }
    }

    fn join(&mut self, state: &mut State, alive_until: Monotonic) {
        let id = state.next_member();
        let (topics, wakeup) = (Arc::clone(&self.topics), Arc::clone(&self.wakeup));
        if let Some(group) = state.groups.get_mut(&self.group) {
            group.join(id, Member { topics, alive_until, wakeup });
        }
        self.member = Some(id);
        self.subscribed = false;
        state.rebalance(&self.group);
    }

    /// Learns what it has to give up, or what it gets.
    fn take(&mut self, state: &mut State) -> Option<Polled> {
        let group = state.groups.get_mut(&self.group)?;
        match group.take(self.member?) {
            Change::Nothing => None,
            Change::Revoked(partitions) => {
                for partition in &partitions {
                    self.assigned.remove(partition);
                }
                Some(Polled::Revoked(partitions))
            }
            Change::Assigned(partitions) => {
                for partition in &partitions {
                    let next = group.committed(partition).unwrap_or_default();
                    let reading = Reading { next, ..Reading::default() };
                    self.assigned.insert(partition.clone(), reading);
                }
                Some(Polled::Assigned(partitions))
            }
        }
    }

    /// Takes records from the assigned partitions, starting with another one each time so that a
    /// busy partition does not starve the others.
    fn fetch(&mut self, state: &State, limit: usize) -> Option<Step> {
        let turn = self.turn.checked_rem(self.assigned.len()).unwrap_or(0);
        self.turn = turn.saturating_add(1);
        let mut deliveries = Vec::new();
        let mut readings: Vec<_> = self.assigned.iter_mut().collect();
        readings.rotate_left(turn);
        for (passed, (partition, reading)) in readings.into_iter().enumerate() {
            let room = limit.saturating_sub(deliveries.len());
            let Some(id) = state.id(partition).filter(|_| !reading.paused && room > 0) else {
                continue;
            };
            let Some(log) = state.logs.get(&id) else { continue };
            if !reading.buffer.is_empty() {
                let count = room.min(reading.buffer.len());
                for (offset, record) in reading.buffer.drain(..count) {
                    reading.next = offset.next();
                    deliveries.push(deliver(partition, offset, record));
                }
                continue;
            }
            // What was before it is deleted.
            reading.next = reading.next.max(Offset(log.start));
            match log.find(reading.next.0, room) {
                Found::Nothing => {}
                Found::InMemory(records) => {
                    for record in records {
                        deliveries.push(deliver(partition, reading.next, record.clone()));
                        reading.next = reading.next.next();
                    }
                }
                Found::InFile(below) if deliveries.is_empty() => {
                    let (partition, from) = (partition.clone(), reading.next);
                    return Some(Step::Read { partition, id, from, below });
                }
                Found::InFile(_) => {
                    // The next fetch starts with it.
                    self.turn = turn.saturating_add(passed);
                    break;
                }
            }
        }
        (!deliveries.is_empty()).then_some(Step::Ready(Polled::Records(deliveries)))
    }

    /// Reads ahead from the file into the partition's buffer.
    async fn read(
        &mut self,
        (partition, id): (TopicPartition, PartitionId),
        (from, below): (Offset, u64),
    ) -> Result<(), ConsumerError> {
        let under_way = self.ahead.as_ref();
        if !under_way.is_some_and(|ahead| ahead.partition == partition && ahead.from == from) {
            let (readers, config) = (self.shared.readers.clone(), &self.shared.config);
            let bounds = (config.read_ahead, config.read_ahead_bytes);
            // A task of its own, so that a poll that is given up does not read again.
            let task =
                tokio::spawn(
                    async move { table::read(&readers, id, (from.0, below), bounds).await },
                );
            self.ahead = Some(ReadAhead { partition: partition.clone(), from, task });
        }
        let Some(ahead) = &mut self.ahead else { return Ok(()) };
        let read = (&mut ahead.task).await;
        self.ahead = None;
        let records = match read {
            Ok(Ok(records)) => records,
            Ok(Err(e)) => return Err(unavailable(&error::why(&e))),
            Err(_) => return Err(unavailable("a read was cut off")),
        };
        let start = self.shared.with(|state| state.log(&partition).map_or(0, |log| log.start));
        if records.first().is_none_or(|(first, _)| first.0 > from.0.max(start)) && from.0 >= start {
            let TopicPartition { topic, partition } = partition;
            let why = format!(
                "the file lacks records of {topic} partition {partition} from offset {from} on: \
                 restore a backup"
            );
            return Err(unavailable(&why));
        }
        let reading = self.assigned.get_mut(&partition).filter(|reading| reading.next == from);
        if let Some(reading) = reading {
            reading.buffer.extend(records);
        }
        Ok(())
    }

    async fn subscribe(&mut self) -> Result<(), ConsumerError> {
        let (group, topics) = (self.group.clone(), Arc::clone(&self.topics));
        let request = |reply| Request::Subscribe { group, topics, reply };
        self.shared.ask(request).await.unwrap_or_else(|Gone| Err(unavailable(Gone::WHY)))?;
        self.subscribed = true;
        Ok(())
    }
}

#[async_trait]
impl Consumer for SqliteConsumer {
    async fn poll(&mut self, limit: usize, wait: Duration) -> Result<Polled, ConsumerError> {
        let shared = Arc::clone(&self.shared);
        let until = shared.env.monotonic().plus(wait);
        loop {
            let now = shared.env.monotonic();
            match shared.with(|state| self.step(state, (now, until), limit))? {
                Step::Ready(polled) => return Ok(polled),
                Step::Subscribe => self.subscribe().await?,
                Step::Read { partition, id, from, below } => {
                    self.read((partition, id), (from, below)).await?;
                }
                Step::Wait(_) if now >= until => return Ok(Polled::Idle),
                Step::Wait(at) => {
                    let woken = self.wakeup.notified();
                    let _ = timeout_at(shared.env.timer.as_ref(), at, woken).await;
                }
            }
        }
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, Offset)]) -> Result<(), ConsumerError> {
        let (group, member) = (self.group.clone(), self.member);
        let offsets = offsets.to_vec();
        let request = |reply| Request::Commit { group, member, offsets, reply };
        self.shared.ask(request).await.unwrap_or_else(|Gone| Err(unavailable(Gone::WHY)))
    }

    fn pause(&mut self, partition: &TopicPartition) {
        if let Some(reading) = self.assigned.get_mut(partition) {
            reading.paused = true;
        }
    }

    fn resume(&mut self, partition: &TopicPartition) {
        if let Some(reading) = self.assigned.get_mut(partition) {
            reading.paused = false;
        }
    }

    fn seek(&mut self, partition: &TopicPartition, offset: Offset) {
        if let Some(reading) = self.assigned.get_mut(partition) {
            reading.next = offset;
            reading.buffer.clear();
        }
    }
}

impl Drop for SqliteConsumer {
    fn drop(&mut self) {
        let Some(member) = self.member else { return };
        self.shared.with(|state| {
            let group = state.groups.get_mut(&self.group);
            if group.is_some_and(|group| group.leave(member)) {
                state.rebalance(&self.group);
            }
        });
    }
}

fn deliver(at: &TopicPartition, offset: Offset, record: Record) -> Delivery {
    Delivery { topic: at.topic.clone(), partition: at.partition, offset, record }
}

fn unavailable(why: &str) -> ConsumerError {
    ConsumerError::Unavailable { why: why.to_owned() }
}
