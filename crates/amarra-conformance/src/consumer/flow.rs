//! How records flow to one member: limits, waits, pauses, seeks.

use std::pin::pin;

use amarra_messaging::{Offset, Polled};
use bytes::Bytes;

use super::read::{fill, join};
use crate::backend::BrokerBackend;
use crate::broker::{
    Member, drain, number, partition, poll_until, publish, publish_all, share, topic,
};
use crate::check::{Must, within};
use crate::partition::{key_for, partition_of};

/// However few it asks for, a member gets on.
pub async fn con_2_a_poll_brings_at_most_its_limit<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    fill(&b, &topic, (0, 1), 0..9).await;
    let mut member = join(&b, &topic, 1, "one").await;
    for limit in [1, 3, 2, 3] {
        let before = member.seen.len();
        while member.seen.len() == before {
            assert!(member.poll(limit, b.session_timeout() / 4).await, "records are missing");
        }
    }
    drain(&b, &mut member, 9).await;
    assert_eq!(member.offsets(0), (0..9).collect::<Vec<_>>());
}

/// More than any buffer holds.
pub async fn con_2_a_long_backlog_is_read_to_its_end<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    for partition in 0..2 {
        fill(&b, &topic, (partition, 2), 0..1500).await;
    }
    let mut member = join(&b, &topic, 2, "one").await;
    poll_until(&b, &mut [&mut member], "records are missing", |m| m[0].seen.len() >= 3000).await;
    for partition in 0..2 {
        assert_eq!(member.offsets(partition), (0..1500).collect::<Vec<_>>());
    }
}

/// A member of several topics reads each from its start, in order.
pub async fn con_2_several_topics_come_each_in_order<B: BrokerBackend>(b: B) {
    let topics = [topic(&b, "things", 1).await, topic(&b, "others", 2).await];
    fill(&b, &topics[0], (0, 1), 0..5).await;
    fill(&b, &topics[1], (1, 2), 100..105).await;
    let mut member = Member::join(&b, &topics, "readers", "one").await;
    poll_until(&b, &mut [&mut member], "a partition is missing", |m| m[0].assigned.len() == 3)
        .await;
    drain(&b, &mut member, 10).await;
    for (topic, first) in topics.iter().zip([0, 100]) {
        let of = member.seen.iter().filter(|d| d.topic == *topic);
        assert_eq!(of.map(number).collect::<Vec<_>>(), (first..first + 5).collect::<Vec<_>>());
    }
}

/// Topic, partition and offset are those where the record lies.
pub async fn con_2_a_record_says_where_it_lies<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 3).await;
    let records: Vec<_> = (0..12).map(|n| publish(&topic, &format!("key-{n}"), n)).collect();
    publish_all(&b, "relay", &records).await;
    let mut member = join(&b, &topic, 3, "one").await;
    drain(&b, &mut member, 12).await;
    for delivery in &member.seen {
        assert_eq!(delivery.topic, topic);
        assert_eq!(delivery.partition.0, partition_of(&delivery.record.key, 3));
    }
    for number in 0..3 {
        let offsets = member.offsets(number);
        assert_eq!(offsets, (0..offsets.len() as u64).collect::<Vec<_>>());
    }
}

/// A member that waits is woken by a record; it does not sleep its wait out.
pub async fn con_2_a_wait_ends_with_the_first_record<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    let mut member = join(&b, &topic, 1, "one").await;
    let answer = {
        let mut poll = pin!(member.consumer.poll(10, b.session_timeout() * 20));
        let early = within(&b, poll.as_mut()).await;
        assert!(early.is_none(), "a poll of an empty partition answered {early:?}");
        fill(&b, &topic, (0, 1), 0..1).await;
        poll.await
    };
    let Ok(Polled::Records(records)) = answer else { None.must(&format!("{answer:?}")) };
    assert_eq!(records.iter().map(number).collect::<Vec<_>>(), [0]);
}

/// What is as large as a record may be comes whole, and what follows it follows.
pub async fn con_2_a_record_at_the_bound_comes_whole<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    let mut large = publish(&topic, "k", 0);
    large.record.value = Bytes::from(vec![b'x'; b.record_bytes_max()]);
    let records = [large.clone(), publish(&topic, "k", 1), large.clone()];
    publish_all(&b, "relay", &records).await;
    let mut member = join(&b, &topic, 1, "one").await;
    drain(&b, &mut member, 3).await;
    let read: Vec<_> = member.seen.into_iter().map(|d| d.record).collect();
    assert_eq!(read, records.map(|publish| publish.record));
}

/// A pause is a state, not a count.
pub async fn con_2_pausing_twice_is_pausing_once<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    let mut member = join(&b, &topic, 1, "one").await;
    member.consumer.resume(&partition(&topic, 0));
    for _ in 0..2 {
        member.consumer.pause(&partition(&topic, 0));
    }
    fill(&b, &topic, (0, 1), 0..3).await;
    assert!(!member.poll(10, b.patience()).await, "a paused partition handed out records");
    member.consumer.resume(&partition(&topic, 0));
    drain(&b, &mut member, 3).await;
    assert_eq!(member.offsets(0), [0, 1, 2]);
}

/// Each partition has its own place.
pub async fn con_2_a_seek_leaves_other_partitions_where_they_are<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    for partition in 0..2 {
        fill(&b, &topic, (partition, 2), 0..4).await;
    }
    let mut member = join(&b, &topic, 2, "one").await;
    drain(&b, &mut member, 8).await;
    member.seen.clear();
    member.consumer.seek(&partition(&topic, 1), Offset(2));
    drain(&b, &mut member, 2).await;
    assert_eq!(member.offsets(0), [0_u64; 0], "another partition moved");
    assert_eq!(member.offsets(1), [2, 3]);
}

/// A place can be chosen while nothing flows.
pub async fn con_2_a_seek_of_a_paused_partition_counts_when_it_is_resumed<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    fill(&b, &topic, (0, 1), 0..5).await;
    let mut member = join(&b, &topic, 1, "one").await;
    drain(&b, &mut member, 5).await;
    member.seen.clear();
    member.consumer.pause(&partition(&topic, 0));
    member.consumer.seek(&partition(&topic, 0), Offset(1));
    assert!(!member.poll(10, b.patience()).await, "a paused partition handed out records");
    member.consumer.resume(&partition(&topic, 0));
    drain(&b, &mut member, 4).await;
    assert_eq!(member.offsets(0), [1, 2, 3, 4]);
}

/// Nothing is there yet; what comes is read.
pub async fn con_2_a_seek_to_the_end_waits_for_what_comes<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    fill(&b, &topic, (0, 1), 0..4).await;
    let mut member = join(&b, &topic, 1, "one").await;
    drain(&b, &mut member, 4).await;
    member.seen.clear();
    member.consumer.seek(&partition(&topic, 0), Offset(4));
    assert!(!member.poll(10, b.patience()).await, "there is nothing behind the end");
    fill(&b, &topic, (0, 1), 4..6).await;
    drain(&b, &mut member, 2).await;
    assert_eq!(member.offsets(0), [4, 5]);
}

/// The one before it is forgotten.
pub async fn con_2_the_last_of_two_seeks_counts<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    fill(&b, &topic, (0, 1), 0..4).await;
    let mut member = join(&b, &topic, 1, "one").await;
    drain(&b, &mut member, 4).await;
    member.seen.clear();
    member.consumer.seek(&partition(&topic, 0), Offset(0));
    member.consumer.seek(&partition(&topic, 0), Offset(3));
    drain(&b, &mut member, 1).await;
    assert_eq!(member.offsets(0), [3]);
}

/// Readers of other groups, and other members, are not held up.
pub async fn con_2_a_pause_is_this_members_alone<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    let mut paused = join(&b, &topic, 1, "one").await;
    paused.consumer.pause(&partition(&topic, 0));
    publish_all(&b, "relay", &[publish(&topic, &key_for(0, 1), 0)]).await;
    let mut other = Member::join(&b, std::slice::from_ref(&topic), "others", "two").await;
    share(&b, &topic, 1, &mut [&mut other]).await;
    drain(&b, &mut other, 1).await;
    assert_eq!(other.offsets(0), [0]);
    assert_eq!(paused.seen, []);
}
