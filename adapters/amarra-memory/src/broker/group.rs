//! A consumer group: members, generations, eager rebalances and committed offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use amarra_core::Monotonic;
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::{Offset, Topic};
use tokio::sync::Notify;

use super::assignor::assign;
use crate::client::ClientId;
use crate::config::{Assignor, MemberOptions};

/// Names one membership; a member that was expelled joins again under another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MemberId(pub(super) u64);

/// One group at its coordinator.
///
/// # State
/// Stable, or preparing a rebalance: then every member of the generation gives its partitions up
/// and joins again, or is expelled at the deadline, and the next generation begins once all have.
#[derive(Debug, Default)]
pub(super) struct GroupState {
    generation: u64,
    preparing: Option<Monotonic>,
    members: BTreeMap<MemberId, Member>,
    committed: BTreeMap<TopicPartition, Offset>,
    topics: BTreeSet<Topic>,
}

/// One member as the coordinator knows it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) client: ClientId,
    pub(super) topics: Arc<[Topic]>,
    pub(super) options: MemberOptions,
    pub(super) alive_until: Monotonic,
    pub(super) wakeup: Arc<Notify>,
    /// Whether it gave its partitions up for the generation that is being prepared.
    pub(super) joined: bool,
    pub(super) assignment: Vec<TopicPartition>,
}

/// The start of a generation: who reads what.
pub(super) type Generation = Vec<(ClientId, Arc<Notify>, Vec<TopicPartition>)>;

impl GroupState {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn is_preparing(&self) -> bool {
        self.preparing.is_some()
    }

    pub(super) fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    pub(super) fn member_mut(&mut self, id: MemberId) -> Option<&mut Member> {
        self.members.get_mut(&id)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Lists the topics that members subscribed to, ever.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.iter()
    }

    pub(super) fn join(&mut self, id: MemberId, member: Member, until: Monotonic) {
        self.topics.extend(member.topics.iter().cloned());
        self.prepare(until);
        self.members.insert(id, member);
    }

    pub(super) fn leave(&mut self, id: MemberId, until: Monotonic) {
        if self.members.remove(&id).is_some() {
            self.prepare(until);
        }
    }

    /// Starts a rebalance that waits for its members until `until`, unless one is under way.
    pub(super) fn prepare(&mut self, until: Monotonic) {
        if self.preparing.is_none() {
            self.preparing = Some(until);
            for member in self.members.values_mut() {
                member.joined = false;
                member.wakeup.notify_one();
            }
        }
    }

    /// Expels the members whose session timed out.
    pub(super) fn expire(&mut self, now: Monotonic, rebalance_timeout: Duration) {
        let before = self.members.len();
        self.members.retain(|_, member| member.alive_until > now);
        if self.members.len() < before {
            self.prepare(now.plus(rebalance_timeout));
        }
    }

    /// Begins the next generation once every member joined or the deadline passed.
    ///
    /// `partitions` gives a topic's number of them, zero for one that does not exist.
    pub(super) fn complete(
        &mut self,
        now: Monotonic,
        partitions: impl Fn(&Topic) -> u32,
    ) -> Option<Generation> {
        let until = self.preparing?;
        if now < until && !self.members.values().all(|member| member.joined) {
            return None;
        }
        self.members.retain(|_, member| member.joined);
        self.preparing = None;
        self.generation = self.generation.saturating_add(1);
        let subscribed = |topic: &Topic| {
            let subscribers = self.members.iter().filter(|(_, m)| m.topics.contains(topic));
            (topic.clone(), partitions(topic), subscribers.map(|(&id, _)| id).collect())
        };
        let topics: Vec<_> = self.topics.iter().map(subscribed).collect();
        let assignor = self.members.values().next().map_or(Assignor::Range, |m| m.options.assignor);
        let mut assignment = assign(assignor, &topics);
        let started = |(id, member): (&MemberId, &mut Member)| {
            member.assignment = assignment.remove(id).unwrap_or_default();
            member.wakeup.notify_one();
            (member.client.clone(), Arc::clone(&member.wakeup), member.assignment.clone())
        };
        Some(self.members.iter_mut().map(started).collect())
    }

    /// Returns when the group changes next if nobody calls.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.members.values().map(|member| member.alive_until).chain(self.preparing).min()
    }

    /// Commits offsets of a member's partitions, all or none; refused when the generation passed
    /// or a partition is not the member's.
    pub(super) fn commit(
        &mut self,
        member: Option<MemberId>,
        generation: u64,
        offsets: &[(TopicPartition, Offset)],
    ) -> bool {
        let Some(member) = member.and_then(|id| self.members.get(&id)) else { return false };
        let mine =
            |(partition, _): &(TopicPartition, Offset)| member.assignment.contains(partition);
        if generation != self.generation || !offsets.iter().all(mine) {
            return false;
        }
        self.committed.extend(offsets.iter().cloned());
        true
    }

    pub(super) fn committed(&self, partition: &TopicPartition) -> Option<Offset> {
        self.committed.get(partition).copied()
    }

    /// Forgets every membership, as a restart of the coordinator does.
    pub(super) fn forget_members(&mut self) {
        self.members.values().for_each(|member| member.wakeup.notify_one());
        self.members.clear();
        self.preparing = None;
        self.generation = self.generation.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_nanos(100);

    fn at(nanos: u64) -> Monotonic {
        Monotonic::from_nanos(nanos)
    }

    fn join(group: &mut GroupState, id: u64, now: u64) {
        let member = Member {
            client: ClientId::new(format!("n{id}"), 1),
            topics: [Topic::from("t")].into(),
            options: MemberOptions::default(),
            alive_until: at(now).plus(Duration::from_nanos(50)),
            wakeup: Arc::new(Notify::new()),
            joined: true,
            assignment: Vec::new(),
        };
        group.join(MemberId(id), member, at(now).plus(TIMEOUT));
    }

    fn complete(group: &mut GroupState, now: u64) -> Option<Vec<usize>> {
        let started = group.complete(at(now), |_| 3)?;
        Some(started.into_iter().map(|(_, _, partitions)| partitions.len()).collect())
    }

    fn give_up(group: &mut GroupState, id: u64) {
        let member = group.member_mut(MemberId(id)).unwrap();
        member.joined = true;
        member.assignment.clear();
    }

    fn partition(n: u32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: amarra_messaging::Partition(n) }
    }

    #[test]
    fn a_generation_begins_when_all_have_joined() {
        let mut group = GroupState::default();
        join(&mut group, 1, 0);
        assert_eq!(complete(&mut group, 0), Some(vec![3]));
        join(&mut group, 2, 1);
        assert_eq!(complete(&mut group, 1), None, "the first member still holds its partitions");
        give_up(&mut group, 1);
        assert_eq!(complete(&mut group, 2), Some(vec![2, 1]));
        assert_eq!(group.generation(), 2);
    }

    #[test]
    fn the_deadline_expels_who_did_not_join() {
        let mut group = GroupState::default();
        join(&mut group, 1, 0);
        complete(&mut group, 0);
        join(&mut group, 2, 0);
        assert_eq!(group.next_deadline(), Some(at(50)));
        assert_eq!(complete(&mut group, 99), None);
        assert_eq!(complete(&mut group, 100), Some(vec![3]));
        assert!(group.member(MemberId(1)).is_none());
    }

    #[test]
    fn a_silent_member_is_expelled() {
        let mut group = GroupState::default();
        join(&mut group, 1, 0);
        join(&mut group, 2, 0);
        complete(&mut group, 0);
        group.member_mut(MemberId(2)).unwrap().alive_until = at(500);
        group.expire(at(49), TIMEOUT);
        assert!(!group.is_preparing());
        group.expire(at(50), TIMEOUT);
        give_up(&mut group, 2);
        assert_eq!(complete(&mut group, 50), Some(vec![3]));
    }

    #[test]
    fn commits_are_fenced_by_generation_membership_and_assignment() {
        let mut group = GroupState::default();
        join(&mut group, 1, 0);
        join(&mut group, 2, 0);
        complete(&mut group, 0);
        let (one, two) = (Some(MemberId(1)), Some(MemberId(2)));
        let offsets = [(partition(0), Offset(5))];
        assert!(group.commit(one, 1, &offsets));
        assert!(!group.commit(one, 0, &offsets), "an older generation");
        assert!(!group.commit(two, 1, &offsets), "another member's partition");
        assert!(!group.commit(None, 1, &offsets), "no member");
        let mixed = [(partition(1), Offset(7)), (partition(2), Offset(7))];
        assert!(!group.commit(one, 1, &mixed), "one partition of two is not its own");
        assert_eq!(group.committed(&partition(1)), None, "all or none");
        group.prepare(at(9));
        assert!(group.commit(one, 1, &[(partition(0), Offset(6))]), "until it gives them up");
        give_up(&mut group, 1);
        assert!(!group.commit(one, 1, &offsets));
        assert_eq!(group.committed(&partition(0)), Some(Offset(6)));
    }

    #[test]
    fn offsets_outlive_the_coordinator_and_memberships_do_not() {
        let mut group = GroupState::default();
        join(&mut group, 1, 0);
        complete(&mut group, 0);
        group.commit(Some(MemberId(1)), 1, &[(partition(0), Offset(5))]);
        group.forget_members();
        assert_eq!(group.committed(&partition(0)), Some(Offset(5)));
        assert_eq!(group.members().count(), 0);
        assert!(!group.commit(Some(MemberId(1)), 1, &[(partition(0), Offset(6))]));
    }
}
