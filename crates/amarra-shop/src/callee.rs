//! The one way out of a service: a port that can be reached only through its guards.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use amarra_core::{Class, Classify, Environment};
use amarra_resilience::{Attempt, Breaker, CallOptions, Error, Failed, Pipeline};

/// How a call ended, in the words of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// The callee did as asked.
    Answered,
    /// The callee said no: an answer, and no sign of illness.
    Rejected,
    /// The callee failed, and surely did nothing.
    Failed,
    /// Nobody knows whether the callee acted.
    Unknown,
    /// The breaker refused the last try.
    BreakerOpen,
    /// There was no place for the last try, or its priority was too low.
    Overloaded,
    /// The deadline left no time for the last try, or the request went through too many services.
    NoTime,
    /// Whoever called went away.
    Dropped,
}

impl Ending {
    /// Every ending.
    pub const ALL: [Self; 8] = [
        Self::Answered,
        Self::Rejected,
        Self::Failed,
        Self::Unknown,
        Self::BreakerOpen,
        Self::Overloaded,
        Self::NoTime,
        Self::Dropped,
    ];

    /// Returns the name used in figures.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::BreakerOpen => "breaker_open",
            Self::Overloaded => "overloaded",
            Self::NoTime => "no_time",
            Self::Dropped => "dropped",
        }
    }

    fn of<T, E: Classify>(result: &Result<T, Failed<E>>) -> Self {
        let Err(failed) = result else { return Self::Answered };
        if failed.class() == Class::Unknown {
            return Self::Unknown;
        }
        match &failed.error {
            Error::BreakerOpen(_) => Self::BreakerOpen,
            Error::DeadlinePassed | Error::HopsExhausted => Self::NoTime,
            error if !error.was_sent() => Self::Overloaded,
            error => match error.class() {
                Class::Rejected | Class::Conflict => Self::Rejected,
                _ => Self::Failed,
            },
        }
    }
}

/// The guards of the calls to one callee, and what became of the calls.
///
/// # Units
/// Every count is since the guard was made.
#[derive(Debug)]
pub struct Guard {
    pipeline: Pipeline,
    begun: AtomicU64,
    tries: AtomicU64,
    ended: [AtomicU64; Ending::ALL.len()],
}

impl Guard {
    fn new(pipeline: Pipeline) -> Self {
        let zero = AtomicU64::default;
        Self { pipeline, begun: zero(), tries: zero(), ended: std::array::from_fn(|_| zero()) }
    }

    /// Returns the callee's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.pipeline.name()
    }

    /// Returns the breaker, for an operator to look at it or to set its mode.
    #[must_use]
    pub fn breaker(&self) -> Option<&Breaker> {
        self.pipeline.breaker()
    }

    /// Returns how many tries were handed to the port.
    #[must_use]
    pub fn tries(&self) -> u64 {
        self.tries.load(Ordering::Relaxed)
    }

    /// Returns how many calls ended so.
    #[must_use]
    pub fn ended(&self, ending: Ending) -> u64 {
        let count = Ending::ALL.iter().zip(&self.ended).find(|(one, _)| **one == ending);
        count.map_or(0, |(_, count)| count.load(Ordering::Relaxed))
    }

    /// Returns how many calls have not ended, those that wait for a place or a retry included.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        // Read first: what ends between the two reads is then not missing from what began.
        let ended = self.ended.iter().map(|count| count.load(Ordering::Acquire));
        let ended = ended.fold(0, u64::saturating_add);
        self.begun.load(Ordering::Relaxed).saturating_sub(ended)
    }

    fn begin(&self) -> Running<'_> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Running { guard: self, ending: Ending::Dropped }
    }
}

/// A call that is counted when it ends, in whatever way.
struct Running<'a> {
    guard: &'a Guard,
    ending: Ending,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let counts = Ending::ALL.iter().zip(&self.guard.ended);
        for (_, count) in counts.filter(|(one, _)| **one == self.ending) {
            count.fetch_add(1, Ordering::Release);
        }
    }
}

/// A port of the outside, and the guards in front of it.
///
/// The port itself is private here, so that a service that holds a `Callee` cannot reach it but
/// through the guards: deadline, retry with budget, breaker, bulkhead, and a timeout for each try,
/// as its [`Pipeline`] was built. Callees may share a port, as one client reaches many services;
/// each has guards of its own, so that an ill one does not close the way to the others.
///
/// # Laws
/// - CLE-1 nothing reaches the port that the guards did not admit.
/// - CLE-2 each call is counted under exactly one [`Ending`], a dropped one included.
///
/// # Example
/// See the crate `examples`, program `guarded`, for the guards; the services for their use.
#[derive(Debug)]
pub struct Callee<P: ?Sized> {
    port: Arc<P>,
    guard: Arc<Guard>,
}

impl<P: ?Sized> Callee<P> {
    /// Puts `pipeline` in front of `port`.
    #[must_use]
    pub fn new(port: Arc<P>, pipeline: Pipeline) -> Self {
        Self { port, guard: Arc::new(Guard::new(pipeline)) }
    }

    /// Returns the guards, to be looked at.
    #[must_use]
    pub fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// Makes a call, as often as it may and must be made.
    ///
    /// `call` is given the port and the try, whose deadline is to be sent along where the callee
    /// understands it.
    ///
    /// # Errors
    /// [`Failed`] with the last try's error; its class says what the caller may do.
    ///
    /// # Cancellation
    /// As [`Pipeline::call`].
    pub async fn call<'a, T, E, Fut>(
        &'a self,
        env: &Environment,
        options: CallOptions,
        mut call: impl FnMut(&'a P, Attempt) -> Fut,
    ) -> Result<T, Failed<E>>
    where
        E: Classify,
        Fut: Future<Output = Result<T, E>>,
    {
        let (port, tries) = (self.port.as_ref(), &self.guard.tries);
        let mut running = self.guard.begin();
        let tried = |attempt| {
            tries.fetch_add(1, Ordering::Relaxed);
            call(port, attempt)
        };
        let result = self.guard.pipeline.call(env, options, tried).await;
        running.ending = Ending::of(&result);
        result
    }

    /// Returns how long the breaker will refuse calls yet, none when it would admit one. A refusal
    /// told so is counted as a call: for callers who do not wait for the breaker.
    #[must_use]
    pub fn refuses_for(&self, env: &Environment) -> Option<Duration> {
        let breaker = self.guard.breaker()?;
        let refused = breaker.peek(|| env.monotonic()).err()?;
        self.guard.begin().ending = Ending::BreakerOpen;
        Some(refused.retry_after)
    }
}

#[cfg(test)]
mod tests;
