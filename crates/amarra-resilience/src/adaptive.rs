//! Adaptive concurrency: how many calls at once is learned from how long they take.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amarra_core::Monotonic;

use crate::breaker::Outcome;
use crate::config::{ConfigError, PerMille, check};

/// After how many windows the shortest call is measured anew.
const MEASURE_EVERY: u32 = 50;

/// How the limit moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveConfig {
    /// Where the limit starts, between the two bounds. Default 20.
    pub initial: u32,
    /// The limit never goes below this, at least 1. Default 4.
    pub limit_min: u32,
    /// The limit never goes above this, at most 1,000,000. Default 1000.
    pub limit_max: u32,
    /// How long calls are watched before the limit moves; above zero. Default 100 ms.
    pub window: Duration,
    /// Fewer calls than this do not move it, at least 1. Default 10.
    pub samples_min: u32,
    /// How much longer than the shortest calls may take before the limit shrinks. Default 50 %.
    pub tolerance: PerMille,
    /// What is left of the limit after a window with failures, above zero. Default 90 %.
    pub backoff: PerMille,
}

impl Default for AdaptiveConfig {
    fn default() -> Self {
        Self {
            initial: 20,
            limit_min: 4,
            limit_max: 1000,
            window: Duration::from_millis(100),
            samples_min: 10,
            tolerance: PerMille::percent(50),
            backoff: PerMille::percent(90),
        }
    }
}

impl AdaptiveConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first field outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check(self.limit_min > 0, "limit_min", "must be at least 1")?;
        let ordered = (self.limit_min..=1_000_000).contains(&self.limit_max);
        check(ordered, "limit_max", "must be limit_min to 1000000")?;
        let within = (self.limit_min..=self.limit_max).contains(&self.initial);
        check(within, "initial", "must be limit_min to limit_max")?;
        check(!self.window.is_zero(), "window", "must be above zero")?;
        check(self.samples_min > 0, "samples_min", "must be at least 1")?;
        check(self.backoff.get() > 0, "backoff", "must be above zero")
    }
}

/// As many calls as the callee is believed to bear are out; nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at the concurrency limit of {limit}")]
pub struct AtLimit {
    /// The limit as it is now.
    pub limit: u32,
}

/// What was seen since the limit moved last.
#[derive(Debug, Clone, Copy)]
struct Seen {
    since: u64,
    calls: u64,
    nanos: u64,
    shortest: u64,
    failed: bool,
    /// The most calls that were out at once.
    busiest: u32,
}

impl Seen {
    fn from(since: u64, in_flight: u32) -> Self {
        Self { since, calls: 0, nanos: 0, shortest: u64::MAX, failed: false, busiest: in_flight }
    }
}

#[derive(Debug)]
struct Learned {
    limit: u32,
    in_flight: u32,
    seen: Seen,
    /// The shortest call since it was measured last.
    shortest: u64,
    windows: u32,
    /// While the shortest call is measured: the limit to go back to.
    resume: Option<u32>,
}

/// Bounds how many calls are out by what the callee shows it can bear.
///
/// After each window the limit is multiplied by how much longer than the shortest calls the calls
/// took, and grows by its square root, so that a callee with room is found out. It settles where
/// the two cancel out.
///
/// # Laws
/// - ADP-1 never more than the limit are out, and the limit stays within its bounds.
/// - ADP-2 it grows only while it is used: a limit nobody reaches is not a limit anybody tested.
/// - ADP-3 the shortest call is a minimum and no average, and each 50th window it is measured anew
///   with the limit at its lowest and by calls begun since: it does not drift up with the load, and
///   follows a callee that changed.
/// - ADP-4 failures shrink it, however quickly they come.
/// - ADP-5 a ticket dropped unfinished frees its place and teaches nothing.
///
/// # Example
/// ```
/// use amarra_core::Monotonic;
/// use amarra_resilience::adaptive::{Adaptive, AdaptiveConfig};
/// use amarra_resilience::breaker::Outcome;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limit = Adaptive::new(AdaptiveConfig::default())?;
/// let now = Monotonic::from_nanos(0);
/// let ticket = limit.admit(now)?;
/// ticket.finish(now, Outcome::Ok);
/// assert_eq!(limit.in_flight(), 0);
/// # Ok(()) }
/// ```
///
/// # Source
/// Netflix concurrency-limits, gradient2, without what its issues 134, 165 and 176 report.
#[derive(Debug)]
pub struct Adaptive {
    config: AdaptiveConfig,
    learned: Mutex<Learned>,
}

impl Adaptive {
    /// Makes a limit that has learned nothing.
    ///
    /// # Errors
    /// [`ConfigError`] when a field of `config` is outside its range.
    pub fn new(config: AdaptiveConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let learned = Learned {
            limit: config.initial,
            in_flight: 0,
            seen: Seen::from(0, 0),
            shortest: u64::MAX,
            windows: 0,
            resume: None,
        };
        Ok(Self { config, learned: Mutex::new(learned) })
    }

    /// Admits a call that starts at `now`.
    ///
    /// # Errors
    /// [`AtLimit`] when as many are out as may be.
    ///
    /// # Cancellation
    /// Dropping the ticket frees its place.
    pub fn admit(&self, now: Monotonic) -> Result<Ticket<'_>, AtLimit> {
        let mut learned = self.lock();
        if learned.in_flight >= learned.limit {
            // Being full is being used.
            learned.seen.busiest = learned.seen.busiest.max(learned.in_flight);
            return Err(AtLimit { limit: learned.limit });
        }
        learned.in_flight = learned.in_flight.saturating_add(1);
        learned.seen.busiest = learned.seen.busiest.max(learned.in_flight);
        Ok(Ticket { of: self, started: now, finished: false })
    }

    /// Returns the limit as it is now.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.lock().limit
    }

    /// Returns how many calls are out.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.lock().in_flight
    }

    /// Returns how full it is.
    #[must_use]
    pub fn load(&self) -> PerMille {
        let learned = self.lock();
        let used = u64::from(learned.in_flight).saturating_mul(1000);
        let load = used.checked_div(u64::from(learned.limit)).unwrap_or(1000);
        PerMille::new(u16::try_from(load).unwrap_or(1000))
    }

    fn lock(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, started: u64, now: u64, outcome: Outcome) {
        let took = now.saturating_sub(started);
        let mut learned = self.lock();
        let learned = &mut *learned;
        learned.in_flight = learned.in_flight.saturating_sub(1);
        let seen = &mut learned.seen;
        if learned.resume.is_some() && started < seen.since {
            // It waited behind the load that is not to be measured.
            return;
        }
        match outcome {
            Outcome::Ignore | Outcome::Cancelled => return,
            Outcome::Fail | Outcome::Panicked => seen.failed = true,
            Outcome::Ok | Outcome::Slow => {
                seen.nanos = seen.nanos.saturating_add(took);
                seen.shortest = seen.shortest.min(took);
            }
        }
        seen.calls = seen.calls.saturating_add(1);
        let window = u64::try_from(self.config.window.as_nanos()).unwrap_or(u64::MAX);
        let over = now.saturating_sub(seen.since) >= window;
        if over && seen.calls >= u64::from(self.config.samples_min) {
            learned.adjust(&self.config);
            learned.seen = Seen::from(now, learned.in_flight);
        }
    }
}

impl Learned {
    fn adjust(&mut self, config: &AdaptiveConfig) {
        if let Some(limit) = self.resume.take() {
            // Where nothing went well nothing was measured.
            if self.seen.shortest < u64::MAX {
                self.shortest = self.seen.shortest;
            }
            let left =
                if self.seen.failed { config.backoff.of(u64::from(limit)) } else { limit.into() };
            self.limit = u32::try_from(left).unwrap_or(limit).max(config.limit_min);
            return;
        }
        self.shortest = self.shortest.min(self.seen.shortest);
        self.windows = self.windows.saturating_add(1);
        if self.windows >= MEASURE_EVERY {
            self.windows = 0;
            self.resume = Some(std::mem::replace(&mut self.limit, config.limit_min));
            return;
        }
        let limit = u64::from(self.limit);
        let used = u64::from(self.seen.busiest).saturating_mul(2) >= limit;
        let next = if self.seen.failed {
            config.backoff.of(limit)
        } else {
            let grown = limit.saturating_mul(self.gradient(config)) / 1000;
            let grown = grown.saturating_add(limit.isqrt().max(1));
            if grown > limit && !used { limit } else { grown }
        };
        let next = u32::try_from(next).unwrap_or(u32::MAX);
        self.limit = next.clamp(config.limit_min, config.limit_max);
    }

    /// Returns how much of the limit the callee bears, in thousandths, half of it at least.
    fn gradient(&self, config: &AdaptiveConfig) -> u64 {
        let average = self.seen.nanos.checked_div(self.seen.calls).unwrap_or(0).max(1);
        let allowed = u64::from(config.tolerance.get()).saturating_add(1000);
        let gradient = u128::from(self.shortest).saturating_mul(u128::from(allowed));
        let gradient = gradient.checked_div(u128::from(average)).unwrap_or(1000);
        u64::try_from(gradient).unwrap_or(1000).clamp(500, 1000)
    }
}

/// A call that was admitted.
///
/// # Cancellation
/// Dropped unfinished it frees its place and teaches nothing.
#[derive(Debug)]
#[must_use = "a ticket dropped at once bounds nothing"]
pub struct Ticket<'a> {
    of: &'a Adaptive,
    started: Monotonic,
    finished: bool,
}

impl Ticket<'_> {
    /// Reports what the call answered.
    pub fn finish(mut self, now: Monotonic, outcome: Outcome) {
        self.finished = true;
        self.of.learn(self.started.as_nanos(), now.as_nanos(), outcome);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.finished {
            let mut learned = self.of.lock();
            learned.in_flight = learned.in_flight.saturating_sub(1);
        }
    }
}
