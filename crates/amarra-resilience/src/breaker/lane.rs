//! The cells of good calls that one thread writes and every thread may read.
//!
//! What a thread does at each call is in one line: the cell it counts in, and until when it may go
//! on doing so without looking at anything else. Who looks (one call in so many, the first of a
//! slice, the first of a period) moves the count to the cell of its slot and begins the next.

use super::cells::next_reading;
use super::sync::{AtomicU64, Ordering};
use super::word::Token;

/// How many slots have their cell in the line itself.
const NEAR: usize = 11;

/// How many slots share a line beyond them.
const FAR: usize = 16;

/// A cell: 32 bits of tag, 32 bits of good calls.
const COUNT: u64 = 0xffff_ffff;
/// Where a count stops; see the shared cells' own.
const FULL: u64 = COUNT & !255;

/// The period of a lane that has to look; no permit has it.
const NONE: u64 = u64::MAX;

/// Where a good call belongs, as somebody who looked knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) slot: usize,
    /// What tells the slice and the epoch from all others of the slot.
    pub(super) mark: u64,
    /// When the slice ends.
    pub(super) ends: u64,
    pub(super) token: Token,
}

impl Spot {
    const fn tag(self) -> u64 {
        self.mark << 32
    }
}

/// Cells of slots for which a lane has no place.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Far([AtomicU64; FAR]);

impl Far {
    /// Makes what one lane needs beyond itself for `slots` slots.
    pub(super) fn for_slots(slots: u16) -> impl Iterator<Item = Self> {
        let lines = usize::from(slots).saturating_sub(NEAR).div_ceil(FAR);
        (0..lines).map(|_| Self(core::array::from_fn(|_| AtomicU64::new(0))))
    }
}

/// One thread's line.
///
/// # State
/// All is written by one thread, but for `period`, which anybody may set to `NONE`. The count of a
/// slice is in `cell` when its tag says so, and otherwise in the cell of the slot: it is moved
/// there before `slot` and then `cell` change, so that whoever reads them in the other order never
/// misses it.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Lane {
    cell: AtomicU64,
    /// What `cell` is when the clock is to be read.
    due: AtomicU64,
    /// The token of the permits that may be counted in `cell`.
    period: AtomicU64,
    /// The time from which on another cell is the right one.
    ends: AtomicU64,
    /// The slot of `cell`.
    slot: AtomicU64,
    near: [AtomicU64; NEAR],
}

impl Lane {
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        let near = core::array::from_fn(|_| zero());
        let period = AtomicU64::new(NONE);
        Self { cell: zero(), due: zero(), period, ends: zero(), slot: zero(), near }
    }

    /// Counts a call of `token` without a clock; false when it is time to look.
    #[inline(always)]
    pub(super) fn bump(&self, token: Token) -> bool {
        if self.period.load(Ordering::Relaxed) != token.0 {
            return false;
        }
        let seen = self.cell.load(Ordering::Relaxed);
        let good = seen < self.due.load(Ordering::Relaxed);
        if good {
            self.cell.store(seen.wrapping_add(1), Ordering::Release);
        }
        good
    }

    /// Counts a call of `token` that ended at `now`; false when it is time to look.
    #[inline(always)]
    pub(super) fn bump_at(&self, token: Token, now: u64) -> bool {
        if self.period.load(Ordering::Relaxed) != token.0
            || now >= self.ends.load(Ordering::Relaxed)
        {
            return false;
        }
        let seen = self.cell.load(Ordering::Relaxed);
        let good = seen & COUNT < FULL;
        if good {
            self.cell.store(seen.wrapping_add(1), Ordering::Release);
        }
        good
    }

    /// Counts a call at `spot`, and says how many may follow unread.
    pub(super) fn count(&self, spot: Spot, far: &[Far]) {
        let mut seen = self.cell.load(Ordering::Relaxed);
        if seen ^ spot.tag() > COUNT {
            let old = usize::try_from(self.slot.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
            if let Some(cell) = self.cell_of(old, far) {
                cell.store(seen, Ordering::Release);
            }
            let there = self.cell_of(spot.slot, far).map_or(0, |c| c.load(Ordering::Relaxed));
            seen = if there ^ spot.tag() > COUNT { spot.tag() } else { there };
            self.slot.store(u64::try_from(spot.slot).unwrap_or(u64::MAX), Ordering::Release);
        }
        let calls = seen & COUNT;
        if calls < FULL {
            self.cell.store(seen.wrapping_add(1), Ordering::Release);
        } else {
            self.cell.store(seen, Ordering::Release);
        }
        let unread = spot.token.is_plain() && calls < FULL;
        let due = if unread { spot.tag() | next_reading(calls) } else { 0 };
        self.due.store(due, Ordering::Relaxed);
        self.ends.store(spot.ends, Ordering::Relaxed);
        self.period.store(spot.token.0, Ordering::Relaxed);
    }

    /// Counts a call at `spot`, in a line that several threads share.
    pub(super) fn count_shared(&self, spot: Spot, far: &[Far]) {
        let Some(cell) = self.cell_of(spot.slot, far) else { return };
        let mut seen = cell.load(Ordering::Relaxed);
        loop {
            let base = if seen ^ spot.tag() > COUNT { spot.tag() } else { seen };
            if base & COUNT >= FULL {
                return;
            }
            let next = base.wrapping_add(1);
            match cell.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(changed) => seen = changed,
            }
        }
    }

    /// Makes its thread look before it counts the next call.
    pub(super) fn expire(&self) {
        self.period.store(NONE, Ordering::Relaxed);
    }

    /// Returns the calls counted at `slot` for the slice of `mark`.
    pub(super) fn calls(&self, slot: usize, mark: u64, far: &[Far]) -> u64 {
        let calls = self.cell.load(Ordering::Acquire) ^ (mark << 32);
        let here = u64::try_from(slot).is_ok_and(|slot| slot == self.slot.load(Ordering::Acquire));
        if here && calls <= COUNT { calls } else { self.calls_shared(slot, mark, far) }
    }

    /// Returns the calls counted at `slot` of a line that several threads share.
    pub(super) fn calls_shared(&self, slot: usize, mark: u64, far: &[Far]) -> u64 {
        let cell = self.cell_of(slot, far).map_or(0, |cell| cell.load(Ordering::Acquire));
        let calls = cell ^ (mark << 32);
        if calls <= COUNT { calls } else { 0 }
    }

    fn cell_of<'a>(&'a self, slot: usize, far: &'a [Far]) -> Option<&'a AtomicU64> {
        self.near.get(slot).or_else(|| {
            let beyond = slot.wrapping_sub(NEAR);
            let Far(cells) = far.get(beyond / FAR)?;
            cells.get(beyond % FAR)
        })
    }
}
