//! A broker that goes and comes back.

use std::time::{Duration, Instant};

use amarra_kafka::KafkaConfig;
use amarra_kafka::consumer::Protocol;
use amarra_messaging::{Consumer, ConsumerError, Offset};
use testbed::{Kafka, KafkaOptions};

use super::reading::{Reading, at, fill, poll_until, producer, publish, topic};
use super::server::{Server, alone, quick};
use crate::bed::{PATIENCE, block_on, create};

async fn goes_on(server: &Server, protocol: Protocol) {
    let topic = topic(server, 1).await;
    let at = at(&topic, 0);
    fill(server, &at, 0..5).await;
    let config = KafkaConfig { request_timeout: Duration::from_secs(1), ..server.config() };
    let mut member = Reading::join(&config, &topic, &topic, quick(protocol));
    member.until(1, 5).await;
    member.commit(&at, 3).await.expect("a commit");

    tokio::task::block_in_place(|| server.kafka.kill9()).expect("killed");
    poll_until(&mut [&mut member], |m| !m[0].errors.is_empty()).await;
    let gone = |e: &ConsumerError| matches!(e, ConsumerError::Unavailable { .. });
    assert!(member.errors.iter().all(gone), "{:?}", member.errors);
    let answer = member.commit(&at, 4).await;
    assert!(answer.as_ref().is_err_and(gone), "a commit without a broker: {answer:?}");

    tokio::task::block_in_place(|| server.kafka.start_all()).expect("the server back");
    fill(server, &at, 5..8).await;
    poll_until(&mut [&mut member], |m| m[0].offsets(0).contains(&7)).await;
    // It may have been replaced meanwhile and have begun again at what was committed.
    let offsets = member.offsets(0);
    let last = offsets.iter().rposition(|offset| [3, 4, 5].contains(offset)).expect("records");
    assert_eq!(offsets[last..], (offsets[last]..8).collect::<Vec<_>>(), "as read: {offsets:?}");
    let started = Instant::now();
    while member.commit(&at, 8).await.is_err() {
        assert!(started.elapsed() < PATIENCE, "never committed: {:?}", member.errors);
        member.poll().await;
    }
}

#[test]
fn a_member_goes_on_when_the_broker_comes_back() {
    alone(async |server| goes_on(server, Protocol::Classic).await);
}

#[test]
fn a_member_goes_on_when_the_broker_that_shares_comes_back() {
    alone(async |server| goes_on(server, Protocol::Consumer).await);
}

#[test]
fn a_member_goes_on_whichever_broker_of_three_dies() {
    let kafka = Kafka::start(KafkaOptions { nodes: 3, ..KafkaOptions::default() });
    let kafka = kafka.expect("a private Kafka of three nodes");
    let bootstrap = kafka.bootstrap();
    block_on(async {
        create(&bootstrap, "things", (3, 3), &[]).await;
        let config = KafkaConfig::new(&bootstrap);
        let mut member = Reading::join(&config, "g", "things", quick(Protocol::Classic));
        let producer = producer(&bootstrap);
        member.until(3, 0).await;
        // One of them leads each partition, and one coordinates the group.
        for (round, node) in (1..).zip(1..=kafka.nodes()) {
            tokio::task::block_in_place(|| kafka.kill_node(node)).expect("killed");
            let from = u32::from(node) * 10;
            for partition in 0..3 {
                publish(&producer, &at("things", partition), from..from + 4).await;
            }
            let all = |m: &Reading, p| m.seen.iter().filter(|d| d.partition.0 == p).count();
            poll_until(&mut [&mut member], |m| {
                (0..3)
                    .all(|p| all(m[0], p) >= 4 * round && m[0].assigned.contains(&at("things", p)))
            })
            .await;
            let next = u64::try_from(4 * round).unwrap();
            let offsets: Vec<_> = (0..3).map(|p| (at("things", p), Offset(next))).collect();
            let started = Instant::now();
            while member.consumer.commit(&offsets).await.is_err() {
                assert!(started.elapsed() < PATIENCE, "never committed: {:?}", member.errors);
                member.poll().await;
            }
            tokio::task::block_in_place(|| kafka.start_node(node)).expect("back");
        }
        drop(member);
        let mut next = Reading::join(&config, "g", "things", quick(Protocol::Classic));
        next.until(3, 0).await;
        next.idle().await;
        assert_eq!(next.seen, [], "committed before");
    });
}
