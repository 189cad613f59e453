//! The permission to make one call, which knows the period that gave it.

use std::time::Duration;

use amarra_core::Monotonic;

use super::Breaker;
use super::state::{Finish, Outcome, Rejected};

/// The permission to make one call.
///
/// # Cancellation
/// Dropped unfinished it is given back; dropped because the call panicked it is a failure.
#[derive(Debug)]
#[must_use = "a permit dropped at once admits nothing"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    epoch: u64,
    started: Monotonic,
    /// A permit taken while unwinding is not dropped by a panic of its own call.
    unwinding_before: bool,
    finished: bool,
}

impl<'a> Permit<'a> {
    pub(super) fn new(breaker: &'a Breaker, epoch: u64, started: Monotonic) -> Self {
        let unwinding_before = std::thread::panicking();
        Self { breaker, epoch, started, unwinding_before, finished: false }
    }

    /// Returns the period this permit belongs to.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Confirms that the call may still be sent, and measures it from `now` on.
    ///
    /// For calls that waited for something else after they were admitted: the breaker may have
    /// opened meanwhile, and the wait is not the callee's slowness.
    ///
    /// # Errors
    /// [`Rejected`] when the period of this permit is over and the callee is not believed healthy;
    /// nothing was sent.
    pub fn begin(&mut self, now: Monotonic) -> Result<(), Rejected> {
        self.started = now;
        self.breaker.step(|machine| machine.confirm(now, self.epoch))
    }

    /// Reports what the call answered.
    pub fn finish(mut self, now: Monotonic, outcome: Outcome) -> Finish {
        self.finished = true;
        let took = now.since(self.started);
        self.breaker.step(|machine| machine.finish(now, self.epoch, took, outcome))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let panicked = std::thread::panicking() && !self.unwinding_before;
        self.breaker.step(|machine| {
            if panicked {
                // A drop has no clock: the failure counts at the latest time the breaker saw.
                let now = machine.now();
                machine.finish(now, self.epoch, Duration::ZERO, Outcome::Fail);
            } else {
                machine.cancel(self.epoch);
            }
        });
    }
}
