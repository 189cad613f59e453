//! The atomics the breaker is made of. The model tests compile the same files over loom's.

pub(super) use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Waits a moment for another thread.
pub(super) fn pause() {
    core::hint::spin_loop();
}
