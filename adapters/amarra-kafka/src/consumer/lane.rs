//! What is held of one partition between the client library and the caller.

use std::collections::VecDeque;

use amarra_messaging::message::Delivery;

/// What a lane may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// One assignment of one partition.
///
/// # State
/// `kept` are the last records handed out, `ready` those to be handed out next; together they
/// ascend by offset, and no record of the partition lies between two of them.
#[derive(Debug)]
pub(super) struct Lane {
    /// Names this assignment; a later one of the same partition has a higher number.
    pub(super) epoch: u64,
    /// Whether the caller knows of it.
    pub(super) told: bool,
    /// Whether it ends as soon as the caller knows.
    pub(super) revoked: bool,
    /// Whether the caller wants nothing of it.
    pub(super) paused: bool,
    /// Whether the library was told to fetch nothing of it.
    pub(super) held: bool,
    /// The seek that is on its way; until it arrives, what comes is of before.
    pub(super) seeking: Option<u64>,
    ready: Queue,
    kept: Queue,
    last: Option<u64>,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<Delivery>,
    bytes: usize,
}

impl Queue {
    fn push_back(&mut self, delivery: Delivery) {
        self.bytes = self.bytes.saturating_add(delivery.record.bytes());
        self.records.push_back(delivery);
    }

    fn push_front(&mut self, delivery: Delivery) {
        self.bytes = self.bytes.saturating_add(delivery.record.bytes());
        self.records.push_front(delivery);
    }

    fn pop_front(&mut self) -> Option<Delivery> {
        let delivery = self.records.pop_front()?;
        self.bytes = self.bytes.saturating_sub(delivery.record.bytes());
        Some(delivery)
    }

    fn pop_back(&mut self) -> Option<Delivery> {
        let delivery = self.records.pop_back()?;
        self.bytes = self.bytes.saturating_sub(delivery.record.bytes());
        Some(delivery)
    }

    fn clear(&mut self) {
        self.records.clear();
        self.bytes = 0;
    }
}

impl Lane {
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            told: false,
            revoked: false,
            paused: false,
            held: false,
            seeking: None,
            ready: Queue::default(),
            kept: Queue::default(),
            last: None,
        }
    }

    /// Takes a record in; one that is not beyond the last, or of an assignment that ends, is
    /// dropped.
    pub(super) fn push(&mut self, delivery: Delivery) {
        let offset = delivery.offset.0;
        if self.revoked || self.seeking.is_some() || self.last.is_some_and(|last| offset <= last) {
            return;
        }
        self.last = Some(offset);
        self.ready.push_back(delivery);
    }

    /// Tells whether there is something to hand out.
    pub(super) fn is_ready(&self) -> bool {
        self.told && !self.revoked && !self.paused && !self.ready.records.is_empty()
    }

    /// Hands out up to `limit` records.
    pub(super) fn take(&mut self, limit: usize, bounds: Bounds, into: &mut Vec<Delivery>) {
        if !self.is_ready() {
            return;
        }
        for _ in 0..limit {
            let Some(delivery) = self.ready.pop_front() else { break };
            self.kept.push_back(delivery.clone());
            into.push(delivery);
        }
        while self.kept.records.len() > bounds.records || self.kept.bytes > bounds.bytes {
            self.kept.pop_front();
        }
    }

    /// Counts the records that it may still take in.
    pub(super) fn room(&self, bounds: Bounds) -> usize {
        if self.ready.bytes >= bounds.bytes {
            return 0;
        }
        bounds.records.saturating_sub(self.ready.records.len())
    }

    /// Tells whether a lane whose fetching was stopped needs more.
    pub(super) fn is_low(&self, bounds: Bounds) -> bool {
        let records = self.ready.records.len().saturating_mul(2);
        records <= bounds.records && self.ready.bytes.saturating_mul(2) <= bounds.bytes
    }

    /// Goes to `offset` by what is held; `false` when the library has to.
    pub(super) fn seek(&mut self, offset: u64) -> bool {
        let first = self.kept.records.front().or(self.ready.records.front());
        let known = first.is_some_and(|first| first.offset.0 <= offset)
            && self.last.is_some_and(|last| offset <= last.saturating_add(1));
        if self.seeking.is_some() || !known {
            self.drop_records();
            return false;
        }
        while self.kept.records.back().is_some_and(|d| d.offset.0 >= offset) {
            self.kept.pop_back().into_iter().for_each(|delivery| self.ready.push_front(delivery));
        }
        while self.ready.records.front().is_some_and(|d| d.offset.0 < offset) {
            self.ready.pop_front().into_iter().for_each(|delivery| self.kept.push_back(delivery));
        }
        true
    }

    /// Forgets every record.
    pub(super) fn drop_records(&mut self) {
        self.ready.clear();
        self.kept.clear();
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amarra_messaging::message::{Offset, Partition, Record};
    use amarra_messaging::{Headers, Topic};
    use bytes::Bytes;

    const BOUNDS: Bounds = Bounds { records: 4, bytes: 100 };

    fn record(offset: u64) -> Delivery {
        let value = Bytes::from_static(b"0123456789");
        Delivery {
            topic: Topic::from("t"),
            partition: Partition(0),
            offset: Offset(offset),
            record: Record { key: Bytes::new(), headers: Headers::new(), value },
        }
    }

    fn lane(offsets: impl IntoIterator<Item = u64>) -> Lane {
        let mut lane = Lane { told: true, ..Lane::new(1) };
        offsets.into_iter().for_each(|offset| lane.push(record(offset)));
        lane
    }

    fn take(lane: &mut Lane, limit: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        lane.take(limit, BOUNDS, &mut taken);
        taken.into_iter().map(|delivery| delivery.offset.0).collect()
    }

    #[test]
    fn nothing_leaves_a_lane_that_is_paused_unknown_or_ending() {
        let check = |change: fn(&mut Lane)| {
            let mut lane = lane(0..3);
            change(&mut lane);
            assert_eq!(take(&mut lane, 9), [0_u64; 0]);
        };
        check(|lane| lane.paused = true);
        check(|lane| lane.told = false);
        check(|lane| lane.revoked = true);
        assert_eq!(take(&mut lane(0..3), 2), [0, 1]);
    }

    #[test]
    fn what_is_not_beyond_the_last_record_is_dropped() {
        let mut lane = lane([3, 4, 3, 4, 7]);
        assert_eq!(take(&mut lane, 9), [3, 4, 7]);
        lane.push(record(7));
        lane.push(record(8));
        assert_eq!(take(&mut lane, 9), [8]);
    }

    #[test]
    fn a_seek_within_what_is_held_needs_no_library() {
        let mut lane = lane([0, 1, 2, 5, 6]);
        assert_eq!(take(&mut lane, 3), [0, 1, 2]);
        for (offset, expect) in [(1, vec![1, 2, 5, 6]), (3, vec![5, 6]), (6, vec![6]), (7, vec![])]
        {
            assert!(lane.seek(offset), "{offset}");
            assert_eq!(take(&mut lane, 9), expect, "{offset}");
        }
    }

    #[test]
    fn a_seek_beyond_what_is_held_forgets_it() {
        for offset in [0, 8] {
            let mut lane = lane(1..7);
            take(&mut lane, 3);
            assert!(!lane.seek(offset), "{offset}");
            assert_eq!(take(&mut lane, 9), [0_u64; 0]);
            lane.push(record(offset));
            assert_eq!(take(&mut lane, 9), [offset]);
        }
        assert!(!lane([]).seek(0), "where an empty lane stands is not known");
    }

    #[test]
    fn a_seek_on_its_way_is_followed_by_another() {
        let mut lane = lane(0..3);
        lane.seeking = Some(1);
        assert!(!lane.seek(1), "what is held may be of before");
        lane.push(record(9));
        lane.seeking = None;
        lane.push(record(1));
        assert_eq!(take(&mut lane, 9), [1]);
    }

    #[test]
    fn both_bounds_leave_no_room() {
        assert_eq!(lane(0..3).room(BOUNDS), 1);
        assert_eq!(lane(0..4).room(BOUNDS), 0);
        assert_eq!(lane(0..3).room(Bounds { records: 9, bytes: 30 }), 0);
        assert!(lane(0..2).is_low(BOUNDS) && !lane(0..3).is_low(BOUNDS));
    }

    #[test]
    fn what_is_kept_for_a_seek_is_bounded() {
        let mut lane = lane(0..9);
        take(&mut lane, 9);
        assert!(!lane.seek(4), "only four are kept");
    }
}
