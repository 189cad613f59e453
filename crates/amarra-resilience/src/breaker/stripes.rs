//! Cells of good calls, one row a thread, that only their thread writes.

use alloc::boxed::Box;
use std::sync::OnceLock;

use super::cells::mask_for;
use super::sync::{AtomicU64, Ordering};
use crate::row::{LINE, Line, OWN, ROWS};

/// Where a count stops; see the cells' own.
const FULL: u64 = 0xffff_ffff & !63;
const COUNT: u64 = 0xffff_ffff;

/// The rows of one breaker, once it has them.
///
/// # State
/// A row is its mask and then a cell a slot: 32 bits of tag, 32 of good calls. A row below `OWN` is
/// written by one thread at a time, so a load and a store are enough.
#[derive(Debug)]
pub(super) struct Stripes(OnceLock<Box<[Line]>>);

/// The row of the calling thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mine<'a> {
    lines: &'a [Line],
    own: bool,
}

impl Stripes {
    pub(super) fn new() -> Self {
        Self(OnceLock::new())
    }

    #[inline]
    pub(super) fn mine(&self) -> Option<Mine<'_>> {
        let lines = self.0.get()?;
        let row = crate::row::mine();
        row_of(lines, row).map(|lines| Mine { lines, own: row < OWN })
    }

    /// Grows the rows, unless they are there.
    #[cold]
    pub(super) fn inflate(&self, slots: u16) {
        self.0.get_or_init(|| {
            let per_row = usize::from(slots).saturating_add(1).div_ceil(LINE);
            (0..per_row.saturating_mul(ROWS)).map(|_| Line::default()).collect()
        });
    }

    /// Sums what all threads counted at `slot` for the slice of `mark`.
    pub(super) fn count(&self, slot: usize, mark: u64) -> u64 {
        let Some(lines) = self.0.get() else { return 0 };
        let count = |row| {
            let cell = row_of(lines, row).and_then(|row| cell(row, slot.saturating_add(1)));
            let seen = cell.map_or(0, |cell| cell.load(Ordering::Acquire));
            if seen >> 32 == mark & COUNT { seen & COUNT } else { 0 }
        };
        let own: u64 = (0..crate::row::used()).map(count).fold(0, u64::saturating_add);
        own.saturating_add(count(OWN))
    }
}

#[inline]
fn row_of(lines: &[Line], row: usize) -> Option<&[Line]> {
    let per_row = lines.len() / ROWS;
    let from = row.wrapping_mul(per_row);
    lines.get(from..from.wrapping_add(per_row))
}

#[inline]
fn cell(row: &[Line], index: usize) -> Option<&AtomicU64> {
    row.get(index / LINE)?.0.get(index % LINE)
}

impl Mine<'_> {
    /// Counts a call at `slot` without a clock; false when the cell is not of the slice of `mark`,
    /// or it is time to read the clock again.
    #[inline]
    pub(super) fn bump(self, slot: usize, mark: u64) -> bool {
        let Some(cell) = cell(self.lines, slot.wrapping_add(1)) else { return false };
        let mask = cell_mask(self.lines);
        let seen = cell.load(Ordering::Relaxed);
        seen >> 32 == mark & COUNT && seen & mask != 0 && self.put(cell, seen, seen.wrapping_add(1))
    }

    /// Counts a call at `slot` for the slice of `mark`; when it is its first, looks at the slice
    /// `before` for how often to read the clock.
    #[inline]
    pub(super) fn add(self, (slot, mark): (usize, u64), before: (usize, u64), every_max: u64) {
        let Some(cell) = cell(self.lines, slot.wrapping_add(1)) else { return };
        loop {
            let seen = cell.load(Ordering::Relaxed);
            let fresh = seen >> 32 != mark & COUNT;
            if fresh {
                self.pace(before, every_max);
            }
            let base = if fresh { mark << 32 } else { seen };
            if base & COUNT >= FULL || self.put(cell, seen, base.wrapping_add(1)) {
                return;
            }
        }
    }

    #[cold]
    fn pace(self, (slot, mark): (usize, u64), every_max: u64) {
        let seen = cell(self.lines, slot.wrapping_add(1)).map_or(0, |c| c.load(Ordering::Relaxed));
        let calls = if seen >> 32 == mark & COUNT { seen & COUNT } else { 0 };
        if let Some(mask) = cell(self.lines, 0) {
            mask.store(u64::from(mask_for(calls, every_max)), Ordering::Relaxed);
        }
    }

    #[inline]
    fn put(self, cell: &AtomicU64, seen: u64, next: u64) -> bool {
        if self.own {
            cell.store(next, Ordering::Release);
            return true;
        }
        cell.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[inline]
fn cell_mask(row: &[Line]) -> u64 {
    cell(row, 0).map_or(0, |mask| mask.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_counts_and_nothing_is_lost() {
        let stripes = Stripes::new();
        assert!(stripes.mine().is_none());
        stripes.inflate(10);
        for _ in 0..3 {
            std::thread::scope(|scope| {
                for _ in 0..100 {
                    scope.spawn(|| {
                        let mine = stripes.mine().unwrap();
                        (0..100).for_each(|_| mine.add((9, 7), (8, 6), 1));
                    });
                }
            });
        }
        assert_eq!(stripes.count(9, 7), 30_000);
        assert_eq!((stripes.count(9, 6), stripes.count(8, 7)), (0, 0));
    }

    #[test]
    fn a_busy_thread_reads_the_clock_less_often() {
        let stripes = Stripes::new();
        stripes.inflate(2);
        let mine = stripes.mine().unwrap();
        (0..256).for_each(|_| mine.add((0, 1), (1, 0), 64));
        assert!(!mine.bump(0, 1), "the first slice reads at each");
        assert!(!mine.bump(1, 2), "a new slice begins with a reading");
        mine.add((1, 2), (0, 1), 64);
        let unread = (0..4).filter(|_| mine.bump(1, 2)).count();
        assert_eq!(unread, 3, "256 calls allow four to a reading");
    }
}
