//! In which order records come, from where on, and that they come again until committed.

use std::pin::pin;

use amarra_messaging::{Offset, Polled, Topic};

use crate::backend::BrokerBackend;
use crate::broker::{
    Member, drain, number, partition, poll_until, publish, publish_all, share, topic,
};
use crate::check::{Must, within};
use crate::partition::key_for;

/// Publishes numbers to one partition.
pub(super) async fn fill<B: BrokerBackend>(
    b: &B,
    topic: &Topic,
    (partition, partitions): (u32, u32),
    numbers: std::ops::Range<u32>,
) {
    let key = key_for(partition, partitions);
    let records: Vec<_> = numbers.map(|n| publish(topic, &key, n)).collect();
    publish_all(b, "relay", &records).await;
}

/// Joins as the only member of "readers" and waits for everything.
pub(super) async fn join<B: BrokerBackend>(
    b: &B,
    topic: &Topic,
    partitions: u32,
    name: &str,
) -> Member {
    let mut member = Member::join(b, std::slice::from_ref(topic), "readers", name).await;
    poll_until(b, &mut [&mut member], "a lone member did not get all partitions", |m| {
        m.iter().all(|member| member.assigned.len() as u64 == u64::from(partitions))
    })
    .await;
    member
}

/// Polled in small portions, each partition counts up from 0.
pub async fn con_2_records_come_in_offset_order_without_gaps<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 3).await;
    for partition in 0..3 {
        fill(&b, &topic, (partition, 3), 0..7).await;
    }
    let mut member = join(&b, &topic, 3, "one").await;
    for _ in 0..200 {
        member.poll(4, b.patience()).await;
        if member.seen.len() >= 21 {
            break;
        }
    }
    drain(&b, &mut member, 21).await;
    for partition in 0..3 {
        assert_eq!(member.offsets(partition), (0..7).collect::<Vec<_>>());
    }
}

/// A new member begins at the offset that was committed, partition by partition.
pub async fn con_2_reading_starts_at_the_committed_offset<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    for partition in 0..2 {
        fill(&b, &topic, (partition, 2), 0..5).await;
    }
    let mut first = join(&b, &topic, 2, "one").await;
    drain(&b, &mut first, 10).await;
    first.commit(&partition(&topic, 0), 3).await.must("commit");
    drop(first);
    let mut second = join(&b, &topic, 2, "two").await;
    drain(&b, &mut second, 7).await;
    assert_eq!(second.offsets(0), [3, 4]);
    assert_eq!(second.offsets(1), [0, 1, 2, 3, 4]);
}

/// Reading goes on as records arrive.
pub async fn con_2_records_published_meanwhile_follow<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    let mut member = join(&b, &topic, 1, "one").await;
    for round in 0..3 {
        fill(&b, &topic, (0, 1), round * 3..round * 3 + 3).await;
        let count = usize::try_from(round * 3 + 3).unwrap_or(0);
        drain(&b, &mut member, count).await;
    }
    assert_eq!(member.offsets(0), (0..9).collect::<Vec<_>>());
    assert_eq!(member.seen.iter().map(number).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
}

/// The others flow.
pub async fn con_2_a_paused_partition_hands_out_nothing<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let mut member = join(&b, &topic, 2, "one").await;
    member.consumer.pause(&partition(&topic, 0));
    for partition in 0..2 {
        fill(&b, &topic, (partition, 2), 0..4).await;
    }
    drain(&b, &mut member, 4).await;
    assert_eq!(member.offsets(0), [0_u64; 0], "a paused partition handed out records");
    assert_eq!(member.offsets(1), [0, 1, 2, 3]);
}

/// Paused in the middle, it misses nothing and repeats nothing.
pub async fn con_2_a_resumed_partition_goes_on_where_it_stopped<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    fill(&b, &topic, (0, 1), 0..6).await;
    let mut member = join(&b, &topic, 1, "one").await;
    for _ in 0..200 {
        if member.seen.len() >= 2 {
            break;
        }
        member.poll(2 - member.seen.len(), b.patience()).await;
    }
    member.consumer.pause(&partition(&topic, 0));
    while member.poll(100, b.patience()).await {}
    assert_eq!(member.offsets(0), [0, 1]);
    member.consumer.resume(&partition(&topic, 0));
    drain(&b, &mut member, 6).await;
    assert_eq!(member.offsets(0), [0, 1, 2, 3, 4, 5]);
}

/// Back and forth.
pub async fn con_2_seek_reads_from_the_offset_on<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    fill(&b, &topic, (0, 1), 0..5).await;
    let mut member = join(&b, &topic, 1, "one").await;
    drain(&b, &mut member, 5).await;
    for (offset, expect) in [(2, vec![2, 3, 4]), (4, vec![4]), (0, vec![0, 1, 2, 3, 4])] {
        member.seen.clear();
        member.consumer.seek(&partition(&topic, 0), Offset(offset));
        drain(&b, &mut member, expect.len()).await;
        assert_eq!(member.offsets(0), expect);
    }
}

/// Nothing is nothing.
pub async fn con_2_an_empty_topic_is_idle<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let mut member = join(&b, &topic, 2, "one").await;
    assert!(!member.poll(10, b.patience()).await, "an empty topic brought something");
    assert_eq!(member.seen, []);
}

/// Read, not committed, gone: the next member gets all of it.
pub async fn con_3_uncommitted_records_come_again_after_a_restart<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    fill(&b, &topic, (0, 1), 0..4).await;
    for commit in [0, 1, 3] {
        let mut member = join(&b, &topic, 1, "one").await;
        drain(&b, &mut member, 1).await;
        if commit > 0 {
            member.commit(&partition(&topic, 0), commit).await.must("commit");
        }
        drop(member);
        let mut next = join(&b, &topic, 1, "one").await;
        drain(&b, &mut next, 1).await;
        assert_eq!(next.offsets(0), (commit..4).collect::<Vec<_>>());
        drop(next);
    }
}

/// A partition that changes hands starts over at its committed offset.
pub async fn con_3_uncommitted_records_come_again_after_a_rebalance<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    for partition in 0..2 {
        fill(&b, &topic, (partition, 2), 0..4).await;
    }
    let mut one = join(&b, &topic, 2, "one").await;
    drain(&b, &mut one, 8).await;
    let mut two = Member::join(&b, std::slice::from_ref(&topic), "readers", "two").await;
    share(&b, &topic, 2, &mut [&mut one, &mut two]).await;
    let taken = two.assigned.first().map(|at| at.partition.0).must("nothing was taken over");
    drain(&b, &mut two, 4).await;
    assert_eq!(two.offsets(taken), [0, 1, 2, 3]);
}

/// The broker forgets who read what, never what was committed.
pub async fn con_3_uncommitted_records_come_again_after_a_broker_crash<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    fill(&b, &topic, (0, 1), 0..4).await;
    let mut member = join(&b, &topic, 1, "one").await;
    drain(&b, &mut member, 4).await;
    b.crash().await;
    drop(member);
    let mut next = join(&b, &topic, 1, "two").await;
    drain(&b, &mut next, 4).await;
    assert_eq!(next.offsets(0), [0, 1, 2, 3]);
}

/// A poll given up at any moment, even with records on the way, hands them to the next one.
pub async fn con_3_a_dropped_poll_loses_no_record<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    let mut member = join(&b, &topic, 1, "one").await;
    for round in 0..3 {
        let answer = {
            let mut poll = pin!(member.consumer.poll(10, b.patience() * 50));
            let early = within(&b, poll.as_mut()).await;
            assert!(early.is_none(), "a poll of an empty partition answered {early:?}");
            fill(&b, &topic, (0, 1), round * 2..round * 2 + 2).await;
            b.env().timeout(b.patience() / 100, poll).await
        };
        if let Ok(Ok(Polled::Records(records))) = answer {
            member.seen.extend(records);
        }
        let count = usize::try_from(round * 2 + 2).unwrap_or(0);
        drain(&b, &mut member, count).await;
    }
    assert_eq!(member.offsets(0), [0, 1, 2, 3, 4, 5]);
}
