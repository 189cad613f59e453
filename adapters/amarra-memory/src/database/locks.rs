//! Row locks: one holder, waiters in order of arrival, deadlocks found when a wait would close one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use amarra_core::{AggregateId, EventId, PartitionKey};
use amarra_messaging::{Group, Topic};
use amarra_store::IdempotencyKey;

use super::inbox::{MarkKey, WindowKey};

/// Names one unit of work within its database; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnitId(pub(super) u64);

/// What can be locked: a row, or the unique key of a row that is being inserted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LockKey {
    Aggregate(AggregateId),
    Admission(Group, EventId),
    Idempotency { principal: Arc<str>, route: Arc<str>, key: Arc<str> },
    Mark(MarkKey),
    Parking(Group, Topic, PartitionKey),
    Timer(AggregateId),
    View(Arc<str>, Arc<str>),
    Window(WindowKey),
}

impl From<&IdempotencyKey> for LockKey {
    fn from(key: &IdempotencyKey) -> Self {
        Self::Idempotency {
            principal: Arc::clone(&key.principal),
            route: Arc::clone(&key.route),
            key: Arc::clone(&key.key),
        }
    }
}

/// The answer to a request for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// The unit holds it until it ends.
    Granted,
    /// The unit waits in the queue.
    Queued,
    /// Waiting would close a cycle of units that wait for each other: the unit does not wait.
    Deadlock,
}

/// All locks of a database.
///
/// A released lock goes to the unit that waited longest; nobody overtakes. Every waiter has an edge
/// to the holder only: the ones queued before it hold nothing that it waits for and the holder does
/// not.
#[derive(Debug, Default)]
pub(super) struct LockTable {
    locks: BTreeMap<LockKey, Lock>,
    held: BTreeMap<UnitId, Vec<LockKey>>,
    waits: BTreeMap<UnitId, LockKey>,
}

#[derive(Debug)]
struct Lock {
    holder: UnitId,
    queue: VecDeque<UnitId>,
}

impl LockTable {
    /// Asks for a lock that is kept until the unit ends; asking for one's own is granted again.
    pub(super) fn request(&mut self, unit: UnitId, key: &LockKey) -> Request {
        let Some(lock) = self.locks.get_mut(key) else {
            self.locks.insert(key.clone(), Lock { holder: unit, queue: VecDeque::new() });
            self.held.entry(unit).or_default().push(key.clone());
            return Request::Granted;
        };
        if lock.holder == unit {
            return Request::Granted;
        }
        let holder = lock.holder;
        if self.waits_for(holder, unit) {
            return Request::Deadlock;
        }
        if let Some(lock) = self.locks.get_mut(key) {
            lock.queue.push_back(unit);
        }
        self.waits.insert(unit, key.clone());
        Request::Queued
    }

    /// Tells whether the unit waits for a lock.
    pub(super) fn is_waiting(&self, unit: UnitId) -> bool {
        self.waits.contains_key(&unit)
    }

    /// Tells whether anybody but `unit` holds the lock.
    pub(super) fn is_held_by_another(&self, unit: Option<UnitId>, key: &LockKey) -> bool {
        self.locks.get(key).is_some_and(|lock| Some(lock.holder) != unit)
    }

    /// Takes the unit out of every queue and hands its locks on; returns who was granted one.
    pub(super) fn release_all(&mut self, unit: UnitId) -> Vec<UnitId> {
        if let Some(key) = self.waits.remove(&unit)
            && let Some(lock) = self.locks.get_mut(&key)
        {
            lock.queue.retain(|&waiter| waiter != unit);
        }
        let mut granted = Vec::new();
        for key in self.held.remove(&unit).unwrap_or_default() {
            match self.locks.get_mut(&key).and_then(|lock| lock.queue.pop_front()) {
                Some(next) => {
                    if let Some(lock) = self.locks.get_mut(&key) {
                        lock.holder = next;
                    }
                    self.waits.remove(&next);
                    self.held.entry(next).or_default().push(key);
                    granted.push(next);
                }
                None => drop(self.locks.remove(&key)),
            }
        }
        granted
    }

    /// Follows the chain of holders from `from`; there is no cycle in it, since none is let in.
    fn waits_for(&self, from: UnitId, target: UnitId) -> bool {
        let mut unit = from;
        loop {
            if unit == target {
                return true;
            }
            match self.waits.get(&unit).and_then(|key| self.locks.get(key)) {
                Some(lock) => unit = lock.holder,
                None => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: UnitId = UnitId(1);
    const B: UnitId = UnitId(2);
    const C: UnitId = UnitId(3);

    fn key(id: &str) -> LockKey {
        LockKey::Aggregate(AggregateId::new("k", id))
    }

    #[test]
    fn a_lock_goes_to_the_longest_waiter() {
        let mut locks = LockTable::default();
        assert_eq!(locks.request(A, &key("x")), Request::Granted);
        assert_eq!(locks.request(A, &key("x")), Request::Granted);
        assert_eq!(locks.request(B, &key("x")), Request::Queued);
        assert_eq!(locks.request(C, &key("x")), Request::Queued);
        assert_eq!(locks.release_all(A), [B]);
        assert!(!locks.is_waiting(B) && locks.is_waiting(C));
        assert_eq!(locks.release_all(B), [C]);
        assert!(locks.release_all(C).is_empty());
        assert!(locks.locks.is_empty() && locks.held.is_empty() && locks.waits.is_empty());
    }

    #[test]
    fn a_waiter_that_gives_up_is_passed_over() {
        let mut locks = LockTable::default();
        locks.request(A, &key("x"));
        locks.request(B, &key("x"));
        locks.request(C, &key("x"));
        assert!(locks.release_all(B).is_empty());
        assert_eq!(locks.release_all(A), [C]);
    }

    #[test]
    fn the_wait_that_would_close_a_cycle_is_refused() {
        let mut locks = LockTable::default();
        for (unit, id) in [(A, "x"), (B, "y"), (C, "z")] {
            assert_eq!(locks.request(unit, &key(id)), Request::Granted);
        }
        assert_eq!(locks.request(A, &key("y")), Request::Queued);
        assert_eq!(locks.request(B, &key("z")), Request::Queued);
        assert_eq!(locks.request(C, &key("x")), Request::Deadlock);
        assert_eq!(locks.release_all(C), [B], "the victim's lock must go on");
        assert!(locks.is_held_by_another(Some(A), &key("z")));
        assert!(!locks.is_held_by_another(Some(B), &key("z")));
        assert!(!locks.is_held_by_another(None, &key("free")));
    }

    #[test]
    fn waiting_behind_a_waiter_is_no_deadlock() {
        let mut locks = LockTable::default();
        locks.request(A, &key("x"));
        locks.request(B, &key("y"));
        assert_eq!(locks.request(B, &key("x")), Request::Queued);
        assert_eq!(locks.request(C, &key("x")), Request::Queued);
        assert_eq!(locks.request(A, &key("z")), Request::Granted);
    }
}
