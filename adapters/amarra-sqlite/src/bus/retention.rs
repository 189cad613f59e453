//! What may be deleted, and when: records that every group has read, by age and by the file's size.

use std::collections::BTreeMap;
use std::time::Duration;

use super::state::{PartitionId, State};

/// How old the first record of each partition is, and how large the file.
#[derive(Debug)]
pub(super) struct Retention {
    age_micros: i64,
    bytes_max: u64,
    prune_max: u64,
    /// When the first record that is kept of a partition was published, none for an empty one.
    fronts: BTreeMap<PartitionId, i64>,
    /// Bytes of the file: measured, and what was appended since.
    used: u64,
    /// Bytes that were appended since the file was measured.
    unmeasured: u64,
}

/// Records to delete: those of a partition between two offsets that are older than a moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prune {
    pub(super) id: PartitionId,
    pub(super) start: u64,
    pub(super) below: u64,
    pub(super) before: i64,
}

impl Retention {
    pub(super) fn new(age: Duration, bytes_max: u64, prune_max: usize) -> Self {
        let age_micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let prune_max = u64::try_from(prune_max).unwrap_or(u64::MAX);
        Self { age_micros, bytes_max, prune_max, fronts: BTreeMap::new(), used: 0, unmeasured: 0 }
    }

    /// Notes when the first record that is kept was published.
    pub(super) fn set_front(&mut self, id: PartitionId, at: Option<i64>) {
        match at {
            Some(at) => drop(self.fronts.insert(id, at)),
            None => drop(self.fronts.remove(&id)),
        }
    }

    /// Notes that records were appended.
    pub(super) fn appended(&mut self, id: PartitionId, at: i64, bytes: usize) {
        self.fronts.entry(id).or_insert(at);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.used = self.used.saturating_add(bytes);
        self.unmeasured = self.unmeasured.saturating_add(bytes);
    }

    /// Notes how large the file is.
    pub(super) fn set_used(&mut self, bytes: u64) {
        self.used = bytes;
        self.unmeasured = 0;
    }

    /// Tells whether the file is to be measured: it may be too large, or what was appended, which
    /// takes more room than its bytes, is a good part of the bound.
    pub(super) fn wants_measure(&self) -> bool {
        self.is_over() || self.unmeasured > self.bytes_max / 64
    }

    /// Tells whether the file is larger than it may be, as far as is known.
    pub(super) fn is_over(&self) -> bool {
        self.used > self.bytes_max
    }

    /// Chooses what to delete next: what is too old, or the oldest while the file is too large.
    pub(super) fn next(&self, state: &State, now: i64) -> Option<Prune> {
        let over = self.is_over();
        let old = now.saturating_sub(self.age_micros);
        let before = if over { i64::MAX } else { old };
        let prune = |(&id, &at): (&PartitionId, &i64)| {
            let log = state.logs.get(&id).filter(|_| at < before)?;
            let below = state.read_by_all(log).min(log.start.saturating_add(self.prune_max));
            let start = log.start;
            (start < below).then_some((at, Prune { id, start, below, before }))
        };
        let candidates = self.fronts.iter().filter_map(prune);
        candidates.min_by_key(|(at, _)| *at).map(|(_, prune)| prune)
    }

    /// Returns when the next record becomes too old, none while none will.
    pub(super) fn next_expiry(&self, now: i64) -> Option<i64> {
        let expiry = self.fronts.values().map(|at| at.saturating_add(self.age_micros));
        expiry.filter(|&at| at >= now).min().map(|at| at.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use amarra_messaging::consumer::TopicPartition;
    use amarra_messaging::{Group, Offset, Partition};

    use super::super::state::Log;
    use super::*;

    fn world() -> (Retention, State) {
        let mut state = State::new(0);
        let mut retention = Retention::new(Duration::from_micros(100), 1000, 5);
        for (n, end) in [(0, 9), (1, 3), (2, 0)] {
            let at = TopicPartition { topic: "t".into(), partition: Partition(n) };
            state.add(PartitionId(i64::from(n)), Log::new(at, 0, end));
        }
        retention.set_front(PartitionId(0), Some(50));
        retention.set_front(PartitionId(1), Some(40));
        (retention, state)
    }

    fn prune(id: i64, below: u64, before: i64) -> Option<Prune> {
        Some(Prune { id: PartitionId(id), start: 0, below, before })
    }

    #[test]
    fn the_oldest_go_first_in_bounded_steps() {
        let (mut retention, state) = world();
        assert_eq!(retention.next(&state, 140), None);
        assert_eq!(retention.next_expiry(140), Some(141));
        assert_eq!(retention.next(&state, 141), prune(1, 3, 41));
        retention.set_front(PartitionId(1), None);
        assert_eq!(retention.next(&state, 141), None);
        assert_eq!(retention.next_expiry(141), Some(151));
        assert_eq!(retention.next(&state, 160), prune(0, 5, 60), "no more than prune_max");
    }

    #[test]
    fn a_file_too_large_does_not_wait_for_the_age() {
        let (mut retention, state) = world();
        retention.set_used(1000);
        assert!(!retention.is_over());
        retention.appended(PartitionId(2), 60, 1);
        assert_eq!(retention.next(&state, 60), prune(1, 3, i64::MAX));
    }

    #[test]
    fn what_a_group_has_still_to_read_stays() {
        let (retention, mut state) = world();
        let at = TopicPartition { topic: "t".into(), partition: Partition(0) };
        let group = state.groups.entry(Group::from("g")).or_default();
        group.restore_topic("t".into());
        assert_eq!(retention.next(&state, 1000), None);
        assert_eq!(state.behind().map(|(g, at)| (g.as_str(), at.partition.0)), Some(("g", 0)));
        let group = state.groups.entry(Group::from("g")).or_default();
        group.restore_offsets([(at, Offset(2))].into());
        assert_eq!(retention.next(&state, 1000), prune(0, 2, 900));
    }
}
