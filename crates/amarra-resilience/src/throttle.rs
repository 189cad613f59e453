//! The client-side throttle of the SRE book: refuses a growing share of the calls as fewer are
//! accepted.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Entropy, Monotonic};

use crate::breaker::{Cells, Config, Outcome, Settings, Token, Window};
use crate::config::{ConfigError, PerMille, check};

/// How a throttle judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleConfig {
    /// The calls that are let through for each one that is accepted, in thousandths, at least 1000.
    /// More wastes more of the callee's time and finds out sooner that it is back. Default 2000.
    pub per_accepted_milli: u32,
    /// The largest share of the calls that is refused, below all. The formula alone tends to all:
    /// under much traffic a callee that is back would be found only by chance. Default 95 %.
    pub refused_max: PerMille,
    /// How far back calls count; at least 1 ms. Default 30 s.
    pub span: Duration,
    /// How many slices `span` is forgotten in, 1 to 256. Default 10.
    pub slices: u16,
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        Self {
            per_accepted_milli: 2000,
            refused_max: PerMille::percent(95),
            span: Duration::from_secs(30),
            slices: 10,
        }
    }
}

impl ThrottleConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first field outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check(self.per_accepted_milli >= 1000, "per_accepted_milli", "must be at least 1000")?;
        check(self.refused_max < PerMille::ALL, "refused_max", "must be below all")?;
        check(self.span >= Duration::from_millis(1), "span", "must be at least 1 ms")?;
        check((1..=256).contains(&self.slices), "slices", "must be 1 to 256")
    }
}

/// The call lost the draw; nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("throttled: the callee accepts too few calls")]
pub struct Throttled;

/// Refuses calls with the probability at which the callee would refuse them anyway.
///
/// It has no states and so no moment at which everybody comes back: as soon as calls are accepted
/// again, more are let through. It counts in the same kind of window as the breaker.
///
/// # Laws
/// - THR-1 while everything is accepted nothing is refused.
/// - THR-2 never more than `refused_max` of the calls is refused: the throttle finds out by itself
///   that a callee is back.
/// - THR-3 a refused call counts as one that was not accepted.
///
/// # Example
/// ```
/// use amarra_core::{Monotonic, SeededEntropy};
/// use amarra_resilience::breaker::Outcome;
/// use amarra_resilience::throttle::{Throttle, ThrottleConfig};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let throttle = Throttle::new(ThrottleConfig::default())?;
/// let (now, entropy) = (Monotonic::from_nanos(0), SeededEntropy::new(1, "docs"));
/// throttle.admit(now, &entropy)?;
/// throttle.record(now, Outcome::Ok);
/// # Ok(()) }
/// ```
///
/// # Source
/// Beyer et al., "Site Reliability Engineering", 2016, chapter 21.
#[derive(Debug)]
pub struct Throttle {
    config: ThrottleConfig,
    settings: Arc<Settings>,
    window: Cells,
}

impl Throttle {
    /// Makes a throttle that has seen nothing.
    ///
    /// # Errors
    /// [`ConfigError`] when a field of `config` is outside its range.
    pub fn new(config: ThrottleConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let window = Window::Time { span: config.span, slices: config.slices };
        let settings = Arc::new(Settings::new(Config { window, ..Config::default() }, None));
        Ok(Self { config, window: Cells::new(&settings), settings })
    }

    /// Lets a call through, or refuses it.
    ///
    /// # Errors
    /// [`Throttled`] when it lost the draw.
    pub fn admit(&self, now: Monotonic, entropy: &dyn Entropy) -> Result<(), Throttled> {
        let counts = self.window.counts_at(&self.settings, now.as_nanos());
        let accepted = counts.calls.saturating_sub(counts.failed);
        let allowed = accepted.saturating_mul(u64::from(self.config.per_accepted_milli)) / 1000;
        let of = counts.calls.saturating_add(1);
        let excess = counts.calls.saturating_sub(allowed).min(self.config.refused_max.of(of));
        if excess > 0 && entropy.below(of) < excess {
            self.window.failed_at(&self.settings, now.as_nanos());
            return Err(Throttled);
        }
        Ok(())
    }

    /// Notes what a call that was let through answered.
    pub fn record(&self, now: Monotonic, outcome: Outcome) {
        match outcome {
            Outcome::Ignore | Outcome::Cancelled => {}
            Outcome::Ok | Outcome::Slow => self.window.good(&self.settings, Token::only(), now),
            Outcome::Fail | Outcome::Panicked => {
                self.window.failed_at(&self.settings, now.as_nanos());
            }
        }
    }
}
