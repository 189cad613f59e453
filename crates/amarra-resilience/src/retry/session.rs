//! The decisions of one retried call, from its first try to its last.

use std::time::Duration;

use amarra_core::{Class, Classify, Entropy, Environment, Monotonic};

use super::budget::{Budget, Reserved};
use super::policy::Policy;
use crate::deadline::Deadline;
use crate::error::{Error, Failed, Stop};

/// What a retried call is bounded by.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// How often and how soon.
    pub policy: &'a Policy,
    /// What retries are paid from; `None` for work that no other process notices.
    pub budget: Option<&'a Budget>,
    /// When the caller stops waiting.
    pub deadline: Deadline,
    /// Whether a repeated call has the effect of one: it carries the same idempotency key, or only
    /// reads.
    pub idempotent: bool,
}

/// One try, as its closure sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Which try this is, from 1.
    pub number: u32,
    /// When this try is given up, and what to send along: its hop is counted already.
    pub deadline: Deadline,
}

/// What a try costs once it is sent.
///
/// # Cancellation
/// Dropped unsent it costs nothing.
#[derive(Debug)]
pub(crate) struct Charge<'a> {
    budget: Option<&'a Budget>,
    /// `None` for the first try that is sent: it earns a share of a retry.
    retry: Option<Reserved<'a>>,
}

impl Charge<'_> {
    /// Pays: the try is about to be sent.
    pub(crate) fn spend(self) {
        match (self.retry, self.budget) {
            (Some(retry), _) => retry.spend(),
            (None, Some(budget)) => budget.deposit(),
            (None, None) => {}
        }
    }
}

/// What follows a failed try.
enum Next<'a> {
    Again { at: Monotonic, charge: Charge<'a> },
    Stop(Stop),
}

/// The state of one retried call.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    plan: Plan<'a>,
    /// The deadline as the callee gets it.
    onward: Deadline,
    attempts: u32,
    waited: Duration,
    sent: bool,
    in_doubt: bool,
}

impl<'a> Session<'a> {
    /// Starts with the first try.
    pub(crate) fn start<E>(
        plan: Plan<'a>,
        now: Monotonic,
    ) -> Result<(Self, Charge<'a>), Failed<E>> {
        let refuse = |error, stop| Failed { error, attempts: 0, stop, in_doubt: false };
        let Some(onward) = plan.deadline.next_hop() else {
            return Err(refuse(Error::HopsExhausted, Stop::Class));
        };
        let session = Self {
            plan,
            onward,
            attempts: 1,
            waited: Duration::ZERO,
            sent: false,
            in_doubt: false,
        };
        if !session.fits(now) {
            return Err(refuse(Error::DeadlinePassed, Stop::Deadline));
        }
        Ok((session, Charge { budget: plan.budget, retry: None }))
    }

    /// Returns the current try.
    pub(crate) fn attempt(&self) -> Attempt {
        Attempt { number: self.attempts, deadline: self.onward }
    }

    /// Tells whether any try that failed so far was sent.
    pub(crate) fn was_sent(&self) -> bool {
        self.sent
    }

    /// Tells whether a try that starts at `at` can finish before the deadline.
    pub(crate) fn fits(&self, at: Monotonic) -> bool {
        at.plus(self.plan.policy.attempt_min) <= self.onward.at() && !self.onward.is_past(at)
    }

    /// Waits for the next try after `error`, or fails with it.
    pub(crate) async fn again<E: Classify>(
        &mut self,
        env: &Environment,
        error: Error<E>,
    ) -> Result<Charge<'a>, Failed<E>> {
        let stop = match self.next(&error, env.monotonic(), env.entropy.as_ref()) {
            Next::Stop(stop) => stop,
            Next::Again { at, charge } => {
                env.timer.sleep_until(at).await;
                if self.fits(env.monotonic()) {
                    self.attempts = self.attempts.saturating_add(1);
                    return Ok(charge);
                }
                // The timer was late: the time for the try is gone.
                Stop::Deadline
            }
        };
        // The last try's own doubt is in its class.
        Err(Failed { error, attempts: self.attempts, stop, in_doubt: self.in_doubt })
    }

    fn next<E: Classify>(
        &mut self,
        error: &Error<E>,
        now: Monotonic,
        entropy: &dyn Entropy,
    ) -> Next<'a> {
        let class = error.class();
        if !self.plan.policy.retries(class, self.plan.idempotent) {
            return Next::Stop(Stop::Class);
        }
        self.sent |= error.was_sent();
        if self.attempts >= self.plan.policy.attempts_max {
            return Next::Stop(Stop::Attempts);
        }
        let number = self.attempts.saturating_add(1);
        let backoff = self.plan.policy.wait(number, self.waited, entropy);
        let at = now.plus(backoff.max(error.retry_after().unwrap_or_default()));
        if !self.fits(at) {
            return Next::Stop(Stop::Deadline);
        }
        let retry = match self.plan.budget.filter(|_| self.sent) {
            None => None,
            Some(budget) => match budget.reserve(now) {
                None => return Next::Stop(Stop::Budget),
                retry => retry,
            },
        };
        self.waited = backoff;
        self.in_doubt |= class == Class::Unknown;
        Next::Again { at, charge: Charge { budget: self.plan.budget, retry } }
    }
}
