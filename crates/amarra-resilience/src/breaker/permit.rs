//! The permission to make one call, which knows the period that gave it.

use super::Breaker;
use super::state::{Finish, Outcome, Rejected};
use super::word::Token;
use crate::time::{Monotonic, Now};

/// The permission to make one call.
///
/// # Cancellation
/// Dropped unfinished it is given back; dropped because the call panicked it is a failure, as of
/// the latest time the breaker knows: a drop has no clock. Where the breaker is asked with a clock
/// that is only read when it must be, [`Breaker::call`] dates a panic exactly.
#[derive(Debug)]
#[must_use = "a permit dropped at once admits nothing"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    token: Token,
    /// Zero when nobody asked what time it was.
    started: Monotonic,
    /// A permit taken while unwinding is not dropped by a panic of its own call.
    unwinding_before: bool,
}

impl<'a> Permit<'a> {
    #[inline(always)]
    pub(super) fn new(breaker: &'a Breaker, token: Token, started: Monotonic) -> Self {
        Self { breaker, token, started, unwinding_before: is_unwinding() }
    }

    /// Returns the period this permit belongs to.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.token.epoch()
    }

    /// Confirms that the call may still be sent, and measures it from `now` on.
    ///
    /// For calls that waited for something else after they were admitted: the breaker may have
    /// opened meanwhile, and the wait is not the callee's slowness.
    ///
    /// # Errors
    /// [`Rejected`] when the period of this permit is over and the callee is not believed healthy;
    /// nothing was sent.
    pub fn begin(&mut self, now: impl Now) -> Result<(), Rejected> {
        match self.breaker.confirm(now, self.token) {
            Ok(started) => {
                self.started = started;
                Ok(())
            }
            Err(refused) => Err(refused),
        }
    }

    #[inline(always)]
    pub(crate) fn watched<C: Fn() -> Monotonic + Copy>(self, clock: C) -> Watched<'a, C> {
        let (breaker, token, started) = (self.breaker, self.token, self.started);
        let unwinding_before = self.unwinding_before;
        core::mem::forget(self);
        Watched { breaker, token, started, unwinding_before, clock }
    }

    /// Reports what the call answered.
    #[inline(always)]
    pub fn finish(self, now: impl Now, outcome: Outcome) -> Finish {
        let (breaker, token, started) = (self.breaker, self.token, self.started);
        // Reported: there is nothing left to drop.
        core::mem::forget(self);
        breaker.finish(now, (token, started), outcome)
    }
}

impl Drop for Permit<'_> {
    #[cold]
    fn drop(&mut self) {
        let panicked = is_unwinding() && !self.unwinding_before;
        let outcome = if panicked { Outcome::Panicked } else { Outcome::Cancelled };
        self.breaker.lose((self.token, self.started), outcome);
    }
}

/// What a permit is apart from its breaker. Whoever has one owes the breaker its end.
#[cfg(feature = "tower")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    token: Token,
    started: Monotonic,
    unwinding_before: bool,
}

#[cfg(feature = "tower")]
impl Breaker {
    /// Counts what the call of `ticket` answered.
    #[inline(always)]
    pub(crate) fn redeem(&self, ticket: Ticket, clock: impl Fn() -> Monotonic, outcome: Outcome) {
        self.finish(clock, (ticket.token, ticket.started), outcome);
    }

    /// Counts the call of `ticket` as cancelled, or as panicked.
    #[cold]
    pub(crate) fn lose_ticket(&self, ticket: Ticket, clock: impl Fn() -> Monotonic) {
        let of = (ticket.token, ticket.started);
        if is_unwinding() && !ticket.unwinding_before {
            self.finish(clock, of, Outcome::Panicked);
        } else {
            self.lose(of, Outcome::Cancelled);
        }
    }
}

/// A permit with the clock that dates a panic of its call. The clock is copied and so owns nothing
/// that would have to be dropped.
#[derive(Debug)]
pub(crate) struct Watched<'a, C: Fn() -> Monotonic + Copy> {
    breaker: &'a Breaker,
    token: Token,
    started: Monotonic,
    unwinding_before: bool,
    clock: C,
}

impl<C: Fn() -> Monotonic + Copy> Watched<'_, C> {
    /// Takes the permit apart from its breaker, for a future that holds the breaker itself.
    #[cfg(feature = "tower")]
    #[inline(always)]
    pub(crate) fn into_ticket(self) -> Ticket {
        let ticket = Ticket {
            token: self.token,
            started: self.started,
            unwinding_before: self.unwinding_before,
        };
        core::mem::forget(self);
        ticket
    }

    #[inline(always)]
    pub(crate) fn finish(self, outcome: Outcome) {
        let (breaker, token, started, clock) = (self.breaker, self.token, self.started, self.clock);
        // Reported: there is nothing left to drop.
        core::mem::forget(self);
        breaker.finish(clock, (token, started), outcome);
    }
}

impl<C: Fn() -> Monotonic + Copy> Drop for Watched<'_, C> {
    #[cold]
    fn drop(&mut self) {
        let of = (self.token, self.started);
        if is_unwinding() && !self.unwinding_before {
            self.breaker.finish(self.clock, of, Outcome::Panicked);
        } else {
            self.breaker.lose(of, Outcome::Cancelled);
        }
    }
}

/// A call within one function: whoever leaves it without an answer leaves it by a panic.
#[derive(Debug)]
pub(super) struct Guarded<'a, C: Fn() -> Monotonic> {
    breaker: &'a Breaker,
    token: Token,
    started: Monotonic,
    clock: &'a C,
}

impl<'a, C: Fn() -> Monotonic> Guarded<'a, C> {
    #[inline(always)]
    pub(super) fn new(
        breaker: &'a Breaker,
        token: Token,
        started: Monotonic,
        clock: &'a C,
    ) -> Self {
        Self { breaker, token, started, clock }
    }

    #[inline(always)]
    pub(super) fn disarm(self) {
        core::mem::forget(self);
    }
}

impl<C: Fn() -> Monotonic> Drop for Guarded<'_, C> {
    #[cold]
    fn drop(&mut self) {
        self.breaker.finish_rest(self.clock, (self.token, self.started), Outcome::Panicked);
    }
}

#[cfg(feature = "std")]
#[inline(always)]
fn is_unwinding() -> bool {
    std::thread::panicking()
}

/// Without `std` nothing tells whether a panic is under way; where there is no `std` a panic
/// usually aborts.
#[cfg(not(feature = "std"))]
#[inline(always)]
fn is_unwinding() -> bool {
    false
}
