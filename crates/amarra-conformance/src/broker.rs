//! What the laws of `Transport` and `Consumer` share: records, sessions, and members that poll.

use std::collections::BTreeSet;
use std::time::Duration;

use amarra_core::EventId;
use amarra_messaging::consumer::{ConsumerError, TopicPartition};
use amarra_messaging::message::{Delivery, Epoch, Shard};
use amarra_messaging::outbox::Lease;
use amarra_messaging::transport::Publish;
use amarra_messaging::{Consumer, Group, Partition, Polled, PublishError, Record, Session, Topic};
use bytes::Bytes;
use futures_util::future::join_all;

use crate::backend::BrokerBackend;
use crate::check::{Must, owner};

/// How often members are polled before a law gives up, past the time a session takes to end.
const ROUNDS: u32 = 40;

/// Creates a topic.
pub(crate) async fn topic<B: BrokerBackend>(b: &B, name: &str, partitions: u32) -> Topic {
    let topic = b.topic(name);
    b.create(&topic, partitions).await;
    topic
}

/// Makes the lease of a shard.
pub(crate) fn lease(shard: u16, epoch: u64) -> Lease {
    Lease { shard: Shard(shard), epoch: Epoch(epoch), owner: owner("relay") }
}

/// Makes a record of `key` whose value says its number.
pub(crate) fn publish(topic: &Topic, key: &str, number: u32) -> Publish {
    Publish {
        topic: topic.clone(),
        record: Record {
            key: Bytes::copy_from_slice(key.as_bytes()),
            headers: [("number", Bytes::from(number.to_string()))].into_iter().collect(),
            value: Bytes::from(number.to_string()),
        },
    }
}

/// Returns the number a record was made with.
pub(crate) fn number(delivery: &Delivery) -> u32 {
    let text = std::str::from_utf8(&delivery.record.value).unwrap_or_default();
    text.parse().must("a record has another value than was published")
}

/// Returns the numbers of one key's records, in the order delivered.
pub(crate) fn numbers(deliveries: &[Delivery], key: &str) -> Vec<u32> {
    deliveries.iter().filter(|d| d.record.key == key.as_bytes()).map(number).collect()
}

/// The outbox whose records the laws publish.
pub(crate) const SOURCE: &str = "orders";

/// Opens a session.
pub(crate) async fn open<B: BrokerBackend>(b: &B, client: &str, lease: &Lease) -> Box<dyn Session> {
    b.transport(client, SOURCE).open(lease).await.must("open a session")
}

/// Publishes until all is stored, from the first record not known to be stored on, as the relay
/// does; opens the session again when the broker was away.
pub(crate) async fn publish_all<B: BrokerBackend>(b: &B, client: &str, records: &[Publish]) {
    let mut from = 0;
    for _ in 0..ROUNDS {
        let Ok(mut session) = b.transport(client, SOURCE).open(&lease(0, 1)).await else {
            b.env().sleep(b.patience()).await;
            continue;
        };
        match session.publish(&records[from..]).await {
            Ok(()) => return,
            Err(PublishError::Unavailable { acked, .. }) => from += acked,
            Err(e) => None.must(&format!("publish: {e}")),
        }
        b.env().sleep(b.patience()).await;
    }
    None.must("records could not be published")
}

/// A member with what it is assigned now.
pub(crate) struct Member {
    pub(crate) consumer: Box<dyn Consumer>,
    pub(crate) assigned: BTreeSet<TopicPartition>,
    pub(crate) seen: Vec<Delivery>,
}

impl Member {
    pub(crate) async fn join<B: BrokerBackend>(
        b: &B,
        topics: &[Topic],
        group: &str,
        name: &str,
    ) -> Self {
        let consumer = b.consumer(topics, &Group::from(group), &owner(name)).await;
        Self { consumer, assigned: BTreeSet::new(), seen: Vec::new() }
    }

    /// Polls once; `true` when something came.
    pub(crate) async fn poll(&mut self, limit: usize, wait: Duration) -> bool {
        match self.consumer.poll(limit, wait).await {
            Ok(Polled::Records(records)) => {
                assert!(records.len() <= limit, "{} records, limit {limit}", records.len());
                assert!(!records.is_empty(), "a poll brought no records instead of being idle");
                for record in &records {
                    let from = partition(&record.topic, record.partition.0);
                    assert!(self.assigned.contains(&from), "a record of a foreign partition");
                }
                self.seen.extend(records);
            }
            Ok(Polled::Assigned(partitions)) => self.assigned.extend(partitions),
            Ok(Polled::Revoked(partitions)) => {
                for partition in partitions {
                    assert!(self.assigned.remove(&partition), "{partition:?} was not assigned");
                }
            }
            Ok(Polled::Idle) => return false,
            // The broker is away: the next poll tells.
            Err(_) => return false,
        }
        true
    }

    /// Commits the next offset of a partition.
    pub(crate) async fn commit(
        &mut self,
        at: &TopicPartition,
        next: u64,
    ) -> Result<(), ConsumerError> {
        self.consumer.commit(&[(at.clone(), amarra_messaging::Offset(next))]).await
    }

    /// Returns the offsets seen of one partition, in the order delivered.
    pub(crate) fn offsets(&self, partition: u32) -> Vec<u64> {
        let of = |d: &&Delivery| d.partition == Partition(partition);
        self.seen.iter().filter(of).map(|d| d.offset.0).collect()
    }
}

/// Names a partition.
pub(crate) fn partition(topic: &Topic, number: u32) -> TopicPartition {
    TopicPartition { topic: topic.clone(), partition: Partition(number) }
}

/// Polls the members side by side until `done`, or fails the law with `what`.
pub(crate) async fn poll_until<B: BrokerBackend>(
    b: &B,
    members: &mut [&mut Member],
    what: &str,
    mut done: impl FnMut(&[&mut Member]) -> bool,
) {
    let wait = b.patience();
    let sessions = b.session_timeout().saturating_mul(4).as_micros();
    let rounds = sessions.checked_div(wait.as_micros()).unwrap_or(0);
    for _ in 0..rounds.saturating_add(u128::from(ROUNDS)) {
        if done(members) {
            return;
        }
        join_all(members.iter_mut().map(|member| member.poll(100, wait))).await;
    }
    assert!(done(members), "{what}");
}

/// Polls until the members share all partitions of a topic, each held by one.
pub(crate) async fn share<B: BrokerBackend>(
    b: &B,
    topic: &Topic,
    partitions: u32,
    members: &mut [&mut Member],
) {
    let all: BTreeSet<_> = (0..partitions).map(|n| partition(topic, n)).collect();
    let fair = all.len() >= members.len();
    poll_until(b, members, "the members never shared the partitions", |members| {
        let held: usize = members.iter().map(|m| m.assigned.len()).sum();
        let union: BTreeSet<_> = members.iter().flat_map(|m| m.assigned.iter().cloned()).collect();
        let busy = members.iter().all(|m| !m.assigned.is_empty());
        held == all.len() && union == all && (busy || !fair)
    })
    .await;
}

/// Polls a member until it is idle after at least `count` records.
pub(crate) async fn drain<B: BrokerBackend>(b: &B, member: &mut Member, count: usize) {
    poll_until(b, &mut [&mut *member], "records are missing", |m| {
        m.iter().all(|member| member.seen.len() >= count)
    })
    .await;
    for _ in 0..ROUNDS {
        if !member.poll(100, b.patience()).await {
            return;
        }
    }
    None.must("a member never becomes idle")
}

/// Reads a topic from its start in a group of its own: at least `count` records, and all.
pub(crate) async fn read_all<B: BrokerBackend>(
    b: &B,
    topic: &Topic,
    count: usize,
) -> Vec<Delivery> {
    let group = format!("reader-{}", b.env().new_id::<EventId>());
    let mut member = Member::join(b, std::slice::from_ref(topic), &group, &group).await;
    poll_until(b, &mut [&mut member], "a reader got no partition", |m| {
        m.iter().all(|member| !member.assigned.is_empty())
    })
    .await;
    drain(b, &mut member, count).await;
    member.seen
}
