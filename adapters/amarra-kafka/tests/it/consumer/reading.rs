//! A member with what it saw, and records for it to read.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use amarra_kafka::{ConsumerConfig, KafkaConfig, KafkaConsumer};
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::Delivery;
use amarra_messaging::{Consumer, ConsumerError, Offset, Partition, Polled, Topic};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::server::Server;
use crate::bed::{PATIENCE, create};

/// How long one poll waits.
const WAIT: Duration = Duration::from_millis(50);

/// A member, what it holds, and what came.
pub(crate) struct Reading {
    pub(crate) consumer: KafkaConsumer,
    pub(crate) assigned: BTreeSet<TopicPartition>,
    pub(crate) revocations: usize,
    pub(crate) seen: Vec<Delivery>,
    pub(crate) errors: Vec<ConsumerError>,
}

impl Reading {
    pub(crate) fn join(kafka: &KafkaConfig, group: &str, topic: &str, how: ConsumerConfig) -> Self {
        let topics = [Topic::from(topic)];
        let consumer = KafkaConsumer::new(kafka, group.into(), &topics, how).expect("a member");
        let (assigned, seen, errors) = (BTreeSet::new(), Vec::new(), Vec::new());
        Self { consumer, assigned, revocations: 0, seen, errors }
    }

    /// Polls once.
    pub(crate) async fn poll(&mut self) {
        match self.consumer.poll(100, WAIT).await {
            Ok(Polled::Records(records)) => self.seen.extend(records),
            Ok(Polled::Assigned(partitions)) => self.assigned.extend(partitions),
            Ok(Polled::Revoked(partitions)) => {
                self.revocations += 1;
                for partition in &partitions {
                    assert!(self.assigned.remove(partition), "{partition:?} was not assigned");
                }
            }
            Ok(Polled::Idle) => {}
            Err(e) => {
                self.errors.push(e);
                tokio::time::sleep(WAIT).await;
            }
        }
    }

    /// Polls until it holds so many partitions and has so many records.
    pub(crate) async fn until(&mut self, partitions: usize, records: usize) {
        poll_until(&mut [self], |m| {
            m[0].assigned.len() == partitions && m[0].seen.len() >= records
        })
        .await;
    }

    /// Polls for a while in which nothing may come.
    pub(crate) async fn idle(&mut self) {
        let before = self.seen.len();
        for _ in 0..10 {
            self.poll().await;
        }
        assert_eq!(self.seen.len(), before, "came: {:?}", &self.seen[before..]);
    }

    pub(crate) fn offsets(&self, partition: u32) -> Vec<u64> {
        let of = |d: &&Delivery| d.partition == Partition(partition);
        self.seen.iter().filter(of).map(|d| d.offset.0).collect()
    }

    pub(crate) async fn commit(
        &mut self,
        at: &TopicPartition,
        next: u64,
    ) -> Result<(), ConsumerError> {
        self.consumer.commit(&[(at.clone(), Offset(next))]).await
    }
}

/// Polls members side by side until `done`.
pub(crate) async fn poll_until(
    members: &mut [&mut Reading],
    mut done: impl FnMut(&[&mut Reading]) -> bool,
) {
    let started = Instant::now();
    while !done(members) {
        if started.elapsed() > PATIENCE {
            let state = |m: &&mut Reading| (m.assigned.clone(), m.seen.len(), m.errors.clone());
            let states: Vec<_> = members.iter().map(state).collect();
            panic!("never came about; the members now: {states:?}");
        }
        futures_util::future::join_all(members.iter_mut().map(|member| member.poll())).await;
    }
}

/// Names a partition.
pub(crate) fn at(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition { topic: Topic::from(topic), partition: Partition(partition) }
}

/// Creates a topic of a name of its own.
pub(crate) async fn topic(server: &Server, partitions: u32) -> String {
    let topic = format!("{}-things", server.prefix());
    create(&server.kafka.bootstrap(), &topic, (partitions, 1), &[]).await;
    topic
}

/// Makes a producer that knows nothing of ours, and stores each record once.
pub(crate) fn producer(bootstrap: &str) -> FutureProducer {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", bootstrap).set("linger.ms", "0");
    client.set("enable.idempotence", "true").create().expect("a producer")
}

/// Publishes numbers to one partition.
pub(crate) async fn fill(server: &Server, at: &TopicPartition, numbers: Range<u32>) {
    publish(&producer(&server.kafka.bootstrap()), at, numbers).await;
}

/// Publishes numbers to one partition, one by one.
pub(crate) async fn publish(producer: &FutureProducer, at: &TopicPartition, numbers: Range<u32>) {
    let partition = i32::try_from(at.partition.0).unwrap();
    for number in numbers {
        let value = number.to_string();
        let record = FutureRecord::to(at.topic.as_str()).key("k").payload(&value);
        producer.send(record.partition(partition), PATIENCE).await.expect("published");
    }
}
