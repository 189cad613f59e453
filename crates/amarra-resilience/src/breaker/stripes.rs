//! Cells of good calls, one row a thread, that only their thread writes.

use alloc::boxed::Box;
use std::sync::OnceLock;

use super::cells::reads_clock;
use super::sync::{AtomicU64, Ordering};
use crate::row::{LINE, Line, OWN, ROWS};

/// Where a count stops; see the cells' own.
const FULL: u64 = 0xffff_ffff & !63;
const COUNT: u64 = 0xffff_ffff;

/// The rows of one breaker, once it has them.
///
/// # State
/// A row is a cell a slot: 32 bits of tag, 32 of good calls. A row below `OWN` is written by one
/// thread at a time, so a load and a store are enough.
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

    /// Grows the rows, unless they are there.
    #[cold]
    pub(super) fn inflate(&self, slots: u16) {
        self.0.get_or_init(|| {
            let per_row = usize::from(slots).div_ceil(LINE);
            (0..per_row.saturating_mul(ROWS)).map(|_| Line::default()).collect()
        });
    }

    /// Sums what all threads counted at `slot` for the slice of `mark`.
    pub(super) fn count(&self, slot: usize, mark: u64) -> u64 {
        let Some(lines) = self.0.get() else { return 0 };
        let count = |row| {
            let seen = cell(lines, row, slot).map_or(0, |cell| cell.load(Ordering::Acquire));
            if seen >> 32 == mark & COUNT { seen & COUNT } else { 0 }
        };
        let own: u64 = (0..crate::row::used()).map(count).fold(0, u64::saturating_add);
        own.saturating_add(count(OWN))
    }
}

#[inline(always)]
fn cell(lines: &[Line], row: usize, slot: usize) -> Option<&AtomicU64> {
    let per_row = lines.len() / ROWS;
    let line = row.wrapping_mul(per_row).wrapping_add(slot / LINE);
    lines.get(line)?.0.get(slot % LINE)
}

impl Mine<'_> {
    /// Counts a call at `slot` without a clock; false when the cell is not of the slice of `mark`,
    /// or it is time to read the clock again.
    #[inline(always)]
    pub(super) fn bump(self, slot: usize, mark: u64) -> bool {
        let Some(cell) = cell(self.lines, self.row, slot) else { return false };
        let seen = cell.load(Ordering::Relaxed);
        let unread = seen >> 32 == mark & COUNT && !reads_clock(seen & COUNT);
        unread && self.put(cell, seen, seen.wrapping_add(1))
    }

    /// Counts a call at `slot` for the slice of `mark`.
    #[inline(always)]
    pub(super) fn add(self, slot: usize, mark: u64) {
        let Some(cell) = cell(self.lines, self.row, slot) else { return };
        loop {
            let seen = cell.load(Ordering::Relaxed);
            let base = if seen >> 32 == mark & COUNT { seen } else { mark << 32 };
            if base & COUNT >= FULL || self.put(cell, seen, base.wrapping_add(1)) {
                return;
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
        (0..255).for_each(|_| mine.add(0, 1));
        assert!(mine.bump(0, 1), "each second one reads");
        assert!(!mine.bump(0, 1));
        assert!(!mine.bump(1, 2));
    }
}
