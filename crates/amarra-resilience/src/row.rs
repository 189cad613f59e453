//! Rows of counters, one a thread: which row a thread writes, and counters that are made of rows.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many threads have a row of their own; all others share the last one.
pub(crate) const OWN: usize = 63;
pub(crate) const ROWS: usize = OWN + 1;

/// Counters in a line, so that two rows never share one; twice the usual size of a cache line,
/// because processors fetch the neighbour too.
pub(crate) const LINE: usize = 16;

/// Part of a row.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Line(pub(crate) [AtomicU64; LINE]);

/// A number that only grows, added to by many threads without getting in each other's way.
///
/// # State
/// A line below `OWN` is written by one thread at a time, so a load and a store are enough.
#[derive(Debug, Default)]
pub(crate) struct Tally(OnceLock<Box<[Line; ROWS]>>);

impl Tally {
    /// Adds one.
    #[inline(always)]
    pub(crate) fn add(&self) {
        let Some(lines) = self.0.get() else { return self.add_first() };
        let row = known();
        let Some(Line([count, ..])) = lines.get(row % ROWS) else { return };
        if row == OWN {
            return self.add_shared(count);
        }
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    #[cold]
    fn add_first(&self) {
        self.0.get_or_init(|| Box::new(core::array::from_fn(|_| Line::default())));
        self.add();
    }

    /// Adds one for a thread that has no row of its own, unless it can have one.
    #[cold]
    fn add_shared(&self, shared: &AtomicU64) {
        if mine() == OWN {
            shared.fetch_add(1, Ordering::AcqRel);
        } else {
            self.add();
        }
    }

    /// Returns how often it was added to.
    pub(crate) fn sum(&self) -> u64 {
        let Some(lines) = self.0.get() else { return 0 };
        let own = lines.iter().take(used());
        let rows = own.chain(lines.get(OWN));
        rows.map(|Line([count, ..])| count.load(Ordering::Acquire)).fold(0, u64::wrapping_add)
    }
}

/// One bit a row that a living thread has.
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// One above the highest row ever taken.
static USED: AtomicUsize = AtomicUsize::new(0);

/// A row is kept as its distance from the first one: every call needs that, and nothing else.
const STRIDE: u32 = size_of::<Line>().trailing_zeros();

std::thread_local! {
    static ROW: Cell<usize> = const { Cell::new(OWN << STRIDE) };
    static HELD: Held = Held::take();
}

/// Returns the row of the calling thread, the shared one when there is none left.
pub(crate) fn mine() -> usize {
    let row = known();
    if row == OWN { find() } else { row }
}

/// Returns the row of the calling thread, and the shared one when it has none yet.
#[inline(always)]
pub(crate) fn known() -> usize {
    ROW.get() >> STRIDE
}

pub(crate) fn used() -> usize {
    USED.load(Ordering::Acquire)
}

#[cold]
fn find() -> usize {
    // A thread that is being torn down shares the last row.
    let row = HELD.try_with(|held| held.0).unwrap_or(OWN);
    ROW.set(row << STRIDE);
    row
}

/// Gives the row back when its thread ends. The next owner acquires what this one released, so
/// it sees every store of its own row.
struct Held(usize);

impl Held {
    fn take() -> Self {
        let lowest = |taken: u64| {
            let row = taken.trailing_ones();
            (row < 63).then(|| taken | (1 << row))
        };
        let taken = TAKEN.fetch_update(Ordering::AcqRel, Ordering::Acquire, lowest);
        let row =
            taken.map_or(OWN, |before| usize::try_from(before.trailing_ones()).unwrap_or(OWN));
        if row < OWN {
            USED.fetch_max(row.saturating_add(1), Ordering::AcqRel);
        }
        Self(row)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        ROW.set(OWN << STRIDE);
        if self.0 < OWN {
            TAKEN.fetch_and(!(1 << self.0), Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_come_and_go_and_nothing_is_lost() {
        let tally = Tally::default();
        for _ in 0..3 {
            std::thread::scope(|scope| {
                (0..100).for_each(|_| {
                    scope.spawn(|| (0..100).for_each(|_| tally.add()));
                });
            });
        }
        assert_eq!(tally.sum(), 30_000);
    }
}
