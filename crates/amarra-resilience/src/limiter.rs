//! A rate limiter: the generic cell rate algorithm, whole or per key.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use amarra_core::Monotonic;

use crate::config::{ConfigError, check};

/// How many calls in how much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimiterConfig {
    /// Calls per `period`, at least 1. Default 100.
    pub calls: u32,
    /// What `calls` is per, above zero. Default 1 s.
    pub period: Duration,
    /// Calls that may come at once after a pause, at least 1. Default 10.
    pub burst: u32,
    /// Keys a [`KeyedLimiter`] keeps, at least 1; keys beyond it share one allowance until others
    /// have paused. Default 10,000.
    pub keys_max: usize,
}

impl Default for LimiterConfig {
    fn default() -> Self {
        Self { calls: 100, period: Duration::from_secs(1), burst: 10, keys_max: 10_000 }
    }
}

impl LimiterConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first field outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check(self.calls > 0, "calls", "must be at least 1")?;
        check(!self.period.is_zero(), "period", "must be above zero")?;
        check(self.burst > 0, "burst", "must be at least 1")?;
        check(self.keys_max > 0, "keys_max", "must be at least 1")
    }
}

/// The rate limit was reached; nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("rate limited; try again in {retry_after:?}")]
pub struct Limited {
    /// When the next call is admitted, if nobody else takes it.
    pub retry_after: Duration,
}

/// The algorithm over one number: when the next call would be due if all came evenly.
///
/// # Source
/// ITU-T I.371, annex A: virtual scheduling.
#[derive(Debug, Clone, Copy)]
struct Gcra {
    /// Nanoseconds between two calls at the full rate, rounded up: never above the rate.
    interval: u64,
    /// How far ahead of its due time a call may come.
    tolerance: u64,
}

impl Gcra {
    fn new(config: &LimiterConfig) -> Self {
        let interval = config.period.as_nanos().div_ceil(u128::from(config.calls.max(1)));
        let interval = u64::try_from(interval).unwrap_or(u64::MAX);
        let ahead = u64::from(config.burst.saturating_sub(1));
        Self { interval, tolerance: interval.saturating_mul(ahead) }
    }

    fn admit(self, due: &mut u64, now: Monotonic) -> Result<(), Limited> {
        let now = now.as_nanos();
        let base = (*due).max(now);
        let ahead = base.saturating_sub(now);
        if ahead > self.tolerance {
            let early = ahead.saturating_sub(self.tolerance);
            return Err(Limited { retry_after: Duration::from_nanos(early) });
        }
        *due = base.saturating_add(self.interval);
        Ok(())
    }
}

/// Admits calls at a rate, some of them in a burst.
///
/// # Laws
/// - LIM-1 any span of time admits at most `burst` calls plus those the rate allows in it.
/// - LIM-2 a refusal's `retry_after` is exact: a call alone is refused just before and admitted
///   then.
/// - LIM-3 a refused call costs nothing.
///
/// # Example
/// ```
/// use amarra_core::Monotonic;
/// use amarra_resilience::limiter::{Limiter, LimiterConfig};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limiter = Limiter::new(LimiterConfig { burst: 1, ..LimiterConfig::default() })?;
/// let now = Monotonic::from_nanos(0);
/// limiter.admit(now)?;
/// let refused = limiter.admit(now).unwrap_err();
/// limiter.admit(now.plus(refused.retry_after))?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Limiter {
    gcra: Gcra,
    due: Mutex<u64>,
}

impl Limiter {
    /// Makes a limiter whose burst is unused.
    ///
    /// # Errors
    /// [`ConfigError`] when a field of `config` is outside its range.
    pub fn new(config: LimiterConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { gcra: Gcra::new(&config), due: Mutex::new(0) })
    }

    /// Admits one call at `now`.
    ///
    /// # Errors
    /// [`Limited`] with the time after which it is admitted.
    pub fn admit(&self, now: Monotonic) -> Result<(), Limited> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        self.gcra.admit(&mut due, now)
    }
}

#[derive(Debug)]
struct Keys<K> {
    due: BTreeMap<K, u64>,
    /// The allowance that keys beyond the bound share.
    overflow: u64,
    /// When paused keys may be looked for again.
    sweep_at: Monotonic,
}

/// A [`Limiter`] per key: per customer, per address.
///
/// A key that paused long enough to have its whole burst again is the same as a new one and is
/// forgotten when room is needed; a key in debt never is, or new keys could wash debts away.
///
/// # Laws
/// - LIM-4 at most `keys_max` keys are kept, and forgetting one admits no call it had refused.
pub struct KeyedLimiter<K> {
    config: LimiterConfig,
    gcra: Gcra,
    keys: Mutex<Keys<K>>,
}

impl<K: Ord + Clone> KeyedLimiter<K> {
    /// Makes a limiter that knows no key.
    ///
    /// # Errors
    /// [`ConfigError`] when a field of `config` is outside its range.
    pub fn new(config: LimiterConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let keys = Keys { due: BTreeMap::new(), overflow: 0, sweep_at: Monotonic::default() };
        Ok(Self { config, gcra: Gcra::new(&config), keys: Mutex::new(keys) })
    }

    /// Admits one call of `key` at `now`.
    ///
    /// # Errors
    /// [`Limited`] with the time after which it is admitted.
    pub fn admit(&self, key: &K, now: Monotonic) -> Result<(), Limited> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = &mut *keys;
        if let Some(due) = keys.due.get_mut(key) {
            return self.gcra.admit(due, now);
        }
        if keys.due.len() >= self.config.keys_max && now >= keys.sweep_at {
            keys.due.retain(|_, due| *due > now.as_nanos());
            // One search per interval: whoever floods with keys must not buy a search with each.
            keys.sweep_at = now.plus(Duration::from_nanos(self.gcra.interval));
        }
        if keys.due.len() >= self.config.keys_max {
            return self.gcra.admit(&mut keys.overflow, now);
        }
        let mut due = 0;
        let admitted = self.gcra.admit(&mut due, now);
        keys.due.insert(key.clone(), due);
        admitted
    }

    /// Returns how many keys are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).due.len()
    }

    /// Tells whether no key is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K> fmt::Debug for KeyedLimiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLimiter").field("config", &self.config).finish_non_exhaustive()
    }
}
