//! The consumer port: one member of a group, its partitions and where it reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::Monotonic;
use amarra_core::time::timeout_at;
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::Delivery;
use amarra_messaging::{Consumer, ConsumerError, Group, Offset, Polled, Topic};
use async_trait::async_trait;
use tokio::sync::Notify;

use super::Shared;
use super::group::{Member, MemberId};
use super::state::{Event, State};
use crate::client::ClientId;
use crate::config::MemberOptions;
use crate::faults::{Effect, Operation};
use crate::hooks::pause;
use crate::observer::{Delivered, OffsetsCommitted};

/// A member of a consumer group of a [`MemoryBroker`](super::MemoryBroker).
///
/// It joins at its first poll and is expelled when it does not poll again within its session
/// timeout; it then gives its partitions up and joins again at the next poll. Dropping it leaves
/// the group, unless its process was disconnected: then its session has to time out.
#[derive(Debug)]
pub struct MemoryConsumer {
    shared: Arc<Shared>,
    client: ClientId,
    group: Group,
    topics: Arc<[Topic]>,
    options: MemberOptions,
    wakeup: Arc<Notify>,
    member: Option<MemberId>,
    generation: u64,
    assigned: BTreeMap<TopicPartition, Reading>,
    /// Which of the assigned partitions the next fetch starts with.
    turn: usize,
}

/// Where a partition is read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    next: Offset,
    /// Where the last batch started, to hand it out again.
    before: Offset,
    paused: bool,
}

enum Step {
    Ready(Polled),
    Wait(Monotonic),
}

impl MemoryConsumer {
    pub(super) fn new(
        shared: Arc<Shared>,
        client: ClientId,
        group: Group,
        topics: Arc<[Topic]>,
        options: MemberOptions,
    ) -> Self {
        Self {
            shared,
            client,
            group,
            topics,
            options,
            wakeup: Arc::new(Notify::new()),
            member: None,
            generation: 0,
            assigned: BTreeMap::new(),
            turn: 0,
        }
    }

    fn step(&mut self, state: &mut State, now: Monotonic, until: Monotonic) -> Option<Polled> {
        let timeout = self.shared.config.rebalance_timeout;
        let group = state.groups.entry(self.group.clone()).or_default();
        group.expire(now, timeout);
        let alive_until = until.plus(self.options.session_timeout);
        let member = self.member.and_then(|id| group.member_mut(id));
        let Some(member) = member else {
            self.member = None;
            return self.give_up().or_else(|| self.join(state, now, alive_until));
        };
        member.alive_until = alive_until;
        if group.is_preparing() {
            let member = self.member.and_then(|id| group.member_mut(id));
            if let Some(member) = member.filter(|member| !member.joined) {
                member.joined = true;
                member.assignment.clear();
                state.complete(&self.group, now);
                if let Some(revoked) = self.give_up() {
                    return Some(revoked);
                }
            } else {
                state.complete(&self.group, now);
            }
        }
        self.take_assignment(state)
    }

    fn join(
        &mut self,
        state: &mut State,
        now: Monotonic,
        alive_until: Monotonic,
    ) -> Option<Polled> {
        let id = state.next_member();
        let until = now.plus(self.shared.config.rebalance_timeout);
        let member = Member {
            client: self.client.clone(),
            topics: Arc::clone(&self.topics),
            options: self.options.clone(),
            alive_until,
            wakeup: Arc::clone(&self.wakeup),
            joined: true,
            assignment: Vec::new(),
        };
        state.groups.entry(self.group.clone()).or_default().join(id, member, until);
        self.member = Some(id);
        state.complete(&self.group, now);
        self.take_assignment(state)
    }

    /// Gives every partition up, if there is any.
    fn give_up(&mut self) -> Option<Polled> {
        let revoked: Vec<_> = std::mem::take(&mut self.assigned).into_keys().collect();
        (!revoked.is_empty()).then_some(Polled::Revoked(revoked))
    }

    /// Learns of a generation that began.
    fn take_assignment(&mut self, state: &State) -> Option<Polled> {
        let group = state.groups.get(&self.group)?;
        if self.generation == group.generation() {
            return None;
        }
        let member = group.member(self.member?)?;
        self.generation = group.generation();
        let reading = |partition: &TopicPartition| {
            let next = group.committed(partition).unwrap_or_default();
            (partition.clone(), Reading { next, before: next, paused: false })
        };
        self.assigned = member.assignment.iter().map(reading).collect();
        (!member.assignment.is_empty()).then(|| Polled::Assigned(member.assignment.clone()))
    }

    /// Takes records from the assigned partitions, starting with another one each time so that a
    /// busy partition does not starve the others.
    fn fetch(&mut self, state: &State, limit: usize) -> Vec<Delivery> {
        let turn = self.turn.checked_rem(self.assigned.len()).unwrap_or(0);
        self.turn = turn.saturating_add(1);
        let mut deliveries = Vec::new();
        let mut readings: Vec<_> = self.assigned.iter_mut().collect();
        readings.rotate_left(turn);
        for (partition, reading) in readings {
            let room = limit.saturating_sub(deliveries.len());
            let Some(log) = state.log(partition).filter(|_| !reading.paused && room > 0) else {
                continue;
            };
            let records = log.read(reading.next.0, room);
            if records.is_empty() {
                continue;
            }
            reading.before = reading.next;
            for stored in records {
                deliveries.push(Delivery {
                    topic: partition.topic.clone(),
                    partition: partition.partition,
                    offset: reading.next,
                    record: stored.record.clone(),
                });
                reading.next = reading.next.next();
            }
        }
        deliveries
    }

    fn rewind(&mut self) {
        self.assigned.values_mut().for_each(|reading| reading.next = reading.before);
    }

    async fn arrive(&mut self) -> Result<(), ConsumerError> {
        let operation = Operation::Poll { group: &self.group, topics: &self.topics };
        let verdict = self.shared.arrive(&self.client, operation).await;
        // Both delays come first: once records are taken, nothing may keep them from the caller.
        pause(&self.shared.env, verdict.delay_after).await;
        match verdict.effect {
            Effect::Fail | Effect::LoseRequest | Effect::LoseReply => {
                return Err(unavailable("refused"));
            }
            Effect::Duplicate => self.rewind(),
            Effect::Rebalance => self.shared.rebalance(&self.group),
            _ => {}
        }
        Ok(())
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn poll(&mut self, limit: usize, wait: Duration) -> Result<Polled, ConsumerError> {
        self.arrive().await?;
        let shared = Arc::clone(&self.shared);
        let until = shared.env.monotonic().plus(wait);
        loop {
            let now = shared.env.monotonic();
            let step = shared.with(|state| {
                if let Some(why) = state.refusal(&self.client) {
                    return Err(unavailable(why));
                }
                if let Some(polled) = self.step(state, now, until) {
                    return Ok(Step::Ready(polled));
                }
                let records = self.fetch(state, limit);
                if !records.is_empty() {
                    return Ok(Step::Ready(Polled::Records(records)));
                }
                let group = state.groups.get(&self.group);
                let next = group.and_then(|group| group.next_deadline()).unwrap_or(until);
                Ok(Step::Wait(next.min(until)))
            })?;
            match step {
                Step::Ready(polled) => {
                    self.tell_delivered(&polled);
                    return Ok(polled);
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
        let operation = Operation::CommitOffsets { group: &self.group, offsets };
        let verdict = self.shared.arrive(&self.client, operation).await;
        match verdict.effect {
            Effect::Fail | Effect::LoseRequest | Effect::LoseOffsetCommit => {
                return Err(unavailable("the commit was lost"));
            }
            Effect::Rebalance => {
                self.shared.rebalance(&self.group);
                return Err(ConsumerError::Fenced);
            }
            _ => {}
        }
        let now = self.shared.env.monotonic();
        let applied = self.shared.with(|state| {
            if let Some(why) = state.refusal(&self.client) {
                return Err(unavailable(why));
            }
            let Some(group) = state.groups.get_mut(&self.group) else { return Ok(false) };
            group.expire(now, self.shared.config.rebalance_timeout);
            let applied = group.commit(self.member, self.generation, offsets);
            if applied {
                state.tell(|| {
                    Event::OffsetsCommitted(OffsetsCommitted {
                        group: self.group.clone(),
                        client: self.client.clone(),
                        generation: self.generation,
                        offsets: offsets.to_vec(),
                    })
                });
            }
            Ok(applied)
        })?;
        pause(&self.shared.env, verdict.delay_after).await;
        match (verdict.effect, applied) {
            (Effect::LoseReply, _) => Err(unavailable("the answer was lost")),
            (_, true) => Ok(()),
            (_, false) => Err(ConsumerError::Fenced),
        }
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
            *reading = Reading { next: offset, before: offset, ..*reading };
        }
    }
}

impl MemoryConsumer {
    fn tell_delivered(&self, polled: &Polled) {
        if let (Some(observer), Polled::Records(deliveries)) = (&self.shared.hooks.observer, polled)
        {
            observer.delivered(&Delivered {
                group: &self.group,
                client: &self.client,
                generation: self.generation,
                deliveries,
            });
        }
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        let now = self.shared.env.monotonic();
        let until = now.plus(self.shared.config.rebalance_timeout);
        self.shared.with(|state| {
            if state.refusal(&self.client).is_some() {
                return;
            }
            if let (Some(group), Some(id)) = (state.groups.get_mut(&self.group), self.member) {
                group.leave(id, until);
                state.complete(&self.group, now);
            }
        });
    }
}

fn unavailable(why: &str) -> ConsumerError {
    ConsumerError::Unavailable { why: why.to_owned() }
}
