//! Whose commits count, and that nothing else moves an offset.

use std::collections::BTreeMap;

use amarra_core::{Class, Classify, Entropy};
use amarra_messaging::consumer::{ConsumerError, TopicPartition};
use amarra_messaging::{Offset, Topic};

use crate::backend::BrokerBackend;
use crate::broker::{Member, drain, partition, poll_until, publish, publish_all, share, topic};
use crate::check::{Must, refusal};

pub(super) async fn filled<B: BrokerBackend>(b: &B, partitions: u32) -> Topic {
    let topic = topic(b, "things", partitions).await;
    let records: Vec<_> = (0..partitions)
        .flat_map(|p| {
            let key = crate::partition::key_for(p, partitions);
            (0..4).map(move |n| (key.clone(), n))
        })
        .map(|(key, n)| publish(&topic, &key, n))
        .collect();
    publish_all(b, "relay", &records).await;
    topic
}

async fn join<B: BrokerBackend>(b: &B, topic: &Topic, partitions: u32, name: &str) -> Member {
    let mut member = Member::join(b, std::slice::from_ref(topic), "readers", name).await;
    share(b, topic, partitions, &mut [&mut member]).await;
    member
}

/// Asserts from where the group reads on, by a member of its own.
pub(super) async fn assert_next<B: BrokerBackend>(
    b: &B,
    topic: &Topic,
    partitions: u32,
    next: u64,
) {
    let mut member = join(b, topic, partitions, "checker").await;
    let rest = usize::try_from(4 - next).unwrap_or(0);
    poll_until(b, &mut [&mut member], "records are missing", |m| {
        m.iter().all(|member| member.offsets(0).len() >= rest)
    })
    .await;
    drain(b, &mut member, rest).await;
    assert_eq!(member.offsets(0), (next..4).collect::<Vec<_>>(), "the group reads on elsewhere");
}

#[track_caller]
pub(super) fn assert_fenced(answer: Result<(), ConsumerError>, what: &str) {
    let e = refusal(answer, what);
    assert_eq!(e, ConsumerError::Fenced, "{what}");
    assert_eq!(e.class(), Class::Conflict);
}

/// A member that was replaced while it worked cannot move its successor's offset.
pub async fn con_4_a_commit_of_an_older_generation_is_refused<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 1).await;
    let mut zombie = join(&b, &topic, 1, "zombie").await;
    drain(&b, &mut zombie, 4).await;
    let mut other = join(&b, &topic, 1, "other").await;
    drain(&b, &mut other, 4).await;
    assert_fenced(zombie.commit(&partition(&topic, 0), 4).await, "a commit of a zombie");
    other.commit(&partition(&topic, 0), 2).await.must("commit of the owner");
    assert_fenced(zombie.commit(&partition(&topic, 0), 4).await, "its second try");
    drop((zombie, other));
    assert_next(&b, &topic, 1, 2).await;
}

/// What another member holds is not ours to commit, nor is any of the same call.
pub async fn con_4_a_commit_of_a_foreign_partition_is_refused<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 2).await;
    let topics = [topic.clone()];
    let mut one = Member::join(&b, &topics, "readers", "one").await;
    let mut two = Member::join(&b, &topics, "readers", "two").await;
    share(&b, &topic, 2, &mut [&mut one, &mut two]).await;
    let foreign = two.assigned.first().cloned().must("the second member holds nothing");
    let own = one.assigned.first().cloned().must("the first member holds nothing");
    assert_fenced(one.commit(&foreign, 4).await, "a commit of a foreign partition");
    let both = [(own.clone(), Offset(4)), (foreign, Offset(4))];
    assert_fenced(one.consumer.commit(&both).await, "a commit of both");
    drop((one, two));
    assert_next(&b, &topic, 2, 0).await;
}

/// Who never was assigned anything has nothing to commit.
pub async fn con_4_a_commit_before_any_assignment_is_refused<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 1).await;
    let mut member = Member::join(&b, std::slice::from_ref(&topic), "readers", "early").await;
    let answer = member.commit(&partition(&topic, 0), 3).await;
    assert!(answer.is_err(), "a commit before any assignment was accepted");
    drop(member);
    assert_next(&b, &topic, 1, 0).await;
}

/// Members that read, commit, fall silent, leave and come back at random: whatever was accepted of
/// each partition only goes forward, and in the end everything was read and committed.
pub async fn con_4_accepted_commits_never_go_back_over_random_rebalances<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 3).await;
    let topics = [topic.clone()];
    let env = b.env();
    let mut accepted: BTreeMap<TopicPartition, u64> = BTreeMap::new();
    let mut members: Vec<Member> = Vec::new();
    for round in 0..60 {
        if members.len() < 3 && env.entropy.below(3) == 0 {
            members.push(Member::join(&b, &topics, "readers", &format!("m{round}")).await);
        }
        let at = usize::try_from(env.entropy.below(3)).unwrap_or(0);
        let Some(member) = members.get_mut(at) else { continue };
        match env.entropy.below(8) {
            0 => drop(members.remove(at)),
            1 => env.sleep(b.session_timeout() / 3).await,
            _ => {
                member.poll(2, b.patience()).await;
                commit_one(member, env.entropy.as_ref(), &mut accepted).await;
            }
        }
    }
    drop(members);
    let mut last = join(&b, &topic, 3, "last").await;
    let next = |number| accepted.get(&partition(&topic, number)).copied().unwrap_or(0);
    let rest: u64 = (0..3).map(|number| 4 - next(number)).sum();
    drain(&b, &mut last, usize::try_from(rest).unwrap_or(0)).await;
    for number in 0..3 {
        let rest: Vec<_> = (next(number)..4).collect();
        assert_eq!(last.offsets(number), rest, "partition {number}");
    }
}

/// Commits behind one of the records a member has read, chosen at random.
async fn commit_one(
    member: &mut Member,
    entropy: &dyn Entropy,
    accepted: &mut BTreeMap<TopicPartition, u64>,
) {
    let count = u64::try_from(member.seen.len()).unwrap_or(0);
    let at = usize::try_from(entropy.below(count)).unwrap_or(0);
    let Some(delivery) = member.seen.get(at) else { return };
    let from = partition(&delivery.topic, delivery.partition.0);
    let next = delivery.offset.0 + 1;
    let before = accepted.get(&from).copied().unwrap_or(0);
    // A member commits forward only; one that holds an old record of a lost partition may not.
    let stale = !member.assigned.contains(&from);
    if next < before && !stale {
        return;
    }
    match member.commit(&from, next).await {
        Ok(()) => {
            assert!(!stale, "a partition that was revoked was committed");
            accepted.insert(from, next);
        }
        Err(e) => assert!(e == ConsumerError::Fenced, "a commit: {e}"),
    }
}

/// Each new member goes on where the last one committed.
pub async fn con_5_a_committed_offset_survives_the_member<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 1).await;
    for next in [1, 3] {
        let mut member = join(&b, &topic, 1, &format!("member-{next}")).await;
        drain(&b, &mut member, 1).await;
        member.commit(&partition(&topic, 0), next).await.must("commit");
        drop(member);
        assert_next(&b, &topic, 1, next).await;
    }
}

/// A commit that was answered is durable.
pub async fn con_5_a_committed_offset_survives_a_broker_crash<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 1).await;
    let mut member = join(&b, &topic, 1, "one").await;
    drain(&b, &mut member, 4).await;
    member.commit(&partition(&topic, 0), 3).await.must("commit");
    b.crash().await;
    drop(member);
    assert_next(&b, &topic, 1, 3).await;
}

/// After a lost answer a commit is repeated.
pub async fn con_5_committing_again_changes_nothing<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 1).await;
    let mut member = join(&b, &topic, 1, "one").await;
    drain(&b, &mut member, 4).await;
    for _ in 0..3 {
        member.commit(&partition(&topic, 0), 2).await.must("commit");
    }
    member.consumer.commit(&[]).await.must("committing nothing");
    drop(member);
    assert_next(&b, &topic, 1, 2).await;
}

/// Another group's offset is another offset.
pub async fn con_5_groups_commit_for_themselves<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 1).await;
    let mut other = Member::join(&b, std::slice::from_ref(&topic), "others", "other").await;
    share(&b, &topic, 1, &mut [&mut other]).await;
    drain(&b, &mut other, 4).await;
    other.commit(&partition(&topic, 0), 4).await.must("commit");
    assert_next(&b, &topic, 1, 0).await;
}

/// However much is read, for however long, by however many members in turn.
pub async fn con_6_reading_commits_nothing<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 1).await;
    for round in 0..3 {
        let mut member = join(&b, &topic, 1, &format!("member-{round}")).await;
        drain(&b, &mut member, 4).await;
        assert!(!member.poll(10, b.session_timeout() / 2).await);
        drop(member);
    }
    assert_next(&b, &topic, 1, 0).await;
}

/// They are this member's reading only.
pub async fn con_6_seeking_and_pausing_commit_nothing<B: BrokerBackend>(b: B) {
    let topic = filled(&b, 1).await;
    let mut member = join(&b, &topic, 1, "one").await;
    drain(&b, &mut member, 4).await;
    member.commit(&partition(&topic, 0), 1).await.must("commit");
    member.consumer.seek(&partition(&topic, 0), Offset(3));
    member.poll(10, b.patience()).await;
    member.consumer.pause(&partition(&topic, 0));
    member.poll(10, b.patience()).await;
    member.consumer.resume(&partition(&topic, 0));
    member.poll(10, b.patience()).await;
    drop(member);
    assert_next(&b, &topic, 1, 1).await;
}
