//! Durable timers: one row an aggregate, found by the time from which it may be claimed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{AggregateId, Timestamp};
use amarra_messaging::message::{Epoch, Owner};
use amarra_store::{Claim, DueQuery};

/// All timers of a database.
///
/// A row stays when its timer is removed, so that its epoch never repeats and no claim of the past
/// becomes valid again.
#[derive(Debug, Default)]
pub(super) struct Timers {
    rows: BTreeMap<AggregateId, Row>,
    /// By kind and the time from which the timer may be claimed: due and not under a lease.
    claimable: BTreeSet<(Arc<str>, Timestamp, AggregateId)>,
}

#[derive(Debug)]
struct Row {
    due: Option<Timestamp>,
    epoch: Epoch,
    owner: Option<Owner>,
    leased_until: Timestamp,
}

impl Row {
    fn claimable_at(&self) -> Option<Timestamp> {
        self.due.map(|due| due.max(self.leased_until))
    }
}

impl Timers {
    /// Sets or removes a timer and ends any claim on it.
    pub(super) fn set(&mut self, id: &AggregateId, due: Option<Timestamp>) {
        let row = self.rows.entry(id.clone()).or_insert(Row {
            due: None,
            epoch: Epoch::default(),
            owner: None,
            leased_until: Timestamp::from_micros(i64::MIN),
        });
        if let Some(at) = row.claimable_at() {
            self.claimable.remove(&(Arc::clone(&id.kind), at, id.clone()));
        }
        *row = Row {
            due,
            epoch: row.epoch.next(),
            owner: None,
            leased_until: Timestamp::from_micros(i64::MIN),
        };
        if let Some(at) = due {
            self.claimable.insert((Arc::clone(&id.kind), at, id.clone()));
        }
    }

    /// Returns the epoch of the newest claim or setting, none for a timer never set.
    pub(super) fn epoch(&self, id: &AggregateId) -> Option<Epoch> {
        self.rows.get(id).map(|row| row.epoch)
    }

    /// Returns from when on a timer of a kind may be claimed, none when there is none.
    pub(super) fn next(&self, kind: &str) -> Option<Timestamp> {
        let from = (Arc::from(kind), Timestamp::from_micros(i64::MIN), AggregateId::new("", ""));
        let (of, at, _) = self.claimable.range(from..).next()?;
        (**of == *kind).then_some(*at)
    }

    /// Claims what is due at `now` and not `locked`, the longest due first.
    pub(super) fn claim(
        &mut self,
        query: &DueQuery,
        now: Timestamp,
        lease: Duration,
        locked: impl Fn(&AggregateId) -> bool,
    ) -> Vec<Claim> {
        let start = AggregateId::new("", "");
        let from = (Arc::clone(&query.kind), Timestamp::from_micros(i64::MIN), start);
        let mut due: Vec<(Timestamp, AggregateId)> = self
            .claimable
            .range(from..)
            .take_while(|(kind, at, _)| *kind == query.kind && *at <= now)
            .filter(|(_, _, id)| !locked(id))
            .map(|(_, at, id)| (self.rows.get(id).and_then(|r| r.due).unwrap_or(*at), id.clone()))
            .collect();
        due.sort();
        due.truncate(query.limit);
        due.into_iter().filter_map(|(_, id)| self.take(id, query, now.plus(lease))).collect()
    }

    fn take(&mut self, id: AggregateId, query: &DueQuery, until: Timestamp) -> Option<Claim> {
        let row = self.rows.get_mut(&id)?;
        let kind = Arc::clone(&id.kind);
        if let Some(at) = row.claimable_at() {
            self.claimable.remove(&(Arc::clone(&kind), at, id.clone()));
        }
        row.epoch = row.epoch.next();
        row.owner = Some(query.owner.clone());
        row.leased_until = until;
        if let Some(at) = row.claimable_at() {
            self.claimable.insert((kind, at, id.clone()));
        }
        Some(Claim { id, epoch: row.epoch, owner: query.owner.clone() })
    }

    /// Lists the timers that are set: the aggregate, when it is due, who holds a claim until when.
    pub(super) fn iter(&self) -> impl Iterator<Item = TimerRow<'_>> {
        self.rows.iter().filter_map(|(id, row)| {
            row.due.map(|due| TimerRow {
                id,
                due,
                epoch: row.epoch,
                claim: row.owner.as_ref().map(|owner| (owner, row.leased_until)),
            })
        })
    }
}

/// One timer that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerRow<'a> {
    /// The aggregate.
    pub id: &'a AggregateId,
    /// When it is due, by the database's clock.
    pub due: Timestamp,
    /// The epoch of the newest claim or setting.
    pub epoch: Epoch,
    /// Who claimed it last, and until when nobody else may.
    pub claim: Option<(&'a Owner, Timestamp)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn query(owner: &str, limit: usize) -> DueQuery {
        let lease = Duration::from_micros(10);
        DueQuery { kind: "order".into(), owner: owner.into(), lease, limit }
    }

    fn claim(timers: &mut Timers, query: &DueQuery, now: i64) -> Vec<(String, u64)> {
        let claims = timers.claim(query, at(now), query.lease, |_| false);
        claims.into_iter().map(|c| (c.id.id.to_string(), c.epoch.0)).collect()
    }

    #[test]
    fn the_longest_due_is_claimed_first_and_by_one_owner() {
        let mut timers = Timers::default();
        for (id, due) in [("a", 5), ("b", 3), ("c", 9)] {
            timers.set(&AggregateId::new("order", id), Some(at(due)));
        }
        timers.set(&AggregateId::new("other", "d"), Some(at(1)));
        assert_eq!(claim(&mut timers, &query("x", 1), 6), [("b".to_owned(), 2)]);
        assert_eq!(claim(&mut timers, &query("y", 9), 6), [("a".to_owned(), 2)]);
        assert!(claim(&mut timers, &query("z", 9), 6).is_empty());
    }

    #[test]
    fn a_claim_after_the_lease_has_a_higher_epoch() {
        let mut timers = Timers::default();
        let id = AggregateId::new("order", "a");
        timers.set(&id, Some(at(5)));
        assert_eq!(claim(&mut timers, &query("x", 9), 5), [("a".to_owned(), 2)]);
        assert!(claim(&mut timers, &query("y", 9), 14).is_empty(), "the lease lasts until 15");
        assert_eq!(claim(&mut timers, &query("y", 9), 15), [("a".to_owned(), 3)]);
    }

    #[test]
    fn a_timer_under_an_old_lease_is_still_the_longest_due() {
        let mut timers = Timers::default();
        timers.set(&AggregateId::new("order", "old"), Some(at(1)));
        timers.set(&AggregateId::new("order", "new"), Some(at(8)));
        assert_eq!(claim(&mut timers, &query("x", 9), 5), [("old".to_owned(), 2)]);
        assert_eq!(claim(&mut timers, &query("y", 1), 20), [("old".to_owned(), 3)]);
    }

    #[test]
    fn setting_a_timer_again_ends_claims_and_never_repeats_an_epoch() {
        let mut timers = Timers::default();
        let id = AggregateId::new("order", "a");
        timers.set(&id, Some(at(5)));
        claim(&mut timers, &query("x", 9), 5);
        timers.set(&id, None);
        assert_eq!(timers.epoch(&id), Some(Epoch(3)));
        assert!(claim(&mut timers, &query("x", 9), 99).is_empty());
        timers.set(&id, Some(at(7)));
        assert_eq!(claim(&mut timers, &query("x", 9), 7), [("a".to_owned(), 5)]);
        assert_eq!(timers.iter().count(), 1);
    }

    #[test]
    fn a_locked_timer_is_skipped() {
        let mut timers = Timers::default();
        for id in ["a", "b"] {
            timers.set(&AggregateId::new("order", id), Some(at(5)));
        }
        let claims = timers.claim(&query("x", 9), at(5), Duration::ZERO, |id| &*id.id == "a");
        assert_eq!(claims.len(), 1);
        assert_eq!(&*claims[0].id.id, "b");
    }
}
