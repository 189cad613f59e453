//! Transaction ids and snapshots, as Postgres hands them out.

use std::collections::BTreeSet;

use amarra_messaging::outbox::Snapshot;

/// The first id that Postgres gives to a transaction of its users.
const FIRST: u64 = 3;

/// Which transactions are in progress.
#[derive(Debug)]
pub(super) struct Transactions {
    next: u64,
    latest_completed: u64,
    in_progress: BTreeSet<u64>,
}

impl Default for Transactions {
    fn default() -> Self {
        Self {
            next: FIRST,
            latest_completed: FIRST.saturating_sub(1),
            in_progress: BTreeSet::new(),
        }
    }
}

impl Transactions {
    /// Gives out the next id.
    pub(super) fn start(&mut self) -> u64 {
        let xid = self.next;
        self.next = self.next.saturating_add(1);
        self.in_progress.insert(xid);
        xid
    }

    /// Notes that a transaction ended, by commit or rollback.
    pub(super) fn end(&mut self, xid: u64) {
        self.in_progress.remove(&xid);
        self.latest_completed = self.latest_completed.max(xid);
    }

    /// Takes a snapshot: `xmax` is one past the highest id that ended, so that ids from there on
    /// may be in progress without being listed.
    pub(super) fn snapshot(&self) -> Snapshot {
        let xmax = self.latest_completed.saturating_add(1);
        let xip: Vec<u64> = self.in_progress.range(..xmax).copied().collect();
        let xmin = xip.first().copied().unwrap_or(xmax);
        Snapshot { xmin, xmax, xip }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_lists_what_is_in_progress_below_the_highest_ended() {
        let mut transactions = Transactions::default();
        let empty = transactions.snapshot();
        assert_eq!((empty.xmin, empty.xmax, empty.xip), (3, 3, vec![]));
        let ids: Vec<u64> = (0..5).map(|_| transactions.start()).collect();
        assert_eq!(ids, [3, 4, 5, 6, 7]);
        transactions.end(6);
        transactions.end(4);
        let snapshot = transactions.snapshot();
        assert_eq!(snapshot, Snapshot { xmin: 3, xmax: 7, xip: vec![3, 5] });
        let seen: Vec<u64> = (3..9).filter(|&xid| snapshot.sees(xid)).collect();
        assert_eq!(seen, [4, 6]);
    }

    #[test]
    fn nothing_seen_is_ever_unseen() {
        let mut transactions = Transactions::default();
        let (a, b) = (transactions.start(), transactions.start());
        transactions.end(b);
        let first = transactions.snapshot();
        transactions.end(a);
        let second = transactions.snapshot();
        assert!(first.sees(b) && !first.sees(a));
        assert!(second.sees(a) && second.sees(b));
    }
}
