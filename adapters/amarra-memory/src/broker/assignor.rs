//! Shares the partitions of topics out among the members of a group.

use std::collections::BTreeMap;

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::{Partition, Topic};

use super::group::MemberId;
use crate::config::Assignor;

/// What each member is to read.
pub(super) type Assignment = BTreeMap<MemberId, Vec<TopicPartition>>;

/// Assigns every partition of every topic to exactly one of the topic's subscribers.
///
/// `topics` gives each topic's number of partitions and its subscribers, ascending.
pub(super) fn assign(assignor: Assignor, topics: &[(Topic, u32, Vec<MemberId>)]) -> Assignment {
    let mut assignment = Assignment::new();
    let mut turn: usize = 0;
    for (topic, partitions, members) in topics {
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        for partition in 0..*partitions {
            let index = match assignor {
                Assignor::Range => range_index(partition, *partitions, count),
                Assignor::RoundRobin => turn.checked_rem(members.len()),
            };
            turn = turn.saturating_add(1);
            let Some(member) = index.and_then(|index| members.get(index)) else { continue };
            let partition = Partition(partition);
            let mine = assignment.entry(*member).or_default();
            mine.push(TopicPartition { topic: topic.clone(), partition });
        }
    }
    assignment
}

/// Gives each member a run of neighbours; the first ones get one more when it does not divide.
fn range_index(partition: u32, partitions: u32, members: u32) -> Option<usize> {
    let (each, more) = (partitions.checked_div(members)?, partitions.checked_rem(members)?);
    let long = each.saturating_add(1).saturating_mul(more);
    let index = if partition < long {
        partition.checked_div(each.saturating_add(1))?
    } else {
        more.saturating_add(partition.saturating_sub(long).checked_div(each)?)
    };
    usize::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(assignor: Assignor, topics: &[(&str, u32, &[u64])], expect: &[(u64, &str)]) {
        let topics: Vec<_> = topics
            .iter()
            .map(|(t, n, m)| (Topic::from(*t), *n, m.iter().map(|&m| MemberId(m)).collect()))
            .collect();
        let assignment = assign(assignor, &topics);
        let got: Vec<(u64, String)> = assignment
            .iter()
            .map(|(member, partitions)| {
                let names = partitions.iter().map(|p| format!("{}{}", p.topic, p.partition));
                (member.0, names.collect::<Vec<_>>().join(" "))
            })
            .collect();
        let expect: Vec<_> = expect.iter().map(|(m, p)| (*m, (*p).to_owned())).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn range_gives_neighbours_per_topic() {
        check(Assignor::Range, &[("a", 5, &[1, 2])], &[(1, "a0 a1 a2"), (2, "a3 a4")]);
        check(Assignor::Range, &[("a", 1, &[1, 2])], &[(1, "a0")]);
        check(
            Assignor::Range,
            &[("a", 2, &[1, 2]), ("b", 2, &[1, 2])],
            &[(1, "a0 b0"), (2, "a1 b1")],
        );
    }

    #[test]
    fn round_robin_goes_on_across_topics() {
        check(
            Assignor::RoundRobin,
            &[("a", 3, &[1, 2]), ("b", 3, &[1, 2])],
            &[(1, "a0 a2 b1"), (2, "a1 b0 b2")],
        );
    }

    #[test]
    fn only_subscribers_get_a_topic() {
        check(
            Assignor::Range,
            &[("a", 2, &[1]), ("b", 2, &[2]), ("c", 1, &[])],
            &[(1, "a0 a1"), (2, "b0 b1")],
        );
    }
}
