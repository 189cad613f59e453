//! What was read once stays where it is, for everybody.

use amarra_messaging::Topic;
use amarra_messaging::message::Delivery;
use futures_util::future::join as both;

use super::read::{fill, join};
use crate::backend::BrokerBackend;
use crate::broker::{drain, lease, numbers, open, poll_until, publish, read_all, topic};
use crate::check::{Must, jitter};

/// What one reader saw of each partition must be how every later one begins.
#[track_caller]
fn assert_lasts(early: &[Delivery], late: &[Delivery], partitions: u32) {
    let of = |all: &[Delivery], n: u32| {
        let of = all.iter().filter(|d| d.partition.0 == n);
        of.map(|d| (d.offset, d.record.clone())).collect::<Vec<_>>()
    };
    for number in 0..partitions {
        let (early, late) = (of(early, number), of(late, number));
        assert!(late.starts_with(&early), "partition {number}: {early:?} became {late:?}");
    }
}

async fn publish_some<B: BrokerBackend>(b: &B, topic: &Topic) {
    let env = b.env();
    let mut session = open(b, "relay", &lease(0, 1)).await;
    for call in 0..6 {
        jitter(&env).await;
        let base = call * 5;
        let records: Vec<_> =
            (base..base + 5).map(|n| publish(topic, &format!("k{}", n % 4), n)).collect();
        session.publish(&records).await.must("publish");
    }
}

/// A reader that is there while records are published sees what later ones will.
pub async fn con_7_a_record_read_while_it_is_published_stays<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let mut early = join(&b, &topic, 2, "one").await;
    let reading = async {
        poll_until(&b, &mut [&mut early], "records are missing", |m| m[0].seen.len() >= 30).await;
    };
    both(publish_some(&b, &topic), reading).await;
    let late = read_all(&b, &topic, 30).await;
    assert_eq!(late.len(), 30);
    assert_lasts(&early.seen, &late, 2);
}

/// Nobody is handed a record that a crash can take back.
pub async fn con_7_a_record_that_was_read_survives_a_crash<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    publish_some(&b, &topic).await;
    let early = read_all(&b, &topic, 30).await;
    b.crash().await;
    let late = read_all(&b, &topic, 30).await;
    assert_lasts(&early, &late, 2);
}

/// An offset is one record's, whoever reads it.
pub async fn con_7_every_group_finds_a_record_at_its_offset<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 3).await;
    for partition in 0..3 {
        fill(&b, &topic, (partition, 3), 0..5).await;
    }
    let first = read_all(&b, &topic, 15).await;
    fill(&b, &topic, (1, 3), 5..8).await;
    let second = read_all(&b, &topic, 18).await;
    assert_lasts(&first, &second, 3);
    let mut member = join(&b, &topic, 3, "one").await;
    drain(&b, &mut member, 18).await;
    assert_lasts(&second, &member.seen, 3);
}

/// Nor one that the successor of its relay would undo.
pub async fn con_7_a_record_read_before_a_takeover_stays<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    let mut early = join(&b, &topic, 1, "one").await;
    let publishing = async {
        for epoch in 1..=4_u32 {
            let mut session = open(&b, "relay", &lease(0, u64::from(epoch))).await;
            let records: Vec<_> =
                (epoch * 10..epoch * 10 + 3).map(|n| publish(&topic, "k", n)).collect();
            session.publish(&records).await.must("publish");
        }
    };
    let reading = async {
        poll_until(&b, &mut [&mut early], "records are missing", |m| m[0].seen.len() >= 12).await;
    };
    both(publishing, reading).await;
    let late = read_all(&b, &topic, 12).await;
    assert_lasts(&early.seen, &late, 1);
    assert!(numbers(&late, "k").is_sorted());
}
