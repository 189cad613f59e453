//! Random lives of a group's members against a naive model of logs and committed offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use amarra_memory::{ClientId, MemberOptions, MemoryConsumer};
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::{Consumer, ConsumerError, Offset, Polled, Transport};
use proptest::prelude::*;

use crate::world::{World, group, lease, partition, publish, secs};

const MEMBERS: usize = 3;
const PARTITIONS: u32 = 3;

/// What happens next, to one of a few members.
#[derive(Debug, Clone)]
enum Step {
    Publish {
        key: u8,
    },
    Poll {
        member: usize,
        limit: usize,
    },
    Commit {
        member: usize,
    },
    /// Leaves politely.
    Leave {
        member: usize,
    },
    /// Dies without a word.
    Kill {
        member: usize,
    },
    Rebalance,
    Pass {
        seconds: u64,
    },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..MEMBERS;
    prop_oneof![
        5 => any::<u8>().prop_map(|key| Step::Publish { key }),
        9 => (member.clone(), 1_usize..4).prop_map(|(member, limit)| Step::Poll { member, limit }),
        4 => member.clone().prop_map(|member| Step::Commit { member }),
        1 => member.clone().prop_map(|member| Step::Leave { member }),
        1 => member.prop_map(|member| Step::Kill { member }),
        1 => Just(Step::Rebalance),
        2 => (1_u64..12).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Crash),
    ]
}

/// A member as the test sees it: where it must read on in each partition it was given.
struct Member {
    consumer: MemoryConsumer,
    reading: BTreeMap<TopicPartition, Offset>,
}

struct Run {
    world: World,
    members: Vec<Option<Member>>,
    incarnations: Vec<u64>,
    published: usize,
    committed: BTreeMap<TopicPartition, Offset>,
    read: BTreeSet<(TopicPartition, Offset)>,
}

impl Run {
    fn new() -> Self {
        let world = World::new();
        world.broker.create_topic("t", PARTITIONS).unwrap();
        Self {
            world,
            members: (0..MEMBERS).map(|_| None).collect(),
            incarnations: vec![0; MEMBERS],
            published: 0,
            committed: BTreeMap::new(),
            read: BTreeSet::new(),
        }
    }

    fn member(&mut self, index: usize) -> &mut Member {
        let (world, incarnation) = (&self.world, &mut self.incarnations[index]);
        self.members[index].get_or_insert_with(|| {
            *incarnation += 1;
            let client = ClientId::new(format!("node-{index}"), *incarnation);
            let options = MemberOptions::default();
            let consumer = world.broker.consumer(client, group(), &["t".into()], options);
            Member { consumer: consumer.unwrap(), reading: BTreeMap::new() }
        })
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Publish { key } => {
                let client = ClientId::new("relay", 1);
                let transport = self.world.broker.transport(client, "orders");
                let mut session = transport.open(&lease(1)).await.unwrap();
                session.publish(&[publish("t", &key.to_string(), "v")]).await.unwrap();
                self.published += 1;
            }
            Step::Poll { member, limit } => drop(self.poll(member, limit, Duration::ZERO).await),
            Step::Commit { member } => self.commit(member).await,
            Step::Leave { member } => self.members[member] = None,
            Step::Kill { member } => {
                self.world.broker.disconnect(&format!("node-{member}"));
                self.members[member] = None;
            }
            Step::Rebalance => self.world.broker.rebalance(&group()),
            Step::Pass { seconds } => self.world.env.sleep(secs(seconds)).await,
            Step::Crash => {
                self.world.broker.crash();
                self.world.broker.restart();
            }
        }
        self.nobody_shares_a_partition();
    }

    async fn poll(&mut self, index: usize, limit: usize, wait: Duration) -> Polled {
        let committed = self.committed.clone();
        let member = self.member(index);
        let polled = member.consumer.poll(limit, wait).await.unwrap();
        match &polled {
            Polled::Assigned(partitions) => {
                assert!(member.reading.is_empty(), "assigned before the last ones were revoked");
                let start = |p: &TopicPartition| committed.get(p).copied().unwrap_or_default();
                member.reading = partitions.iter().map(|p| (p.clone(), start(p))).collect();
            }
            Polled::Revoked(partitions) => {
                let held: Vec<_> = std::mem::take(&mut member.reading).into_keys().collect();
                assert_eq!(*partitions, held, "an eager rebalance takes all");
            }
            Polled::Records(deliveries) => {
                assert!(deliveries.len() <= limit);
                let mut read = BTreeSet::new();
                for delivery in deliveries {
                    let partition = partition("t", delivery.partition.0);
                    let next = member.reading.get_mut(&partition).expect("not its partition");
                    assert_eq!(delivery.offset, *next, "a gap or a step back in {partition:?}");
                    *next = next.next();
                    read.insert((partition, delivery.offset));
                }
                self.read.extend(read);
            }
            Polled::Idle => {}
        }
        polled
    }

    async fn commit(&mut self, index: usize) {
        let member = self.member(index);
        let offsets: Vec<_> = member.reading.clone().into_iter().collect();
        if offsets.is_empty() {
            return;
        }
        match member.consumer.commit(&offsets).await {
            Ok(()) => self.committed.extend(offsets),
            Err(e) => assert_eq!(e, ConsumerError::Fenced),
        }
        self.world.broker.inspect(|i| {
            for (partition, offset) in &self.committed {
                assert_eq!(i.committed(&group(), partition), Some(*offset), "it moved by itself");
            }
        });
    }

    fn nobody_shares_a_partition(&self) {
        self.world.broker.inspect(|i| {
            let all: Vec<_> = i.members(&group()).flat_map(|(_, p)| p).collect();
            let distinct: BTreeSet<_> = all.iter().collect();
            assert_eq!(all.len(), distinct.len(), "two members of a generation share a partition");
        });
    }

    /// Whoever died is missed, and one last member reads what nobody committed.
    async fn finish(mut self) {
        self.members.iter_mut().for_each(|member| *member = None);
        self.incarnations[0] += 1;
        for _ in 0..self.published + 20 {
            if self.poll(0, 100, secs(15)).await == Polled::Idle {
                break;
            }
        }
        let ends = self.world.broker.inspect(|i| {
            (0..PARTITIONS).map(|n| i.high_watermark(&partition("t", n))).collect::<Vec<_>>()
        });
        assert_eq!(
            ends.iter().map(|end| end.0).sum::<u64>(),
            u64::try_from(self.published).unwrap()
        );
        let reading = &self.members[0].as_ref().unwrap().reading;
        assert_eq!(reading.values().copied().collect::<Vec<_>>(), ends, "something was left");
        for (n, end) in (0..).zip(&ends) {
            for at in 0..end.0 {
                assert!(self.read.contains(&(partition("t", n), Offset(at))), "{n}@{at} was lost");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// In order and without gaps, at least once, by one member at a time, from what was committed.
    #[test]
    fn any_life_of_a_group_delivers_every_record(steps in prop::collection::vec(step(), 1..80)) {
        let mut run = Run::new();
        let harness = run.world.harness.clone();
        harness.block_on(async {
            for step in steps {
                run.step(step).await;
            }
            run.finish().await;
        });
    }
}
