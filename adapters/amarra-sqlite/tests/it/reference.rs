//! Random calls to the bus against a naive reference: lists of values and numbers of offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::{Epoch, Shard};
use amarra_messaging::murmur2::choose;
use amarra_messaging::outbox::Lease;
use amarra_messaging::transport::Publish;
use amarra_messaging::{
    Consumer, ConsumerError, Headers, Offset, Partition, Polled, PublishError, Record, Session,
    Topic, Transport,
};
use amarra_sqlite::{BusConfig, MemberConfig, SqliteBus, SqliteConsumer, Synchronous, TopicConfig};
use proptest::prelude::*;

use crate::scratch::{Scratch, runtime};

const PARTITIONS: u32 = 3;
const GROUPS: [&str; 2] = ["a", "b"];

#[derive(Debug, Clone)]
enum Call {
    /// Publishes records of these keys in a session.
    Publish(usize, Vec<u8>),
    /// Opens a session of the outbox shard, with the epoch before or the next one.
    Open(usize, bool),
    /// A member of a group joins.
    Join(usize),
    Leave(usize),
    Poll(usize, usize),
    /// A member commits what it has read of every partition it holds.
    Commit(usize),
    /// Commits a partition whoever holds it.
    CommitAny(usize, u32),
    Seek(usize, u32, u64),
    /// The process ends and starts again.
    Restart,
}

fn call() -> impl Strategy<Value = Call> {
    let keys = proptest::collection::vec(0_u8..9, 0..6);
    prop_oneof![
        5 => (0_usize..2, keys).prop_map(|(session, keys)| Call::Publish(session, keys)),
        1 => (0_usize..2, any::<bool>()).prop_map(|(session, newer)| Call::Open(session, newer)),
        2 => (0_usize..2).prop_map(Call::Join),
        1 => (0_usize..4).prop_map(Call::Leave),
        9 => (0_usize..4, 1_usize..5).prop_map(|(member, limit)| Call::Poll(member, limit)),
        2 => (0_usize..4).prop_map(Call::Commit),
        1 => (0_usize..4, 0..PARTITIONS).prop_map(|(member, p)| Call::CommitAny(member, p)),
        1 => (0_usize..4, 0..PARTITIONS, 0_u64..9).prop_map(|(m, p, to)| Call::Seek(m, p, to)),
        1 => Just(Call::Restart),
    ]
}

struct Member {
    consumer: SqliteConsumer,
    group: usize,
    /// Where it reads each partition it holds.
    reading: BTreeMap<u32, u64>,
}

/// A session, whether it is the newest of its shard.
struct Line {
    session: Box<dyn Session>,
    epoch: u64,
}

struct World {
    scratch: Scratch,
    cache_bytes: usize,
    bus: SqliteBus,
    /// By outbox shard, the newest one.
    lines: Vec<Option<Line>>,
    epochs: Vec<u64>,
    members: Vec<Member>,
    next: u64,
    logs: Vec<Vec<u64>>,
    committed: BTreeMap<(usize, u32), u64>,
}

async fn open(scratch: &Scratch, cache_bytes: usize) -> SqliteBus {
    let topics = vec![TopicConfig { topic: "things".into(), partitions: PARTITIONS }];
    let config = BusConfig {
        cache_bytes,
        read_ahead: 2,
        synchronous: Synchronous::Normal,
        ..BusConfig::new(scratch.path("bus"), topics)
    };
    SqliteBus::open(config, amarra_tokio::environment()).await.expect("a bus")
}

fn at(partition: u32) -> TopicPartition {
    TopicPartition { topic: "things".into(), partition: Partition(partition) }
}

impl World {
    async fn new(cache_bytes: usize) -> Self {
        let scratch = Scratch::new();
        let bus = open(&scratch, cache_bytes).await;
        Self {
            scratch,
            cache_bytes,
            bus,
            lines: vec![None, None],
            epochs: vec![0, 0],
            members: Vec::new(),
            next: 0,
            logs: vec![Vec::new(); PARTITIONS as usize],
            committed: BTreeMap::new(),
        }
    }

    async fn run(&mut self, call: Call) {
        match call {
            Call::Publish(shard, keys) => self.publish(shard, &keys).await,
            Call::Open(shard, newer) => self.open(shard, newer).await,
            Call::Join(group) if self.members.len() < 4 => {
                let topics = ["things".into()];
                let consumer = self.bus.consumer(GROUPS[group], &topics, MemberConfig::default());
                let consumer = consumer.expect("a member");
                self.members.push(Member { consumer, group, reading: BTreeMap::new() });
            }
            Call::Leave(member) if member < self.members.len() => {
                drop(self.members.remove(member));
            }
            Call::Poll(member, limit) if member < self.members.len() => {
                self.poll(member, limit, Duration::ZERO).await;
            }
            Call::Commit(member) if member < self.members.len() => {
                let reading = self.members[member].reading.clone();
                self.commit(member, &reading).await;
            }
            Call::CommitAny(member, partition) if member < self.members.len() => {
                self.commit(member, &[(partition, 0)].into()).await;
            }
            Call::Seek(member, partition, to) if member < self.members.len() => {
                let member = &mut self.members[member];
                member.consumer.seek(&at(partition), Offset(to));
                member.reading.entry(partition).and_modify(|next| *next = to);
            }
            Call::Restart => self.restart().await,
            _ => {}
        }
    }

    async fn publish(&mut self, shard: usize, keys: &[u8]) {
        let Some(line) = &mut self.lines[shard] else { return };
        let mut records = Vec::new();
        for key in keys {
            let key = format!("key-{key}").into_bytes();
            let partition = choose(&key, PARTITIONS).expect("a partition");
            self.logs[partition as usize].push(self.next);
            let value = self.next.to_string().into();
            let record = Record { key: key.into(), headers: Headers::new(), value };
            records.push(Publish { topic: Topic::from("things"), record });
            self.next += 1;
        }
        line.session.publish(&records).await.expect("published");
    }

    async fn open(&mut self, shard: usize, newer: bool) {
        let epoch = self.epochs[shard] + u64::from(newer);
        let lease = |epoch| Lease {
            shard: Shard(u16::try_from(shard).expect("few")),
            epoch: Epoch(epoch),
            owner: "relay".into(),
        };
        let transport = self.bus.transport("outbox");
        if epoch > 0 {
            let older = transport.open(&lease(epoch - 1)).await;
            let fenced = matches!(older, Err(PublishError::Fenced { .. }));
            assert_eq!(fenced, epoch - 1 < self.epochs[shard], "{older:?}");
        }
        let session = transport.open(&lease(epoch)).await.expect("a session");
        self.epochs[shard] = epoch;
        if let Some(mut older) = self.lines[shard].replace(Line { session, epoch }) {
            let fenced = older.session.publish(&[]).await;
            let expect = PublishError::Fenced { shard: lease(0).shard, epoch: Epoch(older.epoch) };
            assert_eq!(fenced, Err(expect));
        }
    }

    /// Polls and compares what came with the reference.
    async fn poll(&mut self, index: usize, limit: usize, wait: Duration) -> bool {
        let polled = self.members[index].consumer.poll(limit, wait).await.expect("polled");
        let Member { group, .. } = self.members[index];
        match polled {
            Polled::Idle => return false,
            Polled::Revoked(partitions) => {
                for partition in partitions {
                    let held = self.members[index].reading.remove(&partition.partition.0);
                    assert!(held.is_some(), "it did not hold {partition:?}");
                }
            }
            Polled::Assigned(partitions) => {
                for TopicPartition { partition, .. } in partitions {
                    let mut group_members = self.members.iter().filter(|m| m.group == group);
                    let held = group_members.any(|m| m.reading.contains_key(&partition.0));
                    assert!(!held, "partition {partition} has two owners");
                    let next = self.committed.get(&(group, partition.0)).copied().unwrap_or(0);
                    self.members[index].reading.insert(partition.0, next);
                }
            }
            Polled::Records(records) => {
                assert!((1..=limit).contains(&records.len()));
                for delivery in records {
                    let partition = delivery.partition.0;
                    let log = &self.logs[partition as usize];
                    let next = self.members[index].reading.get_mut(&partition).expect("its own");
                    assert_eq!(delivery.offset, Offset(*next), "a gap or a repetition");
                    let value = log[usize::try_from(*next).expect("few")].to_string();
                    assert_eq!(delivery.record.value, value.as_bytes());
                    *next += 1;
                }
            }
        }
        true
    }

    /// Commits; accepted exactly when every partition is still the member's.
    async fn commit(&mut self, index: usize, offsets: &BTreeMap<u32, u64>) {
        let Member { consumer, group, reading } = &mut self.members[index];
        let call: Vec<_> = offsets.iter().map(|(p, next)| (at(*p), Offset(*next))).collect();
        let own = offsets.keys().all(|partition| reading.contains_key(partition));
        match consumer.commit(&call).await {
            Ok(()) => {
                assert!(own, "a foreign partition was committed");
                let group = *group;
                let accepted = offsets.iter().map(|(p, next)| ((group, *p), *next));
                self.committed.extend(accepted);
            }
            // Nothing was committed by a member that has not joined yet.
            Err(ConsumerError::Fenced) => assert!(!own || offsets.is_empty()),
            Err(e) => panic!("{e}"),
        }
    }

    async fn restart(&mut self) {
        self.members.clear();
        self.lines = vec![None, None];
        self.bus.close().await;
        self.bus = open(&self.scratch, self.cache_bytes).await;
    }

    /// Lets everybody read to the end; then every partition was read by somebody of each group.
    async fn settle(&mut self) {
        loop {
            let mut any = false;
            for index in 0..self.members.len() {
                any |= self.poll(index, 3, Duration::ZERO).await;
            }
            if !any {
                break;
            }
        }
        for group in 0..GROUPS.len() {
            let members: Vec<_> = self.members.iter().filter(|m| m.group == group).collect();
            let held: Vec<_> = members.iter().flat_map(|m| m.reading.clone()).collect();
            let partitions: BTreeSet<_> = held.iter().map(|(partition, _)| *partition).collect();
            let all = if members.is_empty() { 0 } else { PARTITIONS as usize };
            assert_eq!((held.len(), partitions.len()), (all, all), "{held:?}");
            for (partition, next) in held {
                let end = u64::try_from(self.logs[partition as usize].len()).expect("few");
                assert!(next >= end, "partition {partition} was read to {next} of {end}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_bus_is_lists_and_numbers(
        calls in proptest::collection::vec(call(), 1..80),
        cache_bytes in prop_oneof![Just(0), Just(60), Just(1 << 20)],
    ) {
        runtime().block_on(async {
            let mut world = World::new(cache_bytes).await;
            world.open(0, true).await;
            world.open(1, true).await;
            for call in calls {
                world.run(call).await;
            }
            world.settle().await;
            world.bus.close().await;
        });
    }
}
