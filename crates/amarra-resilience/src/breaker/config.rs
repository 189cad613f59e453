//! The breaker's configuration and what its fields are checked for.

use core::time::Duration;

use super::state::Outcome;
use crate::config::{ConfigError, PerMille, check};

/// Which recorded calls the rates are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The calls that finished within the last `span`, forgotten one slice at a time.
    Time {
        /// How far back; at least one microsecond a slice.
        span: Duration,
        /// How many slices `span` is cut into, 1 to 256: more forget more smoothly.
        slices: u16,
    },
    /// Exactly the last `calls` calls, 1 to 65535, however old.
    Count {
        /// How many calls are kept.
        calls: u16,
    },
}

/// When calls count as slow, and how many of them open the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowCalls {
    /// A call that took at least this long is slow, whatever it answered.
    pub after: Duration,
    /// The share of slow calls that opens the breaker, above zero.
    pub rate: PerMille,
}

/// What a call counts as that never reported an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lost {
    /// As nothing: a probe gives its permit back, a call of the closed state leaves no trace.
    Ignored,
    /// As a failure.
    Failed,
}

impl Lost {
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::Ignored => Outcome::Ignore,
            Self::Failed => Outcome::Fail,
        }
    }
}

/// How a breaker judges and waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The calls the rates are taken over. Ten seconds in ten slices by default.
    pub window: Window,
    /// Fewer recorded calls than this never open the breaker; at least 1. Default 10.
    pub calls_min: u32,
    /// The share of failed calls that opens the breaker, above zero. Default 50 %.
    pub failure_rate: PerMille,
    /// The slow-call rule; none by default.
    pub slow_calls: Option<SlowCalls>,
    /// What a call counts as whose permit was dropped: its caller gave up. Default ignored: callers
    /// give up for reasons of their own.
    pub cancelled: Lost,
    /// What a call counts as whose permit was dropped by a panic. Default failed.
    pub panicked: Lost,
    /// How many probes one half-open period admits, 1 to 1023. Default 3: one lucky or unlucky
    /// probe does not decide.
    pub half_open_permits: u16,
    /// How long a half-open period may last, and so how long a probe may stay out; above zero.
    /// Default 10 s.
    pub half_open_wait: Duration,
    /// How long the first open period lasts; each one that follows doubles it. Default 1 s.
    pub open_wait: Duration,
    /// What the doubling stops at, at least `open_wait`. Default 60 s.
    pub open_wait_max: Duration,
    /// The share of an open period that is random, so that many breakers do not probe together.
    /// Default 25 %: the period lasts 75 % to 100 %.
    pub open_jitter: PerMille,
    /// How long after closing only a growing share of the calls is admitted; zero admits all at
    /// once. Default 5 s. Staying closed this long also forgets the doubling.
    pub ramp: Duration,
    /// How many steps the ramp takes, at least 1. Default 5.
    pub ramp_steps: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: Window::Time { span: Duration::from_secs(10), slices: 10 },
            calls_min: 10,
            failure_rate: PerMille::percent(50),
            slow_calls: None,
            cancelled: Lost::Ignored,
            panicked: Lost::Failed,
            half_open_permits: 3,
            half_open_wait: Duration::from_secs(10),
            open_wait: Duration::from_secs(1),
            open_wait_max: Duration::from_secs(60),
            open_jitter: PerMille::percent(25),
            ramp: Duration::from_secs(5),
            ramp_steps: 5,
        }
    }
}

impl Config {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first field outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.window {
            Window::Time { span, slices } => {
                check((1..=256).contains(&slices), "window.slices", "must be 1 to 256")?;
                let enough = span.as_micros() >= u128::from(slices);
                check(enough, "window.span", "must be at least one microsecond a slice")?;
            }
            Window::Count { calls } => check(calls > 0, "window.calls", "must be at least 1")?,
        }
        let reachable = match self.window {
            Window::Time { .. } => true,
            Window::Count { calls } => self.calls_min <= u32::from(calls),
        };
        check(self.calls_min > 0, "calls_min", "must be at least 1")?;
        check(reachable, "calls_min", "must not exceed window.calls, or it is never reached")?;
        check(self.failure_rate.get() > 0, "failure_rate", "must be above zero")?;
        if let Some(slow) = self.slow_calls {
            check(slow.rate.get() > 0, "slow_calls.rate", "must be above zero")?;
            check(!slow.after.is_zero(), "slow_calls.after", "must be above zero")?;
        }
        let permits = (1..=1023).contains(&self.half_open_permits);
        check(permits, "half_open_permits", "must be 1 to 1023")?;
        check(!self.half_open_wait.is_zero(), "half_open_wait", "must be above zero")?;
        check(!self.open_wait.is_zero(), "open_wait", "must be above zero")?;
        let ordered = self.open_wait_max >= self.open_wait;
        check(ordered, "open_wait_max", "must be at least open_wait")?;
        check(self.ramp_steps > 0, "ramp_steps", "must be at least 1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_names_the_field() {
        let check = |change: fn(&mut Config), field: &str| {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().field, field);
        };
        assert_eq!(Config::default().validate(), Ok(()));
        check(|c| c.window = Window::Count { calls: 0 }, "window.calls");
        check(|c| c.window = Window::Count { calls: 9 }, "calls_min");
        check(|c| c.window = Window::Time { span: Duration::ZERO, slices: 1 }, "window.span");
        check(
            |c| c.window = Window::Time { span: Duration::from_secs(1), slices: 0 },
            "window.slices",
        );
        check(|c| c.calls_min = 0, "calls_min");
        check(|c| c.failure_rate = PerMille::new(0), "failure_rate");
        let slow = |after, rate| Some(SlowCalls { after, rate: PerMille::new(rate) });
        let mut config = Config { slow_calls: slow(Duration::ZERO, 1), ..Config::default() };
        assert_eq!(config.validate().unwrap_err().field, "slow_calls.after");
        config.slow_calls = slow(Duration::from_secs(1), 0);
        assert_eq!(config.validate().unwrap_err().field, "slow_calls.rate");
        check(|c| c.half_open_permits = 0, "half_open_permits");
        check(|c| c.half_open_permits = 1024, "half_open_permits");
        check(|c| c.half_open_wait = Duration::ZERO, "half_open_wait");
        check(|c| c.open_wait = Duration::ZERO, "open_wait");
        check(|c| c.open_wait_max = Duration::from_millis(1), "open_wait_max");
        check(|c| c.ramp_steps = 0, "ramp_steps");
    }
}
