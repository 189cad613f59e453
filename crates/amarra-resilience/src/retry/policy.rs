//! How often to try again, which classes, and how long to wait between.

use std::time::Duration;

use amarra_core::{Class, Entropy};

use crate::config::{ConfigError, check};

/// How the wait between two tries is made random, so that callers who failed together do not come
/// back together.
///
/// # Source
/// Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Jitter {
    /// Exactly the exponential wait. For tests, and where one caller is alone.
    None,
    /// Anything from nothing to the exponential wait: spreads best.
    Full,
    /// Half of the exponential wait, and anything up to the other half: never too soon.
    Equal,
    /// Anything from the base to three times the wait before.
    Decorrelated,
}

/// When a failed call is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Tries of one call, the first included, at least 1; tries that were refused before they were
    /// sent count too. Default 3.
    pub attempts_max: u32,
    /// The wait before the second try, doubled before each further one. Default 50 ms.
    pub base: Duration,
    /// What the doubling stops at, at least `base`. Default 2 s.
    pub cap: Duration,
    /// How the wait is made random. Default [`Jitter::Full`].
    pub jitter: Jitter,
    /// Whether `Conflict` is tried again: only where each try loads again and decides again.
    /// Default false.
    pub retry_conflict: bool,
    /// The least time a try needs: none is started when less is left to the deadline. Default 5 ms.
    pub attempt_min: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            base: Duration::from_millis(50),
            cap: Duration::from_secs(2),
            jitter: Jitter::Full,
            retry_conflict: false,
            attempt_min: Duration::from_millis(5),
        }
    }
}

impl Policy {
    /// A policy of one try.
    #[must_use]
    pub fn once() -> Self {
        Self { attempts_max: 1, ..Self::default() }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first field outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check(self.attempts_max > 0, "attempts_max", "must be at least 1")?;
        check(self.cap >= self.base, "cap", "must be at least base")
    }

    /// Tells whether an error of `class` may be tried again: never when the effect of the failed
    /// try is in doubt and the callee could not tell the next one from it.
    #[must_use]
    pub fn retries(&self, class: Class, idempotent: bool) -> bool {
        match class {
            Class::Transient => true,
            Class::Unknown => idempotent,
            Class::Conflict => self.retry_conflict,
            Class::Rejected | Class::Fatal => false,
        }
    }

    /// Returns the wait before try `attempt` (the second is 2) after one of `previous`.
    #[must_use]
    pub fn wait(&self, attempt: u32, previous: Duration, entropy: &dyn Entropy) -> Duration {
        let doublings = attempt.saturating_sub(2).min(31);
        let full = self.base.saturating_mul(1 << doublings).min(self.cap);
        match self.jitter {
            Jitter::None => full,
            Jitter::Full => within(Duration::ZERO, full, entropy),
            Jitter::Equal => within(full.checked_div(2).unwrap_or_default(), full, entropy),
            Jitter::Decorrelated => {
                let most = previous.max(self.base).saturating_mul(3).min(self.cap);
                within(self.base, most, entropy)
            }
        }
    }
}

/// Draws a duration from `low` to `high`, both included.
fn within(low: Duration, high: Duration, entropy: &dyn Entropy) -> Duration {
    let span = u64::try_from(high.saturating_sub(low).as_nanos()).unwrap_or(u64::MAX);
    low.saturating_add(Duration::from_nanos(entropy.below(span.saturating_add(1))))
}

#[cfg(test)]
mod tests {
    use amarra_core::SeededEntropy;

    use super::*;

    fn waits(jitter: Jitter) -> Vec<Duration> {
        let policy = Policy { jitter, ..Policy::default() };
        let entropy = SeededEntropy::new(3, "waits");
        let mut previous = Duration::ZERO;
        let next = |attempt| {
            previous = policy.wait(attempt, previous, &entropy);
            previous
        };
        (2..40).map(next).collect()
    }

    #[test]
    fn without_jitter_the_wait_doubles_up_to_the_cap() {
        let millis: Vec<_> = waits(Jitter::None).iter().take(8).map(Duration::as_millis).collect();
        assert_eq!(millis, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    }

    #[test]
    fn each_jitter_stays_in_its_range_and_repeats_by_seed() {
        let (base, cap) = (Policy::default().base, Policy::default().cap);
        let most = waits(Jitter::None);
        for (kind, floor) in [(Jitter::Full, 0), (Jitter::Equal, 2)] {
            let got = waits(kind);
            for (wait, most) in got.iter().zip(&most) {
                let least = most.checked_div(floor).unwrap_or_default();
                assert!((least..=*most).contains(wait), "{kind:?} {wait:?}");
            }
            assert_ne!(got, most);
            assert_eq!(got, waits(kind));
        }
        let mut previous = base;
        for wait in waits(Jitter::Decorrelated) {
            assert!((base..=(previous * 3).min(cap)).contains(&wait), "{wait:?}");
            previous = wait;
        }
    }

    #[test]
    fn only_what_may_be_repeated_is_retried() {
        let policy = Policy::default();
        let check = |class, idempotent, expect| {
            assert_eq!(policy.retries(class, idempotent), expect, "{class} {idempotent}");
        };
        check(Class::Transient, false, true);
        check(Class::Unknown, false, false);
        check(Class::Unknown, true, true);
        check(Class::Conflict, true, false);
        check(Class::Rejected, true, false);
        check(Class::Fatal, true, false);
        let eager = Policy { retry_conflict: true, ..policy };
        assert!(eager.retries(Class::Conflict, false));
        let check = |policy: Policy, field| {
            assert_eq!(policy.validate().unwrap_err().field, field);
        };
        check(Policy { attempts_max: 0, ..policy }, "attempts_max");
        check(Policy { cap: Duration::ZERO, ..policy }, "cap");
    }
}
