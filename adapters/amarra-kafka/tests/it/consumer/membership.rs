//! Members that die, come back, share a name, or speak another protocol.

use std::time::Duration;

use amarra_kafka::ConsumerConfig;
use amarra_kafka::consumer::Protocol;
use amarra_messaging::{Consumer, ConsumerError, Offset};
use testbed::{Kafka, KafkaOptions};

use super::reading::{Reading, at, fill, poll_until, topic};
use super::server::{Server, quick, shared};
use crate::bed::create;

/// A member with a name, and a session that no busy machine ends.
fn named(id: &str) -> ConsumerConfig {
    let long = Duration::from_secs(60);
    ConsumerConfig {
        instance_id: Some(id.to_owned()),
        session_timeout: long,
        max_poll_interval: long,
        ..quick(Protocol::Classic)
    }
}

/// A member that vanishes is replaced from the committed offset on, and can move it no more when it
/// comes back.
async fn a_member_is_cut_off(server: &Server, protocol: Protocol) {
    let topic = topic(server, 1).await;
    let at = at(&topic, 0);
    fill(server, &at, 0..6).await;
    let (proxy, _turn) = server.proxied().await;
    let config = amarra_kafka::KafkaConfig::new(&server.kafka.proxied_bootstrap());
    let mut dead = Reading::join(&config, &topic, &topic, quick(protocol));
    dead.until(1, 6).await;
    dead.commit(&at, 2).await.expect("a commit");

    // As good as killed: nothing of it reaches the broker, and nobody says goodbye.
    proxy.refuse(true).expect("refusing");
    proxy.cut_now();
    let mut next = Reading::join(&server.config(), &topic, &topic, quick(protocol));
    poll_until(&mut [&mut dead, &mut next], |m| m[1].seen.len() >= 4).await;
    assert_eq!(next.offsets(0), [2, 3, 4, 5]);
    assert!(!dead.errors.is_empty(), "a member without its broker is told so");
    next.commit(&at, 4).await.expect("a commit of the owner");

    proxy.refuse(false).expect("accepting");
    let refused = loop {
        match dead.commit(&at, 6).await {
            Err(ConsumerError::Unavailable { .. }) => {}
            answer => break answer,
        }
    };
    assert_eq!(refused, Err(ConsumerError::Fenced));
    poll_until(&mut [&mut dead, &mut next], |m| m[0].revocations == 1).await;
    next.commit(&at, 5).await.expect("a commit of the owner");
    drop((dead, next));
    let mut last = Reading::join(&server.config(), &topic, &topic, quick(protocol));
    last.until(1, 1).await;
    assert_eq!(last.offsets(0), [5]);
}

#[test]
fn a_member_that_is_cut_off_is_replaced_and_fenced() {
    shared(async |server| {
        a_member_is_cut_off(server, Protocol::Classic).await;
        a_member_is_cut_off(server, Protocol::Consumer).await;
    });
}

#[test]
fn a_member_gives_up_a_partition_only_once_it_knows() {
    shared(async |server| {
        let topic = topic(server, 2).await;
        for partition in 0..2 {
            fill(server, &at(&topic, partition), 0..3).await;
        }
        let config = ConsumerConfig {
            // Long enough for the test to be sure that it is not silence that ends it.
            max_poll_interval: Duration::from_secs(60),
            ..quick(Protocol::Classic)
        };
        let mut one = Reading::join(&server.config(), &topic, &topic, config);
        one.until(2, 6).await;
        let mut two = Reading::join(&server.config(), &topic, &topic, quick(Protocol::Classic));
        for _ in 0..20 {
            two.poll().await;
        }
        assert_eq!(two.seen.len(), 0, "the first member was told nothing yet");
        let offsets = [(at(&topic, 0), Offset(3)), (at(&topic, 1), Offset(2))];
        one.consumer.commit(&offsets).await.expect("a commit of work that was in flight");
        poll_until(&mut [&mut one, &mut two], |m| m.iter().all(|m| m.assigned.len() == 1)).await;
        let taken = two.assigned.first().cloned().expect("a partition");
        assert_eq!(one.commit(&taken, 1).await, Err(ConsumerError::Fenced));
        let kept = one.assigned.first().cloned().expect("a partition");
        one.commit(&kept, 3).await.expect("a commit of what it kept");
        let rest = if taken.partition.0 == 0 { vec![] } else { vec![2] };
        poll_until(&mut [&mut one, &mut two], |m| m[1].seen.len() >= rest.len()).await;
        two.idle().await;
        assert_eq!(two.offsets(taken.partition.0), rest);
    });
}

#[test]
fn a_member_with_a_name_comes_back_without_a_rebalance() {
    shared(async |server| {
        let topic = topic(server, 4).await;
        let config = server.config();
        let mut one = Reading::join(&config, &topic, &topic, named("one"));
        let mut two = Reading::join(&config, &topic, &topic, named("two"));
        poll_until(&mut [&mut one, &mut two], |m| m.iter().all(|m| m.assigned.len() == 2)).await;
        let held = one.assigned.clone();
        let revocations = two.revocations;
        drop(one);
        let mut one = Reading::join(&config, &topic, &topic, named("one"));
        poll_until(&mut [&mut one, &mut two], |m| m[0].assigned.len() == 2).await;
        assert_eq!(one.assigned, held);
        assert_eq!(two.revocations, revocations, "the other was disturbed");
    });
}

#[test]
fn of_two_members_with_one_name_the_older_ends() {
    shared(async |server| {
        let topic = topic(server, 1).await;
        let config = server.config();
        let mut old = Reading::join(&config, &topic, &topic, named("one"));
        old.until(1, 0).await;
        let mut new = Reading::join(&config, &topic, &topic, named("one"));
        poll_until(&mut [&mut old, &mut new], |m| {
            m[1].assigned.len() == 1 && m[0].errors.len() > 2
        })
        .await;
        let told = |e: &ConsumerError| e.to_string().contains("instance id");
        assert!(old.errors.iter().any(told), "{:?}", old.errors);
        assert_eq!(old.commit(&at(&topic, 0), 0).await, Err(ConsumerError::Fenced));
        assert_eq!(old.revocations, 1);
        new.commit(&at(&topic, 0), 0).await.expect("a commit of the newer");
    });
}

#[test]
fn a_member_that_is_dropped_has_left_when_it_says_so() {
    // Nothing but a goodbye ends such a session while the test has patience.
    let config = ConsumerConfig {
        session_timeout: Duration::from_secs(600),
        max_poll_interval: Duration::from_secs(600),
        ..quick(Protocol::Classic)
    };
    shared(async |server| {
        let topic = topic(server, 1).await;
        for _ in 0..3 {
            let mut member = Reading::join(&server.config(), &topic, &topic, config.clone());
            member.until(1, 0).await;
            let left = member.consumer.left();
            drop(member);
            left.await;
        }
    });
}

#[test]
fn a_group_changes_its_protocol_member_by_member() {
    shared(async |server| {
        let topic = topic(server, 4).await;
        for partition in 0..4 {
            fill(server, &at(&topic, partition), 0..5).await;
        }
        let config = server.config();
        let mut old = Reading::join(&config, &topic, &topic, quick(Protocol::Classic));
        old.until(4, 20).await;
        let offsets: Vec<_> = (0..4).map(|p| (at(&topic, p), Offset(3))).collect();
        old.consumer.commit(&offsets).await.expect("a commit");
        let mut new = Reading::join(&config, &topic, &topic, quick(Protocol::Auto));
        poll_until(&mut [&mut old, &mut new], |m| {
            m.iter().all(|m| m.assigned.len() == 2) && m[1].seen.len() >= 4
        })
        .await;
        drop(old);
        new.until(4, 8).await;
        for partition in 0..4 {
            assert_eq!(new.offsets(partition), [3, 4], "partition {partition}");
        }
    });
}

#[test]
fn where_the_broker_knows_only_the_classic_protocol_it_is_taken() {
    let classic = ("group.coordinator.rebalance.protocols".to_owned(), "classic".to_owned());
    let options = KafkaOptions { properties: vec![classic], ..KafkaOptions::default() };
    let kafka = Kafka::start(options).expect("a private Kafka");
    crate::bed::block_on(async {
        create(&kafka.bootstrap(), "things", (2, 1), &[]).await;
        let config = amarra_kafka::KafkaConfig::new(&kafka.bootstrap());
        let mut member = Reading::join(&config, "g", "things", quick(Protocol::Auto));
        member.until(2, 0).await;
        member.commit(&at("things", 0), 0).await.expect("a commit");
    });
}
