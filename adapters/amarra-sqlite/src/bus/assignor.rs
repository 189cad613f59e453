//! Shares the partitions of topics out among the members of a group, moving as few as it can.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_messaging::Topic;
use amarra_messaging::consumer::TopicPartition;

use super::group::MemberId;

/// Who is to hold each partition.
pub(super) type Assignment = BTreeMap<TopicPartition, MemberId>;

/// Assigns every partition to one of its topic's subscribers so that no member could hand one to a
/// member that has two fewer; who holds a partition in `before` keeps it unless that is in the way.
pub(super) fn assign(
    before: &Assignment,
    partitions: &[TopicPartition],
    members: &BTreeMap<MemberId, Arc<[Topic]>>,
) -> Assignment {
    let mut load: BTreeMap<MemberId, usize> = members.keys().map(|&id| (id, 0)).collect();
    let subscribes =
        |id: &MemberId, topic: &Topic| members.get(id).is_some_and(|topics| topics.contains(topic));
    let mut out = Assignment::new();
    let mut free = Vec::new();
    for partition in partitions {
        match before.get(partition).filter(|id| subscribes(id, &partition.topic)) {
            Some(&id) => give(&mut out, &mut load, partition, id),
            None => free.push(partition),
        }
    }
    let idlest = |load: &BTreeMap<MemberId, usize>, topic: &Topic| {
        let subscribers = load.iter().filter(|(id, _)| subscribes(id, topic));
        subscribers.min_by_key(|(_, count)| **count).map(|(&id, &count)| (id, count))
    };
    for partition in free {
        if let Some((id, _)) = idlest(&load, &partition.topic) {
            give(&mut out, &mut load, partition, id);
        }
    }
    // Each move makes the sum of the squared loads smaller: it ends.
    while let Some((partition, from, to)) = partitions.iter().find_map(|partition| {
        let &from = out.get(partition)?;
        let (to, count) = idlest(&load, &partition.topic)?;
        let held = load.get(&from).copied().unwrap_or(0);
        (held > count.saturating_add(1)).then_some((partition, from, to))
    }) {
        if let Some(count) = load.get_mut(&from) {
            *count = count.saturating_sub(1);
        }
        give(&mut out, &mut load, partition, to);
    }
    out
}

fn give(
    out: &mut Assignment,
    load: &mut BTreeMap<MemberId, usize>,
    partition: &TopicPartition,
    id: MemberId,
) {
    out.insert(partition.clone(), id);
    if let Some(count) = load.get_mut(&id) {
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use amarra_messaging::Partition;
    use proptest::prelude::*;

    use super::*;

    fn members(of: &[(u64, &[&str])]) -> BTreeMap<MemberId, Arc<[Topic]>> {
        let topics = |names: &[&str]| names.iter().map(|name| Topic::from(*name)).collect();
        of.iter().map(|(id, names)| (MemberId(*id), topics(names))).collect()
    }

    fn partitions(topic: &str, count: u32) -> Vec<TopicPartition> {
        let at = |n| TopicPartition { topic: topic.into(), partition: Partition(n) };
        (0..count).map(at).collect()
    }

    fn held(assignment: &Assignment) -> Vec<u64> {
        assignment.values().map(|id| id.0).collect()
    }

    #[test]
    fn one_more_member_takes_only_its_share() {
        let all = partitions("t", 4);
        let one = assign(&Assignment::new(), &all, &members(&[(1, &["t"])]));
        assert_eq!(held(&one), [1, 1, 1, 1]);
        let two = assign(&one, &all, &members(&[(1, &["t"]), (2, &["t"])]));
        assert_eq!(held(&two), [2, 2, 1, 1]);
        let three = assign(&two, &all, &members(&[(1, &["t"]), (2, &["t"]), (3, &["t"])]));
        assert_eq!(three.iter().filter(|(p, id)| two.get(p) == Some(id)).count(), 3);
    }

    #[test]
    fn what_a_member_leaves_goes_to_the_idlest() {
        let all = partitions("t", 3);
        let before = assign(&Assignment::new(), &all, &members(&[(1, &["t"]), (2, &["t"])]));
        let after = assign(&before, &all, &members(&[(2, &["t"])]));
        assert_eq!(held(&after), [2, 2, 2]);
        assert!(assign(&after, &all, &BTreeMap::new()).is_empty());
    }

    #[test]
    fn only_subscribers_get_a_topic() {
        let all = [partitions("a", 2), partitions("b", 2), partitions("c", 1)].concat();
        let got = assign(&Assignment::new(), &all, &members(&[(1, &["a"]), (2, &["b"])]));
        assert_eq!(held(&got), [1, 1, 2, 2]);
    }

    proptest! {
        #[test]
        fn loads_differ_by_at_most_one_whatever_came_before(
            count in 1_u32..20,
            before in proptest::collection::vec(0_u64..6, 20),
            ids in proptest::collection::btree_set(0_u64..6, 1..6),
        ) {
            let all = partitions("t", count);
            let before = before.into_iter().map(MemberId);
            let before = { all.clone() }.into_iter().zip(before).collect();
            let topics: Arc<[Topic]> = [Topic::from("t")].into();
            let members: BTreeMap<_, _> =
                ids.iter().map(|&id| (MemberId(id), Arc::clone(&topics))).collect();
            let after = assign(&before, &all, &members);
            prop_assert_eq!(after.len(), all.len());
            let loads: Vec<_> =
                ids.iter().map(|id| after.values().filter(|of| of.0 == *id).count()).collect();
            let spread = loads.iter().max().unwrap().abs_diff(*loads.iter().min().unwrap());
            prop_assert!(spread <= 1, "loads {loads:?}");
            prop_assert_eq!(assign(&after, &all, &members), after, "nothing moves without a cause");
        }
    }
}
