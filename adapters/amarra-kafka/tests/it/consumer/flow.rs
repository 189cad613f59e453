//! What is read, and how much of it at once.

use std::time::{Duration, Instant};

use amarra_core::{Entropy, EventId, SeededEntropy};
use amarra_kafka::consumer::{Isolation, Protocol};
use amarra_kafka::{ConsumerConfig, KafkaConfig, KafkaConsumer, KafkaTransport};
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::{Epoch, Owner, Shard};
use amarra_messaging::outbox::Lease;
use amarra_messaging::transport::Publish;
use amarra_messaging::{Consumer, Offset, Polled, Record, Topic, Transport};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::reading::{Reading, at, fill, topic};
use super::server::{quick, shared};
use crate::bed::{PATIENCE, create};

/// A member that holds next to nothing, so that every bound is met.
fn tiny() -> ConsumerConfig {
    let (bytes, records) = (1 << 10, 4);
    ConsumerConfig {
        fetch_bytes_max: bytes,
        partition_bytes_max: bytes,
        prefetch_bytes_max: bytes,
        partition_records_max: records,
        ..quick(Protocol::Classic)
    }
}

#[test]
fn a_seek_to_what_is_no_longer_held_reads_it_again() {
    shared(async |server| {
        let topic = topic(server, 1).await;
        let at = at(&topic, 0);
        fill(server, &at, 0..40).await;
        let mut member = Reading::join(&server.config(), &topic, &topic, tiny());
        member.until(1, 40).await;
        for from in [0, 17, 30, 1] {
            member.seen.clear();
            member.consumer.seek(&at, Offset(from));
            let rest = usize::try_from(40 - from).unwrap();
            member.until(1, rest).await;
            member.idle().await;
            assert_eq!(member.offsets(0), (from..40).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_paused_partition_that_is_full_lets_the_others_flow() {
    shared(async |server| {
        let topic = topic(server, 2).await;
        let (paused, other) = (at(&topic, 0), at(&topic, 1));
        let mut member = Reading::join(&server.config(), &topic, &topic, tiny());
        member.until(2, 0).await;
        member.consumer.pause(&paused);
        fill(server, &paused, 0..60).await;
        fill(server, &other, 0..60).await;
        for round in 1..4 {
            member.until(2, 60 * round).await;
            assert_eq!(member.offsets(0), [0_u64; 0]);
            let numbers = u32::try_from(60 * round).unwrap();
            fill(server, &other, numbers..numbers + 60).await;
        }
        member.consumer.resume(&paused);
        member.until(2, 300).await;
        member.idle().await;
        assert_eq!(member.offsets(0), (0..60).collect::<Vec<_>>());
        assert_eq!(member.offsets(1), (0..240).collect::<Vec<_>>());
    });
}

#[test]
fn a_seek_of_a_paused_partition_that_is_full_counts() {
    shared(async |server| {
        let topic = topic(server, 1).await;
        let at = at(&topic, 0);
        fill(server, &at, 0..60).await;
        let mut member = Reading::join(&server.config(), &topic, &topic, tiny());
        member.until(1, 30).await;
        member.consumer.pause(&at);
        member.idle().await;
        member.consumer.seek(&at, Offset(7));
        member.idle().await;
        member.seen.clear();
        member.consumer.resume(&at);
        member.until(1, 53).await;
        assert_eq!(member.offsets(0), (7..60).collect::<Vec<_>>());
    });
}

/// Publishes numbers by transactions of three, of which every second one is aborted.
fn publish_transactions(bootstrap: &str, topic: &str) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", bootstrap).set("transactional.id", topic);
    let producer: BaseProducer = client.create().expect("a producer");
    producer.init_transactions(PATIENCE).expect("transactions");
    for transaction in 0..6_u32 {
        producer.begin_transaction().expect("a transaction");
        for number in transaction * 3..transaction * 3 + 3 {
            let value = number.to_string();
            let record = BaseRecord::to(topic).key("k").payload(&value).partition(0);
            producer.send(record).map_err(|(e, _)| e).expect("enqueued");
        }
        producer.flush(PATIENCE).expect("sent");
        if transaction % 2 == 0 {
            producer.commit_transaction(PATIENCE).expect("committed");
        } else {
            producer.abort_transaction(PATIENCE).expect("aborted");
        }
    }
}

#[test]
fn what_was_aborted_is_not_read() {
    shared(async |server| {
        let topic = topic(server, 1).await;
        let bootstrap = server.kafka.bootstrap();
        tokio::task::block_in_place(|| publish_transactions(&bootstrap, &topic));
        let numbers = |member: &Reading| {
            let text = |d: &amarra_messaging::message::Delivery| {
                std::str::from_utf8(&d.record.value).unwrap().parse::<u32>().unwrap()
            };
            member.seen.iter().map(text).collect::<Vec<_>>()
        };
        let config = quick(Protocol::Classic);
        let mut member = Reading::join(&server.config(), &topic, &topic, config.clone());
        member.until(1, 9).await;
        member.idle().await;
        assert_eq!(numbers(&member), [0, 1, 2, 6, 7, 8, 12, 13, 14]);

        let next = member.seen.last().expect("a record").offset.next();
        member.commit(&at(&topic, 0), next.0).await.expect("a commit behind the last");
        member.consumer.seek(&at(&topic, 0), Offset(4));
        member.seen.clear();
        member.until(1, 6).await;
        assert_eq!(numbers(&member), [6, 7, 8, 12, 13, 14], "read on from an aborted record");

        let config = ConsumerConfig { isolation: Isolation::ReadUncommitted, ..config };
        let group = format!("{topic}-dirty");
        let mut member = Reading::join(&server.config(), &group, &topic, config);
        member.until(1, 18).await;
        assert_eq!(numbers(&member), (0..18).collect::<Vec<_>>());
    });
}

#[test]
fn a_record_comes_as_it_was_published() {
    shared(async |server| {
        let topic = topic(server, 1).await;
        let fence_topic = format!("{topic}-fences");
        let compacted = [("cleanup.policy", "compact")];
        create(&server.kafka.bootstrap(), &fence_topic, (1, 1), &compacted).await;
        let env = amarra_tokio::environment();
        let message = amarra_conformance::ledger::message(&env, "k");
        let ours = amarra_messaging::wire::encode(&message.envelope, None);
        let headers = [("id", "7"), ("ce_id", "7"), ("tag", ""), ("tag", "b")];
        let odd = Record { headers: headers.into_iter().collect(), ..ours.clone() };
        let bare = Record { headers: [("id", "7")].into_iter().collect(), ..ours.clone() };
        let records = [ours, odd, bare];

        let config = KafkaConfig { fence_topic, ..server.config() };
        let transport = KafkaTransport::new(config, &topic).expect("a transport");
        let lease = Lease { shard: Shard(0), epoch: Epoch(1), owner: Owner::from("relay") };
        let mut session = transport.open(&lease).await.expect("a session");
        let publish = |record: &Record| Publish {
            topic: Topic::from(topic.as_str()),
            record: record.clone(),
        };
        let all: Vec<_> = records.iter().map(publish).collect();
        session.publish(&all).await.expect("published");

        let config = quick(Protocol::Classic);
        let mut member = Reading::join(&server.config(), &topic, &topic, config);
        member.until(1, records.len()).await;
        let read: Vec<_> = member.seen.iter().map(|delivery| delivery.record.clone()).collect();
        assert_eq!(read, records);
        let envelope = amarra_messaging::wire::envelope(&read[0]).expect("an envelope");
        assert_eq!(envelope.id, message.envelope.id as EventId);
    });
}

/// What a caller may expect of each partition: the next offset, or nothing while it is paused.
struct Expected {
    next: [u64; 2],
    paused: [bool; 2],
}

impl Expected {
    fn take(&mut self, polled: Option<Polled>) {
        let Some(Polled::Records(records)) = polled else { return };
        for record in records {
            let number = usize::try_from(record.partition.0).unwrap();
            assert!(!self.paused[number], "of a paused partition: {record:?}");
            assert_eq!(record.offset.0, self.next[number], "of partition {number}");
            self.next[number] += 1;
        }
    }
}

/// Polls, gives polls up, pauses, resumes and seeks at random, by `seed`.
async fn at_random(member: &mut KafkaConsumer, partitions: &[TopicPartition; 2], seed: u64) {
    let entropy = SeededEntropy::new(seed, "flow");
    let mut expected = Expected { next: [0; 2], paused: [false; 2] };
    for _ in 0..600 {
        let number = usize::from(entropy.below(2) == 1);
        match entropy.below(12) {
            0 => {
                member.pause(&partitions[number]);
                expected.paused[number] = true;
            }
            1 | 2 => {
                member.resume(&partitions[number]);
                expected.paused[number] = false;
            }
            3 => {
                let to = entropy.below(FILLED + 1);
                member.seek(&partitions[number], Offset(to));
                expected.next[number] = to;
            }
            _ => {
                let limit = usize::try_from(entropy.below(6)).unwrap() + 1;
                let patience = Duration::from_micros(entropy.below(8_000));
                let poll = member.poll(limit, Duration::from_millis(5));
                let polled = tokio::time::timeout(patience, poll).await.ok();
                expected.take(polled.map(|polled| polled.expect("a poll")));
            }
        }
    }
    partitions.iter().for_each(|partition| member.resume(partition));
    expected.paused = [false; 2];
    let started = Instant::now();
    while expected.next != [FILLED; 2] {
        assert!(started.elapsed() < PATIENCE, "seed {seed}: stopped at {:?}", expected.next);
        expected.take(Some(member.poll(100, Duration::from_millis(50)).await.expect("a poll")));
    }
}

const FILLED: u64 = 150;

#[test]
fn whatever_is_paused_sought_and_given_up_each_partition_reads_on_without_a_gap() {
    shared(async |server| {
        let topic = topic(server, 2).await;
        let partitions = [at(&topic, 0), at(&topic, 1)];
        for partition in &partitions {
            fill(server, partition, 0..u32::try_from(FILLED).unwrap()).await;
        }
        for seed in 0..4 {
            let group = format!("{topic}-{seed}");
            let mut member = Reading::join(&server.config(), &group, &topic, tiny());
            while member.assigned.len() < 2 {
                member.poll().await;
            }
            assert_eq!(member.seen, [], "all partitions come at once");
            at_random(&mut member.consumer, &partitions, seed).await;
        }
    });
}
