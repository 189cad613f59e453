//! The exact window: the last n records, in a ring, and their sum.

use alloc::boxed::Box;

use super::state::Counts;
use super::sync::{AtomicU8, AtomicU64, Ordering};
use super::window::Record;

const THERE: u8 = 1;
const FAILED: u8 = 2;
const SLOW: u8 = 4;

/// Width of one sum in the packed sums.
const FIELD: u32 = 21;
const FIELD_BITS: u64 = (1 << FIELD) - 1;

/// The last `slots.len()` records.
///
/// Its order is one order for all threads, so they share a cache line for each call: several times
/// the price of the window of time, and more with every thread.
///
/// # State
/// `sums` is the sum of `slots`, plus whatever a thread is about to put in or has just taken out:
/// never less.
#[derive(Debug)]
pub(super) struct Ring {
    next: AtomicU64,
    sums: AtomicU64,
    slots: Box<[AtomicU8]>,
}

/// Where a record went, to take it out again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(usize, u8);

impl Ring {
    pub(super) fn new(calls: u16) -> Self {
        let slots = (0..calls.max(1)).map(|_| AtomicU8::new(0)).collect();
        Self { next: AtomicU64::new(0), sums: AtomicU64::new(0), slots }
    }

    pub(super) fn push(&self, record: Record) -> Place {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        let size = u64::try_from(self.slots.len()).unwrap_or(1);
        let index = usize::try_from(ticket.checked_rem(size).unwrap_or(0)).unwrap_or(0);
        let failed = if record.failed { FAILED } else { 0 };
        let slow = if record.slow { SLOW } else { 0 };
        let byte = THERE | failed | slow;
        self.sums.fetch_add(sums_of(byte), Ordering::AcqRel);
        if let Some(slot) = self.slots.get(index) {
            let oldest = slot.swap(byte, Ordering::AcqRel);
            self.sums.fetch_sub(sums_of(oldest), Ordering::AcqRel);
        }
        Place(index, byte)
    }

    /// Takes a record out again that belongs to a period that is over.
    pub(super) fn take_back(&self, Place(index, byte): Place) {
        let slot = self.slots.get(index);
        let there = slot.is_some_and(|slot| {
            slot.compare_exchange(byte, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        });
        if there {
            self.sums.fetch_sub(sums_of(byte), Ordering::AcqRel);
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let sums = self.sums.load(Ordering::Acquire);
        let field = |n: u32| (sums >> n.saturating_mul(FIELD)) & FIELD_BITS;
        Counts { calls: field(0), failed: field(1), slow: field(2) }
    }

    pub(super) fn clear(&self) {
        for slot in &self.slots {
            let old = slot.swap(0, Ordering::AcqRel);
            self.sums.fetch_sub(sums_of(old), Ordering::AcqRel);
        }
    }
}

/// Returns what a slot adds to the packed sums.
fn sums_of(byte: u8) -> u64 {
    let bit = |mask: u8, shift: u32| u64::from(byte & mask != 0) << shift;
    bit(THERE, 0) | bit(FAILED, FIELD) | bit(SLOW, FIELD.saturating_mul(2))
}
