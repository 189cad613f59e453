//! The window of time: one cell a slice, and stripes of them once threads get in each other's way.
//!
//! Good calls are many and bad ones few, so they are counted apart. Bad ones go to the breaker's
//! own cells, which all threads share. Good ones do too, until there are many of them within one
//! slice, or compare-and-swaps on them have failed a few times: then every thread gets cells of its
//! own and counts there with a plain load and store, which costs a fifth. Whoever has to judge adds
//! them all up. So a breaker of a key that is called now and then stays small, and a busy one is
//! fast.
//!
//! A good call is counted in the slice that is current as far as anybody knows; only one in so many
//! reads the clock to see whether it still is. How many follows the load: at each of the first
//! calls of a slice, then ever more seldom, so that the calls whose slice is only believed are at
//! most one in 64 of those the slice has, and at most 255.

use alloc::boxed::Box;

use super::settings::Settings;
use super::state::Counts;
use super::stripes::{Spot, Stripes};
use super::sync::{AtomicU32, AtomicU64, Ordering};
use super::window::Record;
use super::word::Token;
use crate::time::Now;

/// A cell: 16 bits of tag, 24 bits of failed calls, 24 bits of good ones.
const TAG: u32 = 48;
const FAILED: u32 = 24;
const FIELD: u64 = (1 << 24) - 1;
/// Where a count stops. A multiple of every sampling distance, so that calls that read no clock
/// stop there too.
const FULL: u64 = FIELD & !UNREAD_MAX;

/// A cell of slow calls: the same tag, and their number.
const SLOW: u64 = (1 << TAG) - 1;

/// Failed compare-and-swaps within one slice that make a breaker grow stripes.
const COLLISIONS_MAX: u32 = 16;

/// Good calls within one slice that make a breaker grow stripes.
const BUSY: u64 = 1024;

/// Good calls a slice must have for each one that reads no clock, as a power of two.
const CALLS_PER_UNREAD: u32 = 6;

/// The most good calls between two readings of the clock.
const UNREAD_MAX: u64 = 255;

/// Spreads epochs over the tags, so that two periods never share cells.
const SPREAD: u64 = 0x9e37_79b1;

/// The cells of one breaker.
///
/// # State
/// Cell `n % slots` holds slice `n` when its tag says so, and otherwise nothing that counts.
/// Nothing loops over missed slices: an idle month costs as much as an idle second.
#[derive(Debug)]
pub(crate) struct Cells {
    /// The latest slice seen: its number, and in the low 8 bits its slot.
    current: AtomicU64,
    /// When it ends.
    ends: AtomicU64,
    collisions: AtomicU32,
    /// One cell a slot, and one of slow calls a slot where slow calls count.
    cells: Box<[AtomicU64]>,
    stripes: Stripes,
}

const fn number_of(current: u64) -> u64 {
    current >> 8
}

#[inline(always)]
const fn slot_of(current: u64) -> usize {
    (current & 0xff) as usize
}

/// Returns what tells slice `number` in `epoch` from all others that share its cell.
#[inline(always)]
const fn mark(number: u64, epoch: u64) -> u64 {
    number.wrapping_add(epoch.wrapping_mul(SPREAD))
}

const fn previous(slot: usize, slots: u16) -> usize {
    if slot == 0 { (slots as usize).wrapping_sub(1) } else { slot.wrapping_sub(1) }
}

impl Cells {
    pub(crate) fn new(settings: &Settings) -> Self {
        let slow = usize::from(settings.config.slow_calls.is_some());
        let cells = usize::from(settings.slots).saturating_mul(slow.saturating_add(1));
        Self {
            current: AtomicU64::new(0),
            ends: AtomicU64::new(settings.slice_nanos),
            collisions: AtomicU32::new(0),
            cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
            stripes: Stripes::new(),
        }
    }

    /// Records a good call of `token` where its thread recorded the last one, without a clock;
    /// false when somebody has to look where it belongs.
    #[inline(always)]
    pub(super) fn bump(&self, token: Token) -> bool {
        self.stripes.bump(token)
    }

    /// Records a good call of `token` that ended at `now` where its thread recorded the last one;
    /// false when somebody has to look where it belongs.
    #[inline(always)]
    pub(super) fn bump_at(&self, token: Token, now: u64) -> bool {
        self.stripes.bump_at(token, now)
    }

    /// Records a good call.
    pub(crate) fn good<N: Now>(&self, settings: &Settings, token: Token, now: N) {
        if N::KNOWN {
            let now = now.read().as_nanos();
            if !self.bump_at(token, now) {
                self.good_at(settings, token, now);
            }
        } else if !self.good_unread(token.epoch()) {
            self.good_at(settings, token, now.read().as_nanos());
        }
    }

    /// Records a good call in the breaker's own cell without a clock; false when it takes one, or
    /// threads have cells of their own.
    fn good_unread(&self, epoch: u64) -> bool {
        let current = self.current.load(Ordering::Acquire);
        let mark = mark(number_of(current), epoch);
        let Some(cell) = self.cells.get(slot_of(current)) else { return false };
        let seen = cell.load(Ordering::Relaxed);
        !self.stripes.are_there()
            && seen >> TAG == mark & 0xffff
            && !reads_clock(seen & FIELD)
            && cell
                .compare_exchange(seen, seen.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Records a good call that ended at `now`.
    #[inline(never)]
    fn good_at(&self, settings: &Settings, token: Token, now: u64) {
        let current = self.advance(settings, now);
        let (slot, number, epoch) = (slot_of(current), number_of(current), token.epoch());
        let ends = number.saturating_add(1).saturating_mul(settings.slice_nanos);
        if !self.stripes.count(Spot { slot, mark: mark(number, epoch), ends, token }) {
            self.add(settings, current, epoch, 0);
        }
    }

    /// Records any call.
    pub(super) fn record(&self, settings: &Settings, token: Token, now: u64, record: Record) {
        if record == Record::default() {
            return self.good_at(settings, token, now);
        }
        let (current, epoch) = (self.advance(settings, now), token.epoch());
        self.add(settings, current, epoch, if record.failed { FAILED } else { 0 });
        if record.slow {
            self.add_slow(settings, current, epoch);
        }
    }

    /// Adds a call to the breaker's own cell, in the field at `shift`.
    fn add(&self, settings: &Settings, current: u64, epoch: u64, shift: u32) {
        let Some(cell) = self.cells.get(slot_of(current)) else { return };
        let tag = mark(number_of(current), epoch) & 0xffff;
        let mut seen = cell.load(Ordering::Relaxed);
        loop {
            let fresh = seen >> TAG != tag;
            let base = if fresh { tag << TAG } else { seen };
            if (base >> shift) & FIELD >= FULL {
                self.stripes.inflate(settings.slots);
                return;
            }
            let next = base.wrapping_add(1 << shift);
            match cell.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    if shift == 0 && next & FIELD >= BUSY {
                        self.stripes.inflate(settings.slots);
                    }
                    return;
                }
                Err(changed) => seen = changed,
            }
            if self.collisions.fetch_add(1, Ordering::Relaxed) >= COLLISIONS_MAX {
                self.stripes.inflate(settings.slots);
            }
        }
    }

    fn add_slow(&self, settings: &Settings, current: u64, epoch: u64) {
        let index = usize::from(settings.slots).saturating_add(slot_of(current));
        let Some(cell) = self.cells.get(index) else { return };
        let tag = mark(number_of(current), epoch) & 0xffff;
        let mut seen = cell.load(Ordering::Relaxed);
        loop {
            let base = if seen >> TAG == tag { seen } else { tag << TAG };
            let next = if base & SLOW == SLOW { base } else { base.wrapping_add(1) };
            match cell.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(changed) => seen = changed,
            }
        }
    }

    /// Moves to the slice of `now`, never back, and returns the current one.
    #[inline(always)]
    fn advance(&self, settings: &Settings, now: u64) -> u64 {
        if now < self.ends.load(Ordering::Acquire) {
            return self.current.load(Ordering::Acquire);
        }
        self.advance_to(settings, now)
    }

    #[cold]
    fn advance_to(&self, settings: &Settings, now: u64) -> u64 {
        let number = now.checked_div(settings.slice_nanos).unwrap_or(0);
        let slot = number.checked_rem(u64::from(settings.slots)).unwrap_or(0);
        let next = (number << 8) | slot;
        let mut seen = self.current.load(Ordering::Acquire);
        loop {
            if number_of(seen) >= number {
                return seen;
            }
            if number.wrapping_sub(number_of(seen)) >= u64::from(settings.slots) {
                self.empty(settings, slot_of(next), seen);
            }
            match self.current.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(changed) => seen = changed,
            }
        }
        self.stripes.expire();
        self.forget(settings, number_of(seen), next);
        self.collisions.store(0, Ordering::Relaxed);
        let ends = number.saturating_add(1).saturating_mul(settings.slice_nanos);
        self.ends.fetch_max(ends, Ordering::AcqRel);
        next
    }

    /// Empties the cells of slices in which nothing happened: their tags are too short to tell
    /// this round from one long ago.
    fn forget(&self, settings: &Settings, last: u64, current: u64) {
        let skipped = number_of(current).wrapping_sub(last).saturating_sub(1);
        let mut slot = slot_of(current);
        for _ in 0..skipped.min(u64::from(settings.slots).saturating_sub(1)) {
            slot = previous(slot, settings.slots);
            for index in [slot, slot.saturating_add(usize::from(settings.slots))] {
                if let Some(cell) = self.cells.get(index) {
                    cell.store(0, Ordering::Release);
                }
            }
        }
    }

    /// Empties the cells of a slot whose next slice nobody counts in while `seen` is current. After
    /// a pause of a window or more they may carry that slice's own tag, of a round long ago.
    fn empty(&self, settings: &Settings, slot: usize, seen: u64) {
        for index in [slot, slot.saturating_add(usize::from(settings.slots))] {
            let Some(cell) = self.cells.get(index) else { continue };
            let old = cell.load(Ordering::Acquire);
            if self.current.load(Ordering::Acquire) == seen {
                // Fails only if somebody else was faster, and has emptied it or counts already.
                let _ = cell.compare_exchange(old, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    /// Records a failed call of a window that knows no epochs.
    #[cfg(feature = "std")]
    pub(crate) fn failed_at(&self, settings: &Settings, now: u64) {
        self.record(settings, Token::only(), now, Record { failed: true, slow: false });
    }

    /// Returns the counts at `now` of a window that knows no epochs.
    #[cfg(feature = "std")]
    pub(crate) fn counts_at(&self, settings: &Settings, now: u64) -> Counts {
        self.advance(settings, now);
        self.counts(settings, 0)
    }

    pub(super) fn counts(&self, settings: &Settings, epoch: u64) -> Counts {
        let current = self.current.load(Ordering::Acquire);
        let (mut slot, mut number) = (slot_of(current), number_of(current));
        let mut sum = Counts::default();
        for _ in 0..settings.slots {
            let mark = mark(number, epoch);
            let read = |index: usize| {
                let cell = self.cells.get(index).map_or(0, |cell| cell.load(Ordering::Acquire));
                if cell >> TAG == mark & 0xffff { cell } else { 0 }
            };
            let cell = read(slot);
            let failed = (cell >> FAILED) & FIELD;
            let good = (cell & FIELD).saturating_add(self.stripes.calls(slot, mark));
            let slow = read(slot.saturating_add(usize::from(settings.slots))) & SLOW;
            sum.calls = sum.calls.saturating_add(good).saturating_add(failed);
            sum.failed = sum.failed.saturating_add(failed);
            sum.slow = sum.slow.saturating_add(slow);
            let Some(earlier) = number.checked_sub(1) else { break };
            (slot, number) = (previous(slot, settings.slots), earlier);
        }
        sum
    }

    /// Returns when the current slice began.
    pub(super) fn since(&self, settings: &Settings) -> u64 {
        let number = number_of(self.current.load(Ordering::Acquire));
        number.saturating_mul(settings.slice_nanos)
    }

    /// Empties the breaker's own cells. Those of threads are told apart by their longer tags.
    pub(super) fn clear(&self) {
        for cell in &self.cells {
            cell.store(0, Ordering::Release);
        }
    }
}

/// Returns at how many calls of a slice the clock is read after it was read at `calls`: one in 64
/// of those there are may follow unread, and 255 at most.
#[cfg(any(feature = "std", test))]
#[inline(always)]
pub(super) const fn next_reading(calls: u64) -> u64 {
    let unread = calls >> CALLS_PER_UNREAD;
    calls.wrapping_add(if unread > UNREAD_MAX { UNREAD_MAX } else { unread }).wrapping_add(1)
}

/// Tells whether the next good call of a slice that has `calls` reads the clock, for cells without
/// a place to remember when: by powers of two, as often as [`next_reading`] at least.
#[inline(always)]
const fn reads_clock(calls: u64) -> bool {
    let rounds = calls >> CALLS_PER_UNREAD;
    let rounds = if rounds > UNREAD_MAX { UNREAD_MAX.wrapping_add(1) } else { rounds };
    let mask = (u64::MAX >> (rounds | 1).leading_zeros()) >> 1;
    calls & mask == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_calls_read_the_clock_each_and_many_one_in_256() {
        let readings = |calls| (0..calls).filter(|n| reads_clock(*n)).count();
        assert_eq!(readings(128), 128);
        assert_eq!(readings(256), 128 + 64);
        let many = 1 << 20;
        assert!(readings(many) < (1 << 12) + 1000, "{}", readings(many));
        let (mut unread, mut due) = (0, 0);
        for n in 0..many {
            unread = if reads_clock(n) { 0 } else { unread + 1 };
            assert!(unread <= UNREAD_MAX && unread * 64 <= n, "{unread} after {n}");
            if n == due {
                due = next_reading(n);
                assert!(due - n <= UNREAD_MAX + 1 && (due - n - 1) * 64 <= n, "{due} after {n}");
            }
        }
    }
}
