//! The configuration as the breaker reads it: checked, and converted once.

use alloc::sync::Arc;
use core::time::Duration;

use super::config::{Config, SlowCalls, Window};
use super::state::{Cause, Counts, Observer};

/// What all breakers of one configuration share.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(super) config: Config,
    /// Length of a slice; at least one.
    pub(super) slice_nanos: u64,
    /// How many slices; at least one.
    pub(super) slots: u16,
    /// Nanoseconds from which on a call is slow, the most there are when none is.
    pub(super) slow_after: u64,
    pub(super) observer: Option<Arc<dyn Observer>>,
}

impl Settings {
    pub(crate) fn new(config: Config, observer: Option<Arc<dyn Observer>>) -> Self {
        let (span, slots) = match config.window {
            Window::Time { span, slices } => (span, slices.max(1)),
            Window::Count { .. } => (Duration::MAX, 1),
        };
        let slice_nanos = nanos(span).checked_div(u64::from(slots)).unwrap_or(0).max(1);
        let slow_after = config.slow_calls.map_or(u64::MAX, |rule| nanos(rule.after));
        Self { config, slice_nanos, slots, slow_after, observer }
    }

    /// Tells whether calls are timed.
    pub(super) const fn is_timing(&self) -> bool {
        self.slow_after != u64::MAX
    }

    pub(super) fn permits(&self) -> u64 {
        u64::from(self.config.half_open_permits)
    }

    /// Returns which rate `counts` reach when they are taken out of `of_calls`.
    pub(super) fn over_rate(&self, counts: Counts, of_calls: u64) -> Option<Cause> {
        let slow = |rule: SlowCalls| rule.rate.reached_by(counts.slow, of_calls);
        if self.config.failure_rate.reached_by(counts.failed, of_calls) {
            Some(Cause::FailureRate)
        } else if self.config.slow_calls.is_some_and(slow) {
            Some(Cause::SlowRate)
        } else {
            None
        }
    }

    /// Doubles per open period up to the maximum, then takes a share of it away at random.
    pub(super) fn open_wait(&self, trips: u32, seed: u64, epoch: u64) -> u64 {
        let config = &self.config;
        let doublings = trips.saturating_sub(1).min(63);
        let factor = u32::try_from(1_u64 << doublings).unwrap_or(u32::MAX);
        let wait = nanos(config.open_wait.saturating_mul(factor).min(config.open_wait_max));
        let random = u128::from(mix(seed, epoch));
        let off = random.saturating_mul(u128::from(config.open_jitter.of(wait))) >> 64;
        wait.saturating_sub(u64::try_from(off).unwrap_or(0))
    }
}

/// Returns a duration in nanoseconds, the longest for one that does not fit.
pub(super) fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// Spreads (`seed`, `n`) over the whole range: the finalizer of SplitMix64.
fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
