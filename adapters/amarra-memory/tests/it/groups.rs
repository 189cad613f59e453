//! Consumer groups: generations, redelivery, fenced commits, and what each fault does to a poll.

use std::time::Duration;

use amarra_memory::{
    BrokerConfig, ClientId, DatabaseConfig, Effect, MemberOptions, MemoryConsumer,
};
use amarra_messaging::{Consumer, ConsumerError, Offset, Polled, Transport};
use futures_util::future::join;

use crate::world::{World, group, lease, partition, publish, secs};

async fn world_with(values: &[&str]) -> World {
    let world = World::new();
    world.broker.create_topic("t", 2).unwrap();
    send(&world, values).await;
    world.lines();
    world
}

/// Publishes values, each its own key.
async fn send(world: &World, values: &[&str]) {
    let transport = world.broker.transport(ClientId::new("relay", 1), "orders");
    let mut session = transport.open(&lease(1)).await.unwrap();
    let records: Vec<_> = values.iter().map(|v| publish("t", v, v)).collect();
    session.publish(&records).await.unwrap();
}

async fn poll(consumer: &mut MemoryConsumer) -> Polled {
    consumer.poll(100, secs(1)).await.unwrap()
}

fn assigned(polled: &Polled) -> usize {
    match polled {
        Polled::Assigned(partitions) => partitions.len(),
        other => panic!("{other:?}"),
    }
}

fn values(polled: Polled) -> Vec<String> {
    match polled {
        Polled::Records(deliveries) => {
            let text = |d: amarra_messaging::message::Delivery| {
                String::from_utf8_lossy(&d.record.value).into_owned()
            };
            let mut values: Vec<_> = deliveries.into_iter().map(text).collect();
            values.sort();
            values
        }
        other => panic!("{other:?}"),
    }
}

fn run<F: Future<Output = ()>>(test: impl FnOnce(World) -> F) {
    let harness = amarra_conformance::Harness::new(1);
    let world = harness.block_on(world_with(&["a", "b", "c"]));
    let own = world.harness.clone();
    own.block_on(test(world));
}

#[test]
fn records_come_again_until_they_are_committed() {
    run(|world| async move {
        let mut consumer = world.consumer("one", &["t"]);
        assert_eq!(assigned(&poll(&mut consumer).await), 2);
        assert_eq!(values(poll(&mut consumer).await), ["a", "b", "c"]);
        assert_eq!(poll(&mut consumer).await, Polled::Idle);
        drop(consumer);
        let mut consumer = world.consumer("two", &["t"]);
        assert_eq!(assigned(&poll(&mut consumer).await), 2);
        let ends = world
            .broker
            .inspect(|i| [0, 1].map(|n| (partition("t", n), i.high_watermark(&partition("t", n)))));
        assert_eq!(values(poll(&mut consumer).await), ["a", "b", "c"]);
        assert_eq!(world.broker.inspect(|i| i.lag(&group())), 3);
        consumer.commit(&ends).await.unwrap();
        assert_eq!(world.broker.inspect(|i| i.lag(&group())), 0);
        drop(consumer);
        let mut consumer = world.consumer("three", &["t"]);
        poll(&mut consumer).await;
        assert_eq!(poll(&mut consumer).await, Polled::Idle);
    });
}

#[test]
fn a_waiting_poll_is_woken_by_a_record_and_by_nothing_else() {
    run(|world| async move {
        let mut consumer = world.consumer("one", &["t"]);
        poll(&mut consumer).await;
        poll(&mut consumer).await;
        let start = world.env.monotonic();
        assert_eq!(consumer.poll(9, secs(7)).await.unwrap(), Polled::Idle);
        assert_eq!(world.env.monotonic().since(start), secs(7));
        let later = async {
            world.env.sleep(secs(2)).await;
            send(&world, &["d"]).await;
        };
        let (polled, ()) = join(consumer.poll(9, secs(60)), later).await;
        assert_eq!(values(polled.unwrap()), ["d"]);
        assert_eq!(world.env.monotonic().since(start), secs(9));
    });
}

#[test]
fn a_newcomer_gets_its_share_once_the_others_gave_theirs_up() {
    run(|world| async move {
        let mut one = world.consumer("one", &["t"]);
        poll(&mut one).await;
        let mut two = world.consumer("two", &["t"]);
        assert_eq!(two.poll(9, Duration::ZERO).await, Ok(Polled::Idle), "it was not given up yet");
        let commit = [(partition("t", 0), Offset(1))];
        assert_eq!(one.commit(&commit).await, Ok(()), "until it gives up it may commit");
        assert!(matches!(poll(&mut one).await, Polled::Revoked(p) if p.len() == 2));
        assert_eq!(one.commit(&commit).await, Err(ConsumerError::Fenced));
        assert_eq!(assigned(&poll(&mut one).await), 1);
        assert_eq!(assigned(&poll(&mut two).await), 1);
        assert_eq!(world.broker.inspect(|i| i.generation(&group())), 2);
        let members: Vec<_> = world.broker.inspect(|i| {
            i.members(&group()).map(|(c, p)| (c.node.to_string(), p.to_vec())).collect()
        });
        let expect = [("one", 0), ("two", 1)].map(|(c, n)| (c.to_owned(), vec![partition("t", n)]));
        assert_eq!(members, expect);
        let foreign = two.commit(&[(partition("t", 0), Offset(9))]).await;
        assert_eq!(foreign, Err(ConsumerError::Fenced), "another member's partition");
    });
}

#[test]
fn a_member_that_does_not_poll_is_expelled_and_learns_of_it() {
    run(|world| async move {
        let mut one = world.consumer("one", &["t"]);
        poll(&mut one).await;
        let mut two = world.consumer("two", &["t"]);
        let start = world.env.monotonic();
        assert_eq!(assigned(&two.poll(9, secs(60)).await.unwrap()), 2);
        let waited = world.env.monotonic().since(start);
        assert!(waited <= MemberOptions::default().session_timeout + secs(1), "{waited:?}");
        let zombie = one.commit(&[(partition("t", 0), Offset(1))]).await;
        assert_eq!(zombie, Err(ConsumerError::Fenced));
        assert!(matches!(poll(&mut one).await, Polled::Revoked(p) if p.len() == 2));
        assert!(matches!(poll(&mut two).await, Polled::Records(_)), "it did not ask yet");
        assert_eq!(one.poll(9, Duration::ZERO).await, Ok(Polled::Idle));
        assert!(matches!(poll(&mut two).await, Polled::Revoked(p) if p.len() == 2));
        assert_eq!(assigned(&poll(&mut one).await), 1);
    });
}

#[test]
fn a_member_that_polls_in_time_stays_and_one_that_is_late_may_not_commit() {
    run(|world| async move {
        let mut one = world.consumer("one", &["t"]);
        let mut two = world.consumer("two", &["t"]);
        poll(&mut one).await;
        two.poll(9, Duration::ZERO).await.unwrap();
        for _ in 0..3 {
            poll(&mut one).await;
            poll(&mut two).await;
        }
        let generation = world.broker.inspect(|i| i.generation(&group()));
        for _ in 0..5 {
            world.env.sleep(secs(6)).await;
            one.poll(9, Duration::ZERO).await.unwrap();
            two.poll(9, Duration::ZERO).await.unwrap();
        }
        assert_eq!(world.broker.inspect(|i| i.generation(&group())), generation);
        drop(two);
        for _ in 0..3 {
            poll(&mut one).await;
        }
        let offsets = [(partition("t", 0), Offset(1))];
        assert_eq!(one.commit(&offsets).await, Ok(()));
        world.env.sleep(secs(11)).await;
        assert_eq!(one.commit(&offsets).await, Err(ConsumerError::Fenced), "after its session");
    });
}

#[test]
fn a_rebalance_waits_for_the_slow_no_longer_than_its_timeout() {
    let config = BrokerConfig { rebalance_timeout: secs(3), ..BrokerConfig::default() };
    let world = World::with(DatabaseConfig::default(), config);
    world.broker.create_topic("t", 2).unwrap();
    world.run(async {
        let mut one = world.consumer("one", &["t"]);
        poll(&mut one).await;
        let mut two = world.consumer("two", &["t"]);
        let start = world.env.monotonic();
        assert_eq!(assigned(&two.poll(9, secs(60)).await.unwrap()), 2);
        assert_eq!(world.env.monotonic().since(start), secs(3));
    });
}

#[test]
fn each_member_reads_the_topics_it_subscribed_to() {
    run(|world| async move {
        world.broker.create_topic("u", 3).unwrap();
        let mut one = world.consumer("one", &["t"]);
        let mut two = world.consumer("two", &["u"]);
        poll(&mut one).await;
        two.poll(9, Duration::ZERO).await.unwrap();
        poll(&mut one).await;
        let both = [poll(&mut one).await, poll(&mut two).await];
        for (polled, (topic, count)) in both.iter().zip([("t", 2), ("u", 3)]) {
            let Polled::Assigned(partitions) = polled else { panic!("{polled:?}") };
            assert_eq!(partitions.len(), count);
            assert!(partitions.iter().all(|p| p.topic.as_str() == topic), "{partitions:?}");
        }
    });
}

#[test]
fn a_killed_member_is_missed_only_after_its_session() {
    run(|world| async move {
        let mut one = world.consumer("one", &["t"]);
        poll(&mut one).await;
        world.broker.disconnect("one");
        let answer = one.poll(9, secs(1)).await;
        assert!(matches!(answer, Err(ConsumerError::Unavailable { .. })), "{answer:?}");
        drop(one);
        let mut two = world.consumer("two", &["t"]);
        assert_eq!(poll(&mut two).await, Polled::Idle, "its destructor left the group");
        assert_eq!(assigned(&two.poll(9, secs(60)).await.unwrap()), 2);
    });
}

#[test]
fn a_member_that_leaves_hands_over_at_once() {
    run(|world| async move {
        let mut one = world.consumer("one", &["t"]);
        poll(&mut one).await;
        drop(one);
        let start = world.env.monotonic();
        let mut two = world.consumer("two", &["t"]);
        assert_eq!(assigned(&poll(&mut two).await), 2);
        assert_eq!(world.env.monotonic(), start);
    });
}

#[test]
fn a_crash_of_the_broker_forgets_members_and_keeps_offsets() {
    run(|world| async move {
        let mut one = world.consumer("one", &["t"]);
        poll(&mut one).await;
        let first = values(poll(&mut one).await);
        let ends = world
            .broker
            .inspect(|i| [0, 1].map(|n| (partition("t", n), i.high_watermark(&partition("t", n)))));
        one.commit(&ends).await.unwrap();
        world.broker.crash();
        assert!(matches!(one.poll(9, secs(1)).await, Err(ConsumerError::Unavailable { .. })));
        assert!(matches!(one.commit(&ends).await, Err(ConsumerError::Unavailable { .. })));
        world.broker.restart();
        assert_eq!(one.commit(&ends).await, Err(ConsumerError::Fenced));
        assert!(matches!(poll(&mut one).await, Polled::Revoked(_)));
        assert_eq!(assigned(&poll(&mut one).await), 2);
        assert_eq!(poll(&mut one).await, Polled::Idle);
        assert_eq!(first.len(), 3);
    });
}

#[test]
fn a_crash_wakes_a_waiting_poll() {
    run(|world| async move {
        let mut one = world.consumer("one", &["t"]);
        poll(&mut one).await;
        poll(&mut one).await;
        let crash = async {
            world.env.sleep(secs(1)).await;
            world.broker.crash();
        };
        let (answer, ()) = join(one.poll(9, secs(60)), crash).await;
        assert!(matches!(answer, Err(ConsumerError::Unavailable { .. })), "{answer:?}");
    });
}

#[test]
fn a_forced_rebalance_redelivers_from_the_committed_offset() {
    run(|world| async move {
        let mut one = world.consumer("one", &["t"]);
        poll(&mut one).await;
        let first = values(poll(&mut one).await);
        world.broker.rebalance(&group());
        assert!(matches!(poll(&mut one).await, Polled::Revoked(_)));
        assert_eq!(assigned(&poll(&mut one).await), 2);
        assert_eq!(values(poll(&mut one).await), first);
        world.script.strike("poll", Effect::Rebalance);
        assert!(matches!(poll(&mut one).await, Polled::Revoked(_)));
    });
}

#[test]
fn a_duplicated_poll_hands_the_last_batch_out_again() {
    run(|world| async move {
        let mut one = world.consumer("one", &["t"]);
        poll(&mut one).await;
        let first = poll(&mut one).await;
        world.script.strike("poll", Effect::Duplicate);
        assert_eq!(values(poll(&mut one).await), values(first));
        assert_eq!(poll(&mut one).await, Polled::Idle);
    });
}

#[test]
fn each_loss_of_an_offset_commit_says_what_is_known() {
    let check = |effect, expect: Result<(), &str>, applied: bool| {
        run(|world| async move {
            let mut one = world.consumer("one", &["t"]);
            poll(&mut one).await;
            world.script.strike("commit_offsets", effect);
            let answer = one.commit(&[(partition("t", 0), Offset(1))]).await;
            let told = match &answer {
                Ok(()) => Ok(()),
                Err(ConsumerError::Fenced) => Err("fenced"),
                Err(_) => Err("unavailable"),
            };
            assert_eq!(told, expect, "{effect:?}");
            let committed = world.broker.inspect(|i| i.committed(&group(), &partition("t", 0)));
            assert_eq!(committed, applied.then_some(Offset(1)), "{effect:?}");
        });
    };
    check(Effect::Proceed, Ok(()), true);
    check(Effect::Fail, Err("unavailable"), false);
    check(Effect::LoseRequest, Err("unavailable"), false);
    check(Effect::LoseOffsetCommit, Err("unavailable"), false);
    check(Effect::LoseReply, Err("unavailable"), true);
    check(Effect::Rebalance, Err("fenced"), false);
}

#[test]
fn a_failed_poll_loses_no_record() {
    run(|world| async move {
        let mut one = world.consumer("one", &["t"]);
        poll(&mut one).await;
        for effect in [Effect::Fail, Effect::LoseReply, Effect::LoseRequest] {
            world.script.strike("poll", effect);
            let answer = one.poll(9, secs(1)).await;
            assert!(matches!(answer, Err(ConsumerError::Unavailable { .. })), "{answer:?}");
        }
        assert_eq!(values(poll(&mut one).await).len(), 3);
    });
}

#[test]
fn paused_partitions_are_silent_and_a_seek_moves_the_next_read() {
    run(|world| async move {
        let mut one = world.consumer("one", &["t"]);
        poll(&mut one).await;
        let both = [partition("t", 0), partition("t", 1)];
        both.iter().for_each(|p| one.pause(p));
        assert_eq!(poll(&mut one).await, Polled::Idle);
        both.iter().for_each(|p| one.resume(p));
        assert_eq!(values(poll(&mut one).await).len(), 3);
        both.iter().for_each(|p| one.seek(p, Offset(0)));
        assert_eq!(values(poll(&mut one).await).len(), 3);
        one.seek(&partition("nowhere", 0), Offset(0));
        assert_eq!(poll(&mut one).await, Polled::Idle);
    });
}

#[test]
fn a_limit_is_kept_and_a_busy_partition_does_not_starve_the_other() {
    run(|world| async move {
        let many: Vec<String> = (0..40).map(|n| format!("m{n}")).collect();
        send(&world, &many.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let mut one = world.consumer("one", &["t"]);
        poll(&mut one).await;
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..2 {
            match one.poll(1, secs(1)).await.unwrap() {
                Polled::Records(records) => {
                    assert_eq!(records.len(), 1);
                    seen.extend(records.into_iter().map(|d| d.partition));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen.len(), 2);
    });
}

#[test]
fn a_topic_created_later_is_shared_out_when_it_comes() {
    run(|world| async move {
        let mut one = world.consumer("one", &["t", "late"]);
        assert_eq!(assigned(&poll(&mut one).await), 2);
        world.broker.create_topic("late", 3).unwrap();
        assert!(matches!(poll(&mut one).await, Polled::Revoked(_)));
        assert_eq!(assigned(&poll(&mut one).await), 5);
    });
}
