//! The breaker's vocabulary: states, modes, outcomes, transitions and who hears of them.

use core::fmt;
use core::time::Duration;

use crate::time::Monotonic;

/// Where a breaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Admits calls and records what they answer.
    Closed,
    /// Rejects every call until its wait is over.
    Open,
    /// Admits a few probes, which decide.
    HalfOpen,
    /// Rejects every call until an operator says otherwise.
    ForcedOpen,
    /// Admits every call and records nothing.
    Disabled,
    /// Admits every call, records what they answer and never opens.
    MetricsOnly,
}

impl State {
    /// Tells whether a breaker may go from this state to `to`.
    ///
    /// An operator may set any mode from anywhere; on its own a breaker only opens, probes, and
    /// closes or opens again.
    #[must_use]
    pub fn may_become(self, to: Self) -> bool {
        match (self, to) {
            (from, to) if from == to => false,
            (_, Self::ForcedOpen | Self::Disabled | Self::MetricsOnly) => true,
            (Self::ForcedOpen | Self::Disabled | Self::MetricsOnly, to) => to == Self::Closed,
            (Self::Closed | Self::HalfOpen, Self::Open)
            | (Self::Open, Self::HalfOpen)
            | (Self::HalfOpen, Self::Closed) => true,
            _ => false,
        }
    }
}

/// Who decides: the breaker itself, or an operator for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The breaker decides; it starts closed.
    Automatic,
    /// Rejects every call.
    ForcedOpen,
    /// Admits every call and records nothing.
    Disabled,
    /// Admits every call, records and never opens.
    MetricsOnly,
}

/// What a call says about the health of its callee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The callee answered; a business "no" is an answer.
    Ok,
    /// The callee answered, and the caller itself measured that it took too long.
    Slow,
    /// The callee failed or did not answer in time.
    Fail,
    /// Says nothing: the call never reached the callee, or failed for reasons of the caller.
    Ignore,
    /// The caller gave up; counts as the configuration says.
    Cancelled,
    /// The call panicked; counts as the configuration says.
    Panicked,
}

impl Outcome {
    /// Judges a result by whether it is `Ok`: for callees whose every error is a failure.
    #[must_use]
    pub fn of_result<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Ok } else { Self::Fail }
    }
}

/// What became of the outcome handed to `finish`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finish {
    /// It counted, or there was nothing to count.
    Recorded,
    /// It came too late: the breaker moved on since the call was admitted, and nothing changed.
    Stale {
        /// The epoch the call was admitted in.
        epoch: u64,
    },
}

/// Why a call was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The breaker is open.
    Open,
    /// Every probe of this half-open period is out or has answered, or another thread is deciding
    /// at this very moment.
    Probing,
    /// The breaker closed a moment ago and admits only a share yet.
    Ramping,
    /// An operator forced the breaker open.
    ForcedOpen,
}

/// The refusal of a call; nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rejected {
    /// When another try may be admitted at the earliest guess.
    pub retry_after: Duration,
    /// Why.
    pub reason: Reason,
}

impl Rejected {
    /// Makes the refusal of a breaker that is open for `nanos` yet.
    #[inline(always)]
    pub(super) const fn open(nanos: u64) -> Self {
        Self { retry_after: Duration::from_nanos(nanos), reason: Reason::Open }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { retry_after, reason } = self;
        write!(f, "circuit breaker rejects the call ({reason:?}); try again in {retry_after:?}")
    }
}

impl core::error::Error for Rejected {}

/// Why a breaker changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Too large a share of the calls failed.
    FailureRate,
    /// Too large a share of the calls was slow.
    SlowRate,
    /// The open wait is over.
    WaitOver,
    /// Enough probes answered well.
    ProbesOk,
    /// The half-open wait ended with a probe still out, or with nothing learned.
    ProbesExpired,
    /// An operator set the mode.
    Operator,
}

/// One change of state.
///
/// Handed to the observer outside any lock, so two of them may arrive in the other order: `epoch`
/// tells which came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Transition {
    /// The state left.
    pub from: State,
    /// The state entered.
    pub to: State,
    /// The number of the period that begins, one above that of the period that ends.
    pub epoch: u64,
    /// When, by the time the callers passed in.
    pub at: Monotonic,
    /// Why.
    pub cause: Cause,
}

/// Hears of every change of a breaker's state.
///
/// # Laws
/// - BRK-OBS-1 exactly one call per transition, made outside any lock: it may use the breaker.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Takes note of `transition` of the breaker called `name`.
    fn transition(&self, name: &str, transition: &Transition);
}

/// Recorded calls by what they answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Counts {
    /// All recorded calls.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that were slow, failed or not.
    pub slow: u64,
}

/// What a breaker looks like at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The state as of the last call; time alone changes nothing until the next one.
    pub state: State,
    /// The number of the current period.
    pub epoch: u64,
    /// Calls in the window as of its latest record, or probes that answered while half-open.
    pub counts: Counts,
    /// Probes out; zero unless half-open.
    pub probes_out: u16,
    /// Results that came too late, since the breaker was made.
    pub stale: u64,
    /// How many open periods came one after another.
    pub trips: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_drawn_arrows_are_legal() {
        use State::{Closed, Disabled, ForcedOpen, HalfOpen, MetricsOnly, Open};
        let all = [Closed, Open, HalfOpen, ForcedOpen, Disabled, MetricsOnly];
        let own: Vec<_> = [Closed, Open, HalfOpen]
            .into_iter()
            .flat_map(|from| [Closed, Open, HalfOpen].map(|to| (from, to)))
            .filter(|(from, to)| from.may_become(*to))
            .collect();
        assert_eq!(own, [(Closed, Open), (Open, HalfOpen), (HalfOpen, Closed), (HalfOpen, Open)]);
        for from in all {
            assert!(!from.may_become(from), "{from:?}");
            for mode in [ForcedOpen, Disabled, MetricsOnly] {
                assert_eq!(from.may_become(mode), from != mode);
                assert!(!mode.may_become(Open) && !mode.may_become(HalfOpen));
                assert!(mode.may_become(Closed));
            }
        }
    }
}
