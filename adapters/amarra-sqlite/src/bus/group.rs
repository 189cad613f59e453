//! A consumer group: members, who holds what and who is to hold it, and committed offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use amarra_core::Monotonic;
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::{Offset, Topic};
use tokio::sync::Notify;

use super::assignor::{Assignment, assign};

/// Names one membership; a member that was expelled joins again under another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MemberId(pub(super) u64);

/// One group.
///
/// # State
/// `targets` is the assignment of the newest generation, `owners` who holds a partition: they
/// differ while a member that is to give a partition up has not polled since. It holds it, and may
/// commit it, until it does or is expelled; only then its next owner gets it. Everybody else reads
/// on meanwhile.
#[derive(Debug, Default)]
pub(super) struct GroupState {
    members: BTreeMap<MemberId, Member>,
    owners: Assignment,
    targets: Assignment,
    committed: BTreeMap<TopicPartition, Offset>,
    topics: BTreeSet<Topic>,
}

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) topics: Arc<[Topic]>,
    pub(super) alive_until: Monotonic,
    pub(super) wakeup: Arc<Notify>,
}

/// What changed for a member.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    Revoked(Vec<TopicPartition>),
    Assigned(Vec<TopicPartition>),
}

impl GroupState {
    pub(super) fn member_mut(&mut self, id: MemberId) -> Option<&mut Member> {
        self.members.get_mut(&id)
    }

    /// Lists the topics that members subscribed to, ever.
    pub(super) fn topics(&self) -> &BTreeSet<Topic> {
        &self.topics
    }

    /// Notes a subscription that the file knows.
    pub(super) fn restore_topic(&mut self, topic: Topic) {
        self.topics.insert(topic);
    }

    /// Takes the offsets of the file for the ones known.
    pub(super) fn restore_offsets(&mut self, committed: BTreeMap<TopicPartition, Offset>) {
        self.committed = committed;
    }

    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Adds a member; a rebalance is to follow.
    pub(super) fn join(&mut self, id: MemberId, member: Member) {
        self.topics.extend(member.topics.iter().cloned());
        self.members.insert(id, member);
    }

    /// Removes a member; `true` when it was one and a rebalance is to follow.
    pub(super) fn leave(&mut self, id: MemberId) -> bool {
        self.owners.retain(|_, owner| *owner != id);
        self.members.remove(&id).is_some()
    }

    /// Expels the members whose session timed out; `true` when a rebalance is to follow.
    pub(super) fn expire(&mut self, now: Monotonic) -> bool {
        let before = self.members.len();
        self.members.retain(|_, member| member.alive_until > now);
        let members = &self.members;
        self.owners.retain(|_, owner| members.contains_key(owner));
        members.len() < before
    }

    /// Begins the next generation; `partitions` lists those of every topic of the group.
    pub(super) fn rebalance(&mut self, partitions: &[TopicPartition]) {
        let members =
            self.members.iter().map(|(&id, member)| (id, Arc::clone(&member.topics))).collect();
        self.targets = assign(&self.targets, partitions, &members);
        self.members.values().for_each(|member| member.wakeup.notify_one());
    }

    /// Brings a member closer to its target: what it has to give up first, then what is free.
    pub(super) fn take(&mut self, id: MemberId) -> Change {
        let targets = &self.targets;
        let lost = |(partition, owner): (&TopicPartition, &MemberId)| {
            (*owner == id && targets.get(partition) != Some(&id)).then(|| partition.clone())
        };
        let revoked: Vec<_> = self.owners.iter().filter_map(lost).collect();
        if !revoked.is_empty() {
            for partition in &revoked {
                self.owners.remove(partition);
                let heir = targets.get(partition).and_then(|heir| self.members.get(heir));
                if let Some(heir) = heir {
                    heir.wakeup.notify_one();
                }
            }
            return Change::Revoked(revoked);
        }
        let won = |(partition, target): (&TopicPartition, &MemberId)| {
            (*target == id && !self.owners.contains_key(partition)).then(|| partition.clone())
        };
        let assigned: Vec<_> = self.targets.iter().filter_map(won).collect();
        if assigned.is_empty() {
            return Change::Nothing;
        }
        self.owners.extend(assigned.iter().map(|partition| (partition.clone(), id)));
        Change::Assigned(assigned)
    }

    /// Wakes whoever holds a partition.
    pub(super) fn wake(&self, partition: &TopicPartition) {
        let owner = self.owners.get(partition).and_then(|id| self.members.get(id));
        if let Some(owner) = owner {
            owner.wakeup.notify_one();
        }
    }

    /// Wakes every member.
    pub(super) fn wake_all(&self) {
        self.members.values().for_each(|member| member.wakeup.notify_one());
    }

    /// Returns when the group changes next if nobody calls.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.members.values().map(|member| member.alive_until).min()
    }

    /// Commits offsets of a member's partitions, all or none; refused when one is not held by it,
    /// as when its generation passed.
    pub(super) fn commit(
        &mut self,
        member: Option<MemberId>,
        offsets: &[(TopicPartition, Offset)],
    ) -> bool {
        let Some(id) = member.filter(|id| self.members.contains_key(id)) else { return false };
        if !offsets.iter().all(|(partition, _)| self.owners.get(partition) == Some(&id)) {
            return false;
        }
        self.committed.extend(offsets.iter().cloned());
        true
    }

    pub(super) fn committed(&self, partition: &TopicPartition) -> Option<Offset> {
        self.committed.get(partition).copied()
    }

    /// Forgets offsets and subscriptions.
    pub(super) fn forget(&mut self) {
        self.committed.clear();
        self.topics.clear();
    }
}

#[cfg(test)]
mod tests {
    use amarra_messaging::Partition;

    use super::*;

    fn at(nanos: u64) -> Monotonic {
        Monotonic::from_nanos(nanos)
    }

    fn partition(n: u32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: Partition(n) }
    }

    fn join(group: &mut GroupState, id: u64, alive_until: u64) {
        let member = Member {
            topics: [Topic::from("t")].into(),
            alive_until: at(alive_until),
            wakeup: Arc::new(Notify::new()),
        };
        group.join(MemberId(id), member);
        group.rebalance(&[partition(0), partition(1)]);
    }

    fn take(group: &mut GroupState, id: u64) -> Change {
        group.take(MemberId(id))
    }

    #[test]
    fn a_partition_waits_until_its_owner_gave_it_up() {
        let mut group = GroupState::default();
        join(&mut group, 1, 9);
        assert_eq!(take(&mut group, 1), Change::Assigned(vec![partition(0), partition(1)]));
        join(&mut group, 2, 9);
        assert_eq!(take(&mut group, 2), Change::Nothing, "the first member still holds it");
        let offsets = [(partition(0), Offset(5))];
        assert!(group.commit(Some(MemberId(1)), &offsets), "until it gives it up");
        assert_eq!(take(&mut group, 1), Change::Revoked(vec![partition(0)]));
        assert_eq!(take(&mut group, 2), Change::Assigned(vec![partition(0)]));
        assert!(!group.commit(Some(MemberId(1)), &[(partition(0), Offset(6))]));
        assert_eq!(group.committed(&partition(0)), Some(Offset(5)));
        assert_eq!(take(&mut group, 1), Change::Nothing, "it keeps the other one");
    }

    #[test]
    fn who_left_or_fell_silent_holds_nothing() {
        let mut group = GroupState::default();
        join(&mut group, 1, 5);
        take(&mut group, 1);
        join(&mut group, 2, 9);
        assert_eq!(group.next_deadline(), Some(at(5)));
        assert!(!group.expire(at(4)));
        assert!(group.expire(at(5)));
        group.rebalance(&[partition(0), partition(1)]);
        assert_eq!(take(&mut group, 2), Change::Assigned(vec![partition(0), partition(1)]));
        assert!(!group.commit(Some(MemberId(1)), &[]), "an expelled member");
        assert!(group.leave(MemberId(2)) && !group.leave(MemberId(2)));
        assert!(!group.has_members());
    }

    #[test]
    fn commits_are_all_or_none() {
        let mut group = GroupState::default();
        join(&mut group, 1, 9);
        join(&mut group, 2, 9);
        take(&mut group, 1);
        take(&mut group, 2);
        let both = [(partition(0), Offset(7)), (partition(1), Offset(7))];
        assert!(!group.commit(Some(MemberId(1)), &both));
        assert!(!group.commit(None, &[]));
        assert_eq!((group.committed(&partition(0)), group.committed(&partition(1))), (None, None));
    }
}
