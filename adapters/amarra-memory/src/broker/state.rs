//! The state behind a broker's mutex.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_core::Monotonic;
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::{Epoch, Shard};
use amarra_messaging::{Group, Offset, Topic};

use super::group::{GroupState, MemberId};
use super::topic::{PartitionLog, ProducerId};
use crate::client::{ClientId, Fence};
use crate::observer::{OffsetsCommitted, Published, Rebalanced};

/// Everything a broker knows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) running: bool,
    pub(super) fence: Fence,
    pub(super) topics: BTreeMap<Topic, Vec<PartitionLog>>,
    pub(super) groups: BTreeMap<Group, GroupState>,
    producers: BTreeMap<(Arc<str>, Shard), Producer>,
    next_producer: u64,
    next_member: u64,
    /// What the observer is to be told once the lock is released, kept only if there is one.
    pub(super) events: Option<Vec<Event>>,
}

/// The newest session of one outbox shard.
#[derive(Debug, Clone, Copy)]
struct Producer {
    epoch: Epoch,
    id: ProducerId,
}

/// Something that became true.
#[derive(Debug)]
pub(super) enum Event {
    Published(Published),
    OffsetsCommitted(OffsetsCommitted),
    Rebalanced(Rebalanced),
}

impl State {
    pub(super) fn new(observing: bool) -> Self {
        Self {
            running: true,
            fence: Fence::default(),
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            producers: BTreeMap::new(),
            next_producer: 1,
            next_member: 1,
            events: observing.then(Vec::new),
        }
    }

    /// Tells why a client is not served, if it is not.
    pub(super) fn refusal(&self, client: &ClientId) -> Option<&'static str> {
        if !self.running {
            Some("the broker is down")
        } else if !self.fence.serves(client) {
            Some("this incarnation of the client was disconnected")
        } else {
            None
        }
    }

    pub(super) fn tell(&mut self, event: impl FnOnce() -> Event) {
        if let Some(events) = &mut self.events {
            events.push(event());
        }
    }

    /// Opens a session of an outbox shard: every earlier one of it is fenced. None when a newer
    /// epoch is known.
    pub(super) fn open(
        &mut self,
        source: &Arc<str>,
        shard: Shard,
        epoch: Epoch,
    ) -> Option<ProducerId> {
        let key = (Arc::clone(source), shard);
        if self.producers.get(&key).is_some_and(|newest| newest.epoch > epoch) {
            return None;
        }
        let id = ProducerId(self.next_producer);
        self.next_producer = self.next_producer.saturating_add(1);
        self.producers.insert(key, Producer { epoch, id });
        Some(id)
    }

    /// Tells whether a session is the newest of its outbox shard.
    pub(super) fn is_newest(&self, source: &Arc<str>, shard: Shard, id: ProducerId) -> bool {
        self.producers.get(&(Arc::clone(source), shard)).is_some_and(|newest| newest.id == id)
    }

    pub(super) fn log(&self, partition: &TopicPartition) -> Option<&PartitionLog> {
        self.topics.get(&partition.topic)?.get(usize::try_from(partition.partition.0).ok()?)
    }

    pub(super) fn log_mut(&mut self, partition: &TopicPartition) -> Option<&mut PartitionLog> {
        self.topics.get_mut(&partition.topic)?.get_mut(usize::try_from(partition.partition.0).ok()?)
    }

    /// Makes what is below `end` readable, unless the leader changed since `leader_epoch`.
    pub(super) fn replicate(
        &mut self,
        partition: &TopicPartition,
        end: usize,
        leader_epoch: u64,
    ) -> bool {
        let observing = self.events.is_some();
        let Some(log) = self.log_mut(partition) else { return false };
        if log.leader_epoch() != leader_epoch {
            return false;
        }
        let (first, readable) = log.replicated(end);
        if observing {
            let published: Vec<Published> = (first..)
                .zip(readable)
                .map(|(at, stored)| Published {
                    source: Arc::clone(&stored.source),
                    shard: stored.shard,
                    topic: partition.topic.clone(),
                    partition: partition.partition,
                    offset: offset(at),
                    record: stored.record.clone(),
                })
                .collect();
            let events = published.into_iter().map(Event::Published);
            self.events.get_or_insert_default().extend(events);
        }
        true
    }

    pub(super) fn next_member(&mut self) -> MemberId {
        let id = MemberId(self.next_member);
        self.next_member = self.next_member.saturating_add(1);
        id
    }

    /// Begins a group's next generation if it is due.
    pub(super) fn complete(&mut self, group: &Group, now: Monotonic) {
        let Self { topics, groups, .. } = self;
        let Some(state) = groups.get_mut(group) else { return };
        let count = |topic: &Topic| {
            topics.get(topic).map_or(0, |logs| u32::try_from(logs.len()).unwrap_or(u32::MAX))
        };
        let Some(started) = state.complete(now, count) else { return };
        let generation = state.generation();
        for (_, wakeup, partitions) in &started {
            for partition in partitions {
                if let Some(log) = self.log_mut(partition) {
                    log.readers.insert(group.clone(), Arc::clone(wakeup));
                }
            }
        }
        self.tell(|| {
            Event::Rebalanced(Rebalanced {
                group: group.clone(),
                generation,
                assignment: started.into_iter().map(|(c, _, partitions)| (c, partitions)).collect(),
            })
        });
    }

    /// Stops the broker: what is not replicated is lost, as are memberships.
    pub(super) fn crash(&mut self) {
        self.running = false;
        self.topics.values_mut().flatten().for_each(PartitionLog::change_leader);
        self.groups.values_mut().for_each(GroupState::forget_members);
    }
}

/// Turns an index of a log into an offset.
pub(super) fn offset(index: usize) -> Offset {
    Offset(u64::try_from(index).unwrap_or(u64::MAX))
}
