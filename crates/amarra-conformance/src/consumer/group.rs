//! Who is assigned what, as members come, go and fall silent.

use std::collections::BTreeSet;

use crate::backend::BrokerBackend;
use crate::broker::{Member, drain, partition, poll_until, publish, publish_all, share, topic};
use crate::partition::key_for;

/// Two members, four partitions: all are held, none by both, and each reads its own only.
pub async fn con_1_members_share_all_partitions_and_none_twice<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 4).await;
    let topics = [topic.clone()];
    let mut one = Member::join(&b, &topics, "readers", "one").await;
    let mut two = Member::join(&b, &topics, "readers", "two").await;
    share(&b, &topic, 4, &mut [&mut one, &mut two]).await;
    assert!(one.assigned.is_disjoint(&two.assigned));
    let records: Vec<_> = (0..4).map(|n| publish(&topic, &key_for(n, 4), n)).collect();
    publish_all(&b, "relay", &records).await;
    poll_until(&b, &mut [&mut one, &mut two], "records are missing", |members| {
        members.iter().map(|m| m.seen.len()).sum::<usize>() >= 4
    })
    .await;
    for member in [&one, &two] {
        let read: BTreeSet<_> =
            member.seen.iter().map(|d| partition(&d.topic, d.partition.0)).collect();
        assert_eq!(read, member.assigned, "a member read what it does not hold");
    }
}

/// A member that held everything gives some up, and is told before the other reads.
pub async fn con_1_one_more_member_takes_over_a_part<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 4).await;
    let topics = [topic.clone()];
    let mut one = Member::join(&b, &topics, "readers", "one").await;
    share(&b, &topic, 4, &mut [&mut one]).await;
    let mut two = Member::join(&b, &topics, "readers", "two").await;
    share(&b, &topic, 4, &mut [&mut one, &mut two]).await;
    assert!(!one.assigned.is_empty() && !two.assigned.is_empty());
}

/// What a member held goes to those who stay.
pub async fn con_1_a_member_that_leaves_hands_its_partitions_over<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 3).await;
    let topics = [topic.clone()];
    let mut one = Member::join(&b, &topics, "readers", "one").await;
    let mut two = Member::join(&b, &topics, "readers", "two").await;
    share(&b, &topic, 3, &mut [&mut one, &mut two]).await;
    drop(two);
    share(&b, &topic, 3, &mut [&mut one]).await;
}

/// A member that stops polling loses its partitions after its session, and not before.
pub async fn con_1_a_silent_member_is_replaced<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let topics = [topic.clone()];
    let mut silent = Member::join(&b, &topics, "readers", "silent").await;
    share(&b, &topic, 2, &mut [&mut silent]).await;
    let mut other = Member::join(&b, &topics, "readers", "other").await;
    share(&b, &topic, 2, &mut [&mut other]).await;
    poll_until(&b, &mut [&mut silent, &mut other], "the sleeper never came back", |members| {
        let held: usize = members.iter().map(|m| m.assigned.len()).sum();
        held == 2 && members.iter().all(|m| m.assigned.len() == 1)
    })
    .await;
}

/// A partition is not cut in two.
pub async fn con_1_more_members_than_partitions_leave_some_idle<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    let topics = [topic.clone()];
    let mut one = Member::join(&b, &topics, "readers", "one").await;
    let mut two = Member::join(&b, &topics, "readers", "two").await;
    share(&b, &topic, 1, &mut [&mut one, &mut two]).await;
    assert_eq!(one.assigned.len() + two.assigned.len(), 1);
}

/// Each group reads everything.
pub async fn con_1_groups_do_not_share_partitions<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let topics = [topic.clone()];
    let records: Vec<_> = (0..6).map(|n| publish(&topic, &format!("k{n}"), n)).collect();
    publish_all(&b, "relay", &records).await;
    for group in ["readers", "others"] {
        let mut member = Member::join(&b, &topics, group, group).await;
        share(&b, &topic, 2, &mut [&mut member]).await;
        drain(&b, &mut member, 6).await;
        assert_eq!(member.seen.len(), 6, "group {group}");
    }
}
