//! Partitions that change hands: what their new owners read, and whose commits count.

use std::collections::BTreeSet;

use amarra_messaging::consumer::ConsumerError;
use amarra_messaging::{Offset, Topic};

use super::commit::{assert_fenced, assert_next, filled};
use super::read::{fill, join};
use crate::backend::BrokerBackend;
use crate::broker::{Member, drain, partition, poll_until, share, topic};
use crate::check::Must;

async fn member<B: BrokerBackend>(b: &B, topic: &Topic, name: &str) -> Member {
    Member::join(b, std::slice::from_ref(topic), "readers", name).await
}

/// One group may read several topics.
pub async fn con_1_a_member_of_two_topics_is_assigned_both<B: BrokerBackend>(b: B) {
    let topics = [topic(&b, "things", 2).await, topic(&b, "others", 1).await];
    let mut member = Member::join(&b, &topics, "readers", "one").await;
    let all: BTreeSet<_> =
        [partition(&topics[0], 0), partition(&topics[0], 1), partition(&topics[1], 0)].into();
    poll_until(&b, &mut [&mut member], "a partition is missing", |m| m[0].assigned == all).await;
}

/// A process that was started again is a member like any other.
pub async fn con_1_a_member_that_comes_back_under_its_name_is_assigned<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    for _ in 0..3 {
        let mut one = member(&b, &topic, "one").await;
        share(&b, &topic, 2, &mut [&mut one]).await;
    }
}

/// Those who stay take over from each that goes.
pub async fn con_1_members_that_leave_one_by_one_hand_everything_over<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 3).await;
    let mut one = member(&b, &topic, "one").await;
    let mut two = member(&b, &topic, "two").await;
    let mut three = member(&b, &topic, "three").await;
    share(&b, &topic, 3, &mut [&mut one, &mut two, &mut three]).await;
    drop(two);
    share(&b, &topic, 3, &mut [&mut one, &mut three]).await;
    drop(three);
    share(&b, &topic, 3, &mut [&mut one]).await;
}

/// A member joins while another reads: together they have seen everything.
pub async fn con_3_a_rebalance_amid_a_backlog_loses_nothing<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    for partition in 0..2 {
        fill(&b, &topic, (partition, 2), 0..30).await;
    }
    let mut one = join(&b, &topic, 2, "one").await;
    while one.seen.len() < 8 {
        assert!(one.poll(4, b.session_timeout() / 4).await, "records are missing");
    }
    for number in 0..2 {
        let read = one.offsets(number).last().map_or(0, |offset| offset + 1);
        one.commit(&partition(&topic, number), read).await.must("commit");
    }
    let mut two = member(&b, &topic, "two").await;
    share(&b, &topic, 2, &mut [&mut one, &mut two]).await;
    poll_until(&b, &mut [&mut one, &mut two], "records were lost", |members| {
        let seen = members.iter().flat_map(|m| m.seen.iter());
        seen.map(|d| (d.partition, d.offset)).collect::<BTreeSet<_>>().len() == 60
    })
    .await;
}

/// A member that lives through a crash of the broker reads on.
pub async fn con_3_a_member_reads_on_after_a_broker_crash<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    fill(&b, &topic, (0, 1), 0..4).await;
    let mut member = join(&b, &topic, 1, "one").await;
    drain(&b, &mut member, 4).await;
    b.crash().await;
    fill(&b, &topic, (0, 1), 4..8).await;
    let offsets = |m: &Member| m.offsets(0).into_iter().collect::<BTreeSet<_>>();
    poll_until(&b, &mut [&mut member], "records were lost", |m| offsets(m[0]).len() >= 8).await;
    assert_eq!(offsets(&member), (0..8).collect());
}

/// It was told that the partition is not its own any more.
pub async fn con_4_a_commit_after_a_revocation_is_refused<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 2).await;
    let mut one = member(&b, &topic, "one").await;
    share(&b, &topic, 2, &mut [&mut one]).await;
    drain(&b, &mut one, 8).await;
    let mut two = member(&b, &topic, "two").await;
    share(&b, &topic, 2, &mut [&mut one, &mut two]).await;
    let lost = two.assigned.first().cloned().must("nothing was handed over");
    assert_fenced(one.commit(&lost, 4).await, "a commit of a revoked partition");
    drop((one, two));
    assert_next(&b, &topic, 2, 0).await;
}

/// And the old owner still may what it kept.
pub async fn con_4_after_a_rebalance_each_commits_its_own<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 2).await;
    let mut one = member(&b, &topic, "one").await;
    share(&b, &topic, 2, &mut [&mut one]).await;
    let mut two = member(&b, &topic, "two").await;
    share(&b, &topic, 2, &mut [&mut one, &mut two]).await;
    for member in [&mut one, &mut two] {
        drain(&b, member, 4).await;
        let own = member.assigned.first().cloned().must("a member holds nothing");
        let mut answer = Err(ConsumerError::Fenced);
        // The generation may move once more while the group settles.
        for _ in 0..5 {
            answer = member.commit(&own, 3).await;
            if answer.is_ok() {
                break;
            }
            member.poll(10, b.patience()).await;
        }
        answer.must("a commit of one's own partition");
    }
    drop((one, two));
    assert_next(&b, &topic, 2, 3).await;
}

/// All of a call, or none.
pub async fn con_5_one_call_commits_several_partitions<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 3).await;
    let mut one = join(&b, &topic, 3, "one").await;
    drain(&b, &mut one, 12).await;
    let offsets: Vec<_> =
        (0..3).map(|p| (partition(&topic, p), Offset(u64::from(p) + 1))).collect();
    one.consumer.commit(&offsets).await.must("commit");
    drop(one);
    let mut next = join(&b, &topic, 3, "two").await;
    drain(&b, &mut next, 6).await;
    for number in 0..3 {
        let first = u64::from(number) + 1;
        assert_eq!(next.offsets(number), (first..4).collect::<Vec<_>>());
    }
}

/// The group goes on behind the last one.
pub async fn con_5_a_later_commit_replaces_an_earlier_one<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 1).await;
    let mut one = join(&b, &topic, 1, "one").await;
    drain(&b, &mut one, 4).await;
    for next in 1..=3 {
        one.commit(&partition(&topic, 0), next).await.must("commit");
    }
    drop(one);
    assert_next(&b, &topic, 1, 3).await;
}

/// A group that is through has nothing to read, and then what is new.
pub async fn con_5_a_commit_at_the_end_leaves_what_comes<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 1).await;
    let mut one = join(&b, &topic, 1, "one").await;
    drain(&b, &mut one, 4).await;
    one.commit(&partition(&topic, 0), 4).await.must("commit");
    drop(one);
    let mut two = join(&b, &topic, 1, "two").await;
    assert!(!two.poll(10, b.patience()).await, "a committed record came again");
    fill(&b, &topic, (0, 1), 4..6).await;
    drain(&b, &mut two, 2).await;
    assert_eq!(two.offsets(0), [4, 5]);
}

/// Partition 0 of two topics is two partitions.
pub async fn con_5_topics_commit_for_themselves<B: BrokerBackend>(b: B) {
    let topics = [topic(&b, "things", 1).await, topic(&b, "others", 1).await];
    for topic in &topics {
        fill(&b, topic, (0, 1), 0..4).await;
    }
    let mut one = Member::join(&b, &topics, "readers", "one").await;
    poll_until(&b, &mut [&mut one], "a partition is missing", |m| m[0].assigned.len() == 2).await;
    drain(&b, &mut one, 8).await;
    one.commit(&partition(&topics[0], 0), 3).await.must("commit");
    drop(one);
    let mut two = Member::join(&b, &topics, "readers", "two").await;
    poll_until(&b, &mut [&mut two], "a partition is missing", |m| m[0].assigned.len() == 2).await;
    drain(&b, &mut two, 5).await;
    for (topic, first) in topics.iter().zip([3, 0]) {
        let of = two.seen.iter().filter(|d| d.topic == *topic).map(|d| d.offset.0);
        assert_eq!(of.collect::<Vec<_>>(), (first..4).collect::<Vec<_>>());
    }
}

/// Coming and going is no reading.
pub async fn con_6_joining_and_leaving_commit_nothing<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 1).await;
    for round in 0..2 {
        let mut one = join(&b, &topic, 1, &format!("member-{round}")).await;
        one.poll(2, b.patience()).await;
    }
    assert_next(&b, &topic, 1, 0).await;
}

/// Partitions that change hands take no progress along but what was committed.
pub async fn con_6_a_rebalance_commits_nothing<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 2).await;
    let mut one = member(&b, &topic, "one").await;
    share(&b, &topic, 2, &mut [&mut one]).await;
    drain(&b, &mut one, 8).await;
    let mut two = member(&b, &topic, "two").await;
    share(&b, &topic, 2, &mut [&mut one, &mut two]).await;
    drop(one);
    share(&b, &topic, 2, &mut [&mut two]).await;
    drop(two);
    assert_next(&b, &topic, 2, 0).await;
}
