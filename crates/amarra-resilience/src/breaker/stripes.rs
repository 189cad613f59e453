//! Cells of good calls, one row a thread, that only their thread writes.

use alloc::boxed::Box;
use std::sync::OnceLock;

use super::cells::next_reading;
use super::sync::{AtomicU64, Ordering};
use crate::row::{LINE, Line, OWN, ROWS};

/// Where a count stops; see the cells' own.
const FULL: u64 = 0xffff_ffff & !63;
const COUNT: u64 = 0xffff_ffff;

/// How many slots share a line.
const SLOTS: usize = LINE / 2;

/// The rows of one breaker, once it has them.
///
/// # State
/// A line of a row is the cells of some slots, 32 bits of tag and 32 of good calls each, and then
/// for each of them the count at which the clock is read next. A row below `OWN` is written by one
/// thread at a time, so a load and a store are enough. The first line of every row comes first,
/// then the second of every row, and so on.
#[derive(Debug)]
pub(super) struct Stripes(OnceLock<Box<[Line]>>);

/// The row of the calling thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mine<'a> {
    lines: &'a [Line],
    row: usize,
}

impl Stripes {
    pub(super) fn new() -> Self {
        Self(OnceLock::new())
    }

    #[inline(always)]
    pub(super) fn mine(&self) -> Option<Mine<'_>> {
        self.0.get().map(|lines| Mine { lines, row: crate::row::mine() })
    }

    /// Returns the row of the calling thread if it has one already, and otherwise none or the one
    /// that all others share.
    #[inline(always)]
    pub(super) fn mine_known(&self) -> Option<Mine<'_>> {
        self.0.get().map(|lines| Mine { lines, row: crate::row::known() })
    }

    /// Grows the rows, unless they are there.
    #[cold]
    pub(super) fn inflate(&self, slots: u16) {
        self.0.get_or_init(|| {
            let per_row = usize::from(slots).div_ceil(SLOTS);
            (0..per_row.saturating_mul(ROWS)).map(|_| Line::default()).collect()
        });
    }

    /// Sums what all threads counted at `slot` for the slice of `mark`.
    pub(super) fn count(&self, slot: usize, mark: u64) -> u64 {
        let Some(lines) = self.0.get() else { return 0 };
        let count = |row| {
            let cell = Mine { lines, row }.cell(slot);
            let seen = cell.map_or(0, |(cell, _)| cell.load(Ordering::Acquire));
            let calls = seen ^ (mark << 32);
            if calls <= COUNT { calls } else { 0 }
        };
        let own: u64 = (0..crate::row::used()).map(count).fold(0, u64::saturating_add);
        own.saturating_add(count(OWN))
    }
}

impl<'a> Mine<'a> {
    /// Returns the cell of `slot`, and the count at which its slice is looked for again.
    #[inline(always)]
    fn cell(self, slot: usize) -> Option<(&'a AtomicU64, &'a AtomicU64)> {
        let line = (slot / SLOTS).wrapping_mul(ROWS).wrapping_add(self.row);
        let Line(entries) = self.lines.get(line)?;
        let within = slot % SLOTS;
        Some((entries.get(within)?, entries.get(within.wrapping_add(SLOTS))?))
    }

    /// Counts a call at `slot` without a clock; false when the cell is not of the slice of `mark`,
    /// or it is time to read the clock again.
    #[inline(always)]
    pub(super) fn bump(self, slot: usize, mark: u64) -> bool {
        let Some((cell, due)) = self.cell(slot) else { return false };
        let seen = cell.load(Ordering::Relaxed);
        // Of another slice it is more than any count can be.
        let calls = seen ^ (mark << 32);
        calls < due.load(Ordering::Relaxed) && self.put(cell, seen, seen.wrapping_add(1))
    }

    /// Counts a call at `slot` for the slice of `mark`, whose time was known anyway.
    #[inline(always)]
    pub(super) fn add(self, slot: usize, mark: u64) {
        let Some((cell, _)) = self.cell(slot) else { return };
        let seen = cell.load(Ordering::Relaxed);
        let calls = seen ^ (mark << 32);
        if calls >= FULL || calls == 0 || !self.put(cell, seen, seen.wrapping_add(1)) {
            self.add_read(slot, mark);
        }
    }

    /// Counts a call at `slot` for the slice of `mark`, for which the clock was read, and says how
    /// many may follow unread.
    pub(super) fn add_read(self, slot: usize, mark: u64) {
        let Some((cell, due)) = self.cell(slot) else { return };
        loop {
            let seen = cell.load(Ordering::Relaxed);
            let calls = seen ^ (mark << 32);
            let base = if calls <= COUNT { seen } else { mark << 32 };
            let calls = base & COUNT;
            if calls >= FULL {
                return due.store(0, Ordering::Relaxed);
            }
            if self.put(cell, seen, base.wrapping_add(1)) {
                return due.store(next_reading(calls), Ordering::Relaxed);
            }
        }
    }

    #[inline(always)]
    fn put(self, cell: &AtomicU64, seen: u64, next: u64) -> bool {
        if self.row < OWN {
            cell.store(next, Ordering::Release);
            return true;
        }
        cell.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_counts_and_nothing_is_lost() {
        for slots in [10, 100] {
            let stripes = Stripes::new();
            assert!(stripes.mine().is_none());
            stripes.inflate(slots);
            for _ in 0..3 {
                std::thread::scope(|scope| {
                    for _ in 0..100 {
                        scope.spawn(|| {
                            let mine = stripes.mine().unwrap();
                            let last = usize::from(slots) - 1;
                            (0..100).for_each(|_| mine.add(last, 7));
                        });
                    }
                });
            }
            let last = usize::from(slots) - 1;
            assert_eq!(stripes.count(last, 7), 30_000);
            assert_eq!((stripes.count(last, 6), stripes.count(last - 1, 7)), (0, 0));
        }
    }

    #[test]
    fn a_new_slice_begins_with_a_reading_of_the_clock() {
        let stripes = Stripes::new();
        stripes.inflate(2);
        let mine = stripes.mine().unwrap();
        (0..200).for_each(|_| mine.add_read(0, 1));
        let unread = (0..9).take_while(|_| mine.bump(0, 1)).count();
        assert_eq!(unread, 3, "one in 64 of the 199 before");
        assert!(!mine.bump(1, 2));
    }
}
