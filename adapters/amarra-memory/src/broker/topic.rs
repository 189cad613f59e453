//! One partition's log: what is appended, what is readable, and which producer wrote it.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_messaging::message::Shard;
use amarra_messaging::{Group, Record};
use tokio::sync::Notify;

/// Names one publishing session at the broker; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProducerId(pub(super) u64);

/// The log of one partition at its leader.
///
/// Records below the high watermark are on every replica: they are readable and survive a change of
/// leader. Those above it are neither.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    records: Vec<Stored>,
    high_watermark: usize,
    leader_epoch: u64,
    /// The last sequence number stored of each producer.
    last: BTreeMap<ProducerId, u64>,
    /// The members that read this partition.
    pub(super) readers: BTreeMap<Group, Arc<Notify>>,
}

/// A record with the producer's part of it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) record: Record,
    pub(super) source: Arc<str>,
    pub(super) shard: Shard,
    pub(super) producer: ProducerId,
    pub(super) sequence: u64,
}

impl PartitionLog {
    /// Tells whether the producer's record of this number is stored, so that storing it again
    /// would double it.
    pub(super) fn has(&self, producer: ProducerId, sequence: u64) -> bool {
        self.last.get(&producer).is_some_and(|&last| sequence <= last)
    }

    pub(super) fn append(&mut self, stored: Stored) {
        self.last.insert(stored.producer, stored.sequence);
        self.records.push(stored);
    }

    /// Returns where the next record will be.
    pub(super) fn end(&self) -> usize {
        self.records.len()
    }

    pub(super) fn high_watermark(&self) -> usize {
        self.high_watermark
    }

    pub(super) fn leader_epoch(&self) -> u64 {
        self.leader_epoch
    }

    /// Notes that every replica has what is below `end`; returns what became readable, with the
    /// place of the first of it.
    pub(super) fn replicated(&mut self, end: usize) -> (usize, &[Stored]) {
        let from = self.high_watermark;
        let to = end.min(self.records.len()).max(from);
        self.high_watermark = to;
        if to > from {
            self.readers.values().for_each(|reader| reader.notify_one());
        }
        (from, self.records.get(from..to).unwrap_or_default())
    }

    /// Makes another replica the leader: it lacks what was not replicated.
    pub(super) fn change_leader(&mut self) {
        self.leader_epoch = self.leader_epoch.saturating_add(1);
        self.records.truncate(self.high_watermark);
        self.last.clear();
        for stored in &self.records {
            self.last.insert(stored.producer, stored.sequence);
        }
    }

    /// Returns readable records from `from` on.
    pub(super) fn read(&self, from: u64, limit: usize) -> &[Stored] {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let to = from.saturating_add(limit).min(self.high_watermark);
        self.records.get(from..to).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(sequence: u64) -> Stored {
        let record = Record {
            key: "k".into(),
            headers: amarra_messaging::Headers::new(),
            value: "v".into(),
        };
        Stored { record, source: "s".into(), shard: Shard(0), producer: ProducerId(1), sequence }
    }

    #[test]
    fn records_above_the_watermark_are_not_read_and_die_with_the_leader() {
        let mut log = PartitionLog::default();
        log.append(stored(1));
        log.append(stored(2));
        assert!(log.read(0, 9).is_empty());
        assert_eq!(log.replicated(1).1.len(), 1);
        assert_eq!(log.read(0, 9).len(), 1);
        assert!(log.has(ProducerId(1), 2));
        log.change_leader();
        assert_eq!((log.end(), log.leader_epoch()), (1, 1));
        assert!(!log.has(ProducerId(1), 2), "the new leader never saw it: it must be stored again");
        assert!(log.has(ProducerId(1), 1));
    }

    #[test]
    fn the_watermark_never_goes_back_nor_past_the_end() {
        let mut log = PartitionLog::default();
        (1..=3).for_each(|n| log.append(stored(n)));
        assert_eq!(log.replicated(2).0, 0);
        assert_eq!(log.replicated(1).1.len(), 0);
        assert_eq!(log.high_watermark(), 2);
        assert_eq!(log.replicated(99).1.len(), 1);
        assert_eq!(log.high_watermark(), 3);
        assert_eq!(log.read(2, 9).len(), 1);
        assert!(log.read(7, 9).is_empty());
    }

    #[test]
    fn another_producer_counts_for_itself() {
        let mut log = PartitionLog::default();
        log.append(stored(5));
        assert!(log.has(ProducerId(1), 4) && !log.has(ProducerId(1), 6));
        assert!(!log.has(ProducerId(2), 4));
    }
}
