//! What is held of the log: committed rows by shard, and how far the log was read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amarra_messaging::message::{Seq, Shard};
use amarra_messaging::outbox::{Row, Snapshot};
use tokio::sync::{Notify, watch};

use crate::decode::Inserted;

/// Transactions of a shard that are known one by one to have rows which are not held.
const MISSING_MAX: usize = 4096;

/// Rows of the log until the relay has published them.
///
/// A batch may be served from here if every row of it is here. A row is here if its transaction was
/// committed after the stream began and before the place that was reached, unless it is one of
/// [`Rows::missing`]. So a batch is served if its `prev` sees all that was committed before the
/// stream, and it holds no transaction that was in progress then, or is missing.
#[derive(Debug)]
pub(crate) struct Shelf {
    state: Mutex<State>,
    /// Every commit before this place in the log was taken. Zero while no stream runs.
    reached: watch::Sender<u64>,
    changed: Notify,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    live: bool,
    /// What was committed, and what in progress, once the stream had its beginning: the former may
    /// not be in it, of the latter nobody knows.
    start: Snapshot,
    bytes: usize,
    shards: BTreeMap<Shard, Rows>,
    /// Shards with rows of the transaction being taken.
    touched: BTreeSet<Shard>,
}

/// The rows of one shard.
#[derive(Debug, Default)]
struct Rows {
    /// Whether rows are held: not before the shard was first read here, nor once it was dropped.
    followed: bool,
    held: BTreeMap<Seq, Held>,
    bytes: usize,
    /// Transactions with rows that were not held, or dropped, in a number that is bounded.
    missing: BTreeSet<u64>,
    /// Below it, and it included, any transaction may have such rows.
    missing_to: u64,
    /// How often rows were committed.
    told: u64,
}

#[derive(Debug)]
struct Held {
    xid: u64,
    row: Row,
    bytes: usize,
}

/// What of a batch is asked for.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) shard: Shard,
    pub(crate) prev: &'a Snapshot,
    pub(crate) cur: &'a Snapshot,
    /// Where in the log everything lies that `cur` sees.
    pub(crate) lsn: u64,
    pub(crate) after: Seq,
    pub(crate) limit: usize,
}

impl Rows {
    fn drop_all(&mut self) -> usize {
        for held in std::mem::take(&mut self.held).into_values() {
            self.miss(held.xid);
        }
        self.followed = false;
        std::mem::take(&mut self.bytes)
    }

    fn miss(&mut self, xid: u64) {
        self.missing.insert(xid);
        if self.missing.len() > MISSING_MAX
            && let Some(last) = self.missing.pop_last()
        {
            self.missing_to = self.missing_to.max(last);
            self.missing.clear();
        }
    }

    /// Lets everything go that `prev` sees.
    fn let_go(&mut self, prev: &Snapshot) {
        self.held.retain(|_, held| !prev.sees(held.xid));
        self.missing.retain(|xid| !prev.sees(*xid));
        self.bytes = self.held.values().map(|held| held.bytes).sum();
    }
}

impl State {
    /// Tells whether batches that `prev` opens may be served.
    fn serves(&self, shard: Shard, prev: &Snapshot) -> bool {
        let all_before =
            prev.xmax >= self.start.xmax && prev.xip.iter().all(|xid| !self.start.sees(*xid));
        let missing_to = self.shards.get(&shard).map_or(u64::MAX, |rows| rows.missing_to);
        self.live && all_before && prev.xmin > missing_to
    }

    /// Tells whether a batch has rows that are not held.
    fn misses(&self, rows: &Rows, prev: &Snapshot, cur: &Snapshot) -> bool {
        let mut missing = self.start.xip.iter().chain(&rows.missing);
        missing.any(|xid| cur.sees(*xid) && !prev.sees(*xid))
    }

    fn drop_largest(&mut self) {
        if let Some(rows) = self.shards.values_mut().max_by_key(|rows| rows.bytes) {
            self.bytes = self.bytes.saturating_sub(rows.drop_all());
        }
    }
}

impl Shelf {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let reached = watch::Sender::new(0);
        Self { state: Mutex::default(), reached, changed: Notify::new(), bytes_max }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream began; `start` was taken after its beginning, so what is neither seen there nor in
    /// progress is committed within it.
    pub(crate) fn begin(&self, start: Snapshot) {
        let mut state = self.state();
        (state.live, state.start) = (true, start);
        drop(state);
        // Rows may have been committed while nobody looked.
        self.changed.notify_one();
    }

    /// The stream ended.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.live = false;
        for rows in state.shards.values_mut() {
            rows.drop_all();
        }
        state.bytes = 0;
        state.touched.clear();
        self.reached.send_replace(0);
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state().live
    }

    /// Takes a row of a transaction that is being taken.
    pub(crate) fn put(&self, inserted: Inserted) {
        let Inserted { shard, xid, row, bytes } = inserted;
        let mut state = self.state();
        state.touched.insert(shard);
        let rows = state.shards.entry(shard).or_default();
        if !rows.followed {
            rows.miss(xid);
            return;
        }
        rows.held.insert(row.seq, Held { xid, row, bytes });
        rows.bytes = rows.bytes.saturating_add(bytes);
        state.bytes = state.bytes.saturating_add(bytes);
        if state.bytes > self.bytes_max {
            state.drop_largest();
        }
    }

    /// The transaction was taken whole; the log was read as far as `lsn`.
    pub(crate) fn committed(&self, lsn: u64) {
        let mut state = self.state();
        let touched = std::mem::take(&mut state.touched);
        for shard in &touched {
            if let Some(rows) = state.shards.get_mut(shard) {
                rows.told = rows.told.wrapping_add(1);
            }
        }
        drop(state);
        self.read_to(lsn);
        if !touched.is_empty() {
            self.changed.notify_one();
        }
    }

    /// The log was read as far as `lsn`, outside of a transaction.
    pub(crate) fn read_to(&self, lsn: u64) {
        self.reached.send_if_modified(|reached| {
            let further = lsn > *reached;
            *reached = lsn.max(*reached);
            further
        });
    }

    /// Waits until the log was read as far as `lsn`; false when it was not within `bound`.
    pub(crate) async fn reach(&self, lsn: u64, bound: Duration) -> bool {
        let mut reached = self.reached.subscribe();
        let waited = tokio::time::timeout(bound, reached.wait_for(|at| *at >= lsn)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// Lets the rows go that `prev` sees, follows the shard, and tells whether a batch that `prev`
    /// opens may be served.
    pub(crate) fn open(&self, shard: Shard, prev: &Snapshot) -> bool {
        let mut state = self.state();
        let rows = state.shards.entry(shard).or_default();
        rows.followed = true;
        let before = rows.bytes;
        rows.let_go(prev);
        let freed = before.saturating_sub(rows.bytes);
        state.bytes = state.bytes.saturating_sub(freed);
        state.serves(shard, prev)
    }

    /// Returns the next rows of a batch and whether it ends with them; none when they are not all
    /// here.
    pub(crate) fn batch(&self, ask: &Ask<'_>) -> Option<(Vec<Row>, bool)> {
        let state = self.state();
        if !state.serves(ask.shard, ask.prev) || *self.reached.borrow() < ask.lsn {
            return None;
        }
        let rows = state.shards.get(&ask.shard)?;
        if state.misses(rows, ask.prev, ask.cur) {
            return None;
        }
        let held = &rows.held;
        let after = (std::ops::Bound::Excluded(ask.after), std::ops::Bound::Unbounded);
        let within = |held: &&Held| ask.cur.sees(held.xid) && !ask.prev.sees(held.xid);
        let mut rest = held.range(after).map(|(_, held)| held).filter(within);
        let rows: Vec<_> = rest.by_ref().take(ask.limit).map(|held| held.row.clone()).collect();
        let last = rest.next().is_none();
        Some((rows, last))
    }

    /// A shard's lease was given back: its rows are somebody else's.
    pub(crate) fn leave(&self, shard: Shard) {
        let mut state = self.state();
        if let Some(rows) = state.shards.get_mut(&shard) {
            let freed = rows.drop_all();
            state.bytes = state.bytes.saturating_sub(freed);
        }
    }

    /// Returns how often rows of a shard were committed.
    pub(crate) fn told(&self, shard: Shard) -> u64 {
        self.state().shards.get(&shard).map_or(0, |rows| rows.told)
    }

    /// Returns once rows were committed since the last call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use amarra_core::Timestamp;
    use amarra_messaging::Headers;
    use amarra_messaging::message::{Record, Topic};

    use super::*;

    const SHARD: Shard = Shard(1);

    fn row(seq: u64, xid: u64) -> Inserted {
        let record = Record { key: "k".into(), headers: Headers::default(), value: "v".into() };
        let (seq, topic, at) = (Seq(seq), Topic::from("t"), Timestamp::from_micros(0));
        Inserted { shard: SHARD, xid, row: Row { seq, topic, record, at }, bytes: 10 }
    }

    fn at(xid: u64) -> Snapshot {
        Snapshot { xmin: xid, xmax: xid, xip: Vec::new() }
    }

    fn batch(shelf: &Shelf, prev: &Snapshot, cur: &Snapshot, lsn: u64) -> Option<Vec<u64>> {
        let ask = Ask { shard: SHARD, prev, cur, lsn, after: Seq(0), limit: 10 };
        shelf.batch(&ask).map(|(rows, _)| rows.iter().map(|row| row.seq.0).collect())
    }

    fn followed(bytes_max: usize) -> Shelf {
        let shelf = Shelf::new(bytes_max);
        shelf.begin(at(5));
        assert!(!shelf.open(SHARD, &at(4)), "a transaction from before the stream is not here");
        assert!(shelf.open(SHARD, &at(5)));
        shelf
    }

    #[test]
    fn a_batch_is_the_difference_in_the_order_of_the_sequence() {
        let shelf = followed(1000);
        for (seq, xid) in [(4, 6), (2, 7), (3, 8)] {
            shelf.put(row(seq, xid));
            shelf.committed(xid * 10);
        }
        let open = Snapshot { xmin: 7, xmax: 9, xip: vec![7] };
        assert_eq!(batch(&shelf, &at(5), &at(9), 80), Some(vec![2, 3, 4]));
        assert_eq!(batch(&shelf, &at(5), &open, 80), Some(vec![3, 4]));
        assert_eq!(batch(&shelf, &open, &at(9), 80), Some(vec![2]));
        assert_eq!(batch(&shelf, &at(5), &at(9), 81), None, "the log was not read that far");
        assert_eq!(batch(&shelf, &at(4), &at(9), 80), None, "from before the stream");
    }

    #[test]
    fn chunks_of_a_batch_end_with_it() {
        let shelf = followed(1000);
        (1..=3).for_each(|seq| shelf.put(row(seq, 6)));
        shelf.committed(1);
        let chunk = |after, limit| {
            let (prev, cur) = (&at(5), &at(7));
            let ask = Ask { shard: SHARD, prev, cur, lsn: 1, after: Seq(after), limit };
            shelf.batch(&ask).map(|(rows, last)| (rows.len(), last))
        };
        assert_eq!(chunk(0, 2), Some((2, false)));
        assert_eq!(chunk(2, 2), Some((1, true)));
        assert_eq!(chunk(0, 3), Some((3, true)));
        assert_eq!(chunk(3, 2), Some((0, true)));
    }

    #[test]
    fn what_does_not_fit_is_read_from_the_table_until_it_is_relayed() {
        let shelf = followed(25);
        (1..=3).for_each(|seq| shelf.put(row(seq, 6)));
        shelf.committed(1);
        assert_eq!(batch(&shelf, &at(5), &at(7), 1), None, "a part of a batch was served");
        assert!(shelf.open(SHARD, &at(6)));
        shelf.put(row(4, 7));
        shelf.committed(2);
        assert_eq!(batch(&shelf, &at(6), &at(8), 2), None, "a part of a batch was served");
        assert!(shelf.open(SHARD, &at(7)));
        assert_eq!(batch(&shelf, &at(7), &at(8), 2), Some(vec![4]));
    }

    #[test]
    fn rows_of_a_shard_nobody_reads_are_not_held() {
        let shelf = Shelf::new(1000);
        shelf.begin(at(5));
        shelf.put(row(1, 6));
        shelf.committed(1);
        assert!(shelf.open(SHARD, &at(6)));
        assert_eq!(batch(&shelf, &at(6), &at(7), 1), None);
        assert!(shelf.open(SHARD, &at(7)));
        shelf.leave(SHARD);
        shelf.put(row(2, 7));
        shelf.committed(2);
        assert_eq!(batch(&shelf, &at(7), &at(8), 2), None, "a row came while nobody followed");
    }

    #[test]
    fn a_transaction_open_at_the_beginning_is_read_from_the_table_and_delays_no_other() {
        let shelf = Shelf::new(1000);
        let start = Snapshot { xmin: 3, xmax: 6, xip: vec![3] };
        shelf.begin(start.clone());
        assert!(!shelf.open(SHARD, &Snapshot { xip: vec![3, 5], ..start.clone() }));
        assert!(shelf.open(SHARD, &start));
        (7..=9).for_each(|xid| shelf.put(row(xid, xid)));
        shelf.committed(1);
        let later = Snapshot { xmin: 3, xmax: 9, xip: vec![3] };
        assert_eq!(batch(&shelf, &start, &later, 1), Some(vec![7, 8]));
        assert_eq!(batch(&shelf, &later, &at(10), 1), None, "it may have ended before");
        assert_eq!(batch(&shelf, &at(9), &at(10), 1), Some(vec![9]));
    }

    #[test]
    fn too_many_missing_transactions_are_remembered_as_a_bound() {
        let shelf = Shelf::new(1000);
        shelf.begin(at(5));
        let count = u64::try_from(MISSING_MAX).unwrap();
        (0..=count).for_each(|n| shelf.put(row(n, 6 + n)));
        shelf.committed(1);
        assert!(!shelf.open(SHARD, &at(6 + count)));
        assert!(shelf.open(SHARD, &at(7 + count)));
    }

    #[test]
    fn nothing_of_a_stream_outlives_it() {
        let shelf = followed(1000);
        shelf.put(row(1, 6));
        shelf.committed(90);
        shelf.end();
        assert_eq!(batch(&shelf, &at(5), &at(7), 90), None);
        shelf.begin(at(8));
        shelf.read_to(100);
        assert_eq!(batch(&shelf, &at(5), &at(7), 90), None, "its rows are gone");
        assert_eq!(batch(&shelf, &at(8), &at(9), 100), Some(vec![]));
    }
}
