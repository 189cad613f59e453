//! The sliding window of recorded calls: by time in slices, or exactly the last n.

use amarra_core::Monotonic;

use super::config::Window as Kind;
use super::state::Counts;

/// One recorded call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Record {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

impl Counts {
    pub(super) fn add(&mut self, record: Record) {
        self.calls = self.calls.saturating_add(1);
        self.failed = self.failed.saturating_add(u64::from(record.failed));
        self.slow = self.slow.saturating_add(u64::from(record.slow));
    }

    fn remove(&mut self, record: Record) {
        self.calls = self.calls.saturating_sub(1);
        self.failed = self.failed.saturating_sub(u64::from(record.failed));
        self.slow = self.slow.saturating_sub(u64::from(record.slow));
    }

    fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            failed: self.failed.saturating_add(other.failed),
            slow: self.slow.saturating_add(other.slow),
        }
    }
}

/// A slice of time and the calls that finished in it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slice {
    /// Which slice since the clock's start; a slot whose number is too old holds garbage.
    number: u64,
    counts: Counts,
}

/// The calls the rates are taken over; old ones are forgotten.
#[derive(Debug)]
pub(super) enum Window {
    /// Slot `number % slots.len()` holds slice `number`. Nothing loops over missed slices: an idle
    /// month costs as much as an idle second.
    Time { slice_nanos: u64, slots: Box<[Slice]> },
    /// A ring of the last `size` records and their sum.
    Count { size: usize, ring: Vec<Record>, next: usize, counts: Counts },
}

impl Window {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Time { span, slices } => {
                let nanos = span.as_nanos().checked_div(u128::from(slices)).unwrap_or(0);
                Self::Time {
                    slice_nanos: u64::try_from(nanos).unwrap_or(u64::MAX).max(1),
                    slots: vec![Slice::default(); usize::from(slices.max(1))].into(),
                }
            }
            Kind::Count { calls } => Self::Count {
                size: usize::from(calls.max(1)),
                ring: Vec::new(),
                next: 0,
                counts: Counts::default(),
            },
        }
    }

    pub(super) fn record(&mut self, now: Monotonic, record: Record) {
        match self {
            Self::Time { slice_nanos, slots } => {
                let number = slice_number(now, *slice_nanos);
                if let Some(slot) = slots.get_mut(slot_of(number, slots.len())) {
                    if slot.number != number {
                        *slot = Slice { number, counts: Counts::default() };
                    }
                    slot.counts.add(record);
                }
            }
            Self::Count { size, ring, next, counts } => {
                counts.add(record);
                match ring.get_mut(*next) {
                    Some(oldest) => counts.remove(std::mem::replace(oldest, record)),
                    None => ring.push(record),
                }
                *next = next.saturating_add(1).checked_rem(*size).unwrap_or(0);
            }
        }
    }

    pub(super) fn counts(&self, now: Monotonic) -> Counts {
        match self {
            Self::Time { slice_nanos, slots } => {
                let number = slice_number(now, *slice_nanos);
                let kept = u64::try_from(slots.len()).unwrap_or(u64::MAX);
                let live = |slot: &&Slice| number.saturating_sub(slot.number) < kept;
                slots.iter().filter(live).fold(Counts::default(), |sum, s| sum.plus(s.counts))
            }
            Self::Count { counts, .. } => *counts,
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Self::Time { slots, .. } => slots.fill(Slice::default()),
            Self::Count { ring, next, counts, .. } => {
                ring.clear();
                *next = 0;
                *counts = Counts::default();
            }
        }
    }
}

fn slice_number(now: Monotonic, slice_nanos: u64) -> u64 {
    now.as_nanos().checked_div(slice_nanos).unwrap_or(0)
}

fn slot_of(number: u64, slots: usize) -> usize {
    let slots = u64::try_from(slots).unwrap_or(1);
    usize::try_from(number.checked_rem(slots).unwrap_or(0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FAILED: Record = Record { failed: true, slow: false };

    fn calls_at(window: &Window, secs: u64) -> u64 {
        window.counts(Monotonic::default().plus(Duration::from_secs(secs))).calls
    }

    #[test]
    fn a_time_window_forgets_slice_by_slice() {
        let mut window = Window::new(Kind::Time { span: Duration::from_secs(4), slices: 4 });
        for second in 0..4 {
            window.record(Monotonic::default().plus(Duration::from_secs(second)), FAILED);
        }
        let check = |secs, expect| assert_eq!(calls_at(&window, secs), expect, "at {secs} s");
        check(3, 4);
        check(4, 3);
        check(6, 1);
        check(7, 0);
        check(2_592_000, 0);
        window.clear();
        assert_eq!(calls_at(&window, 3), 0);
    }

    #[test]
    fn a_count_window_is_exactly_the_last_calls() {
        let mut window = Window::new(Kind::Count { calls: 3 });
        let now = Monotonic::default();
        for failed in [true, true, false, false, true] {
            window.record(now, Record { failed, slow: !failed });
        }
        assert_eq!(window.counts(now), Counts { calls: 3, failed: 1, slow: 2 });
        window.clear();
        for n in 1..=4 {
            window.record(now, FAILED);
            assert_eq!(window.counts(now).calls, n.min(3));
        }
    }
}
