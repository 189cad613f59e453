//! The slow start after closing: a growing share of the calls, spread evenly over them.

use std::time::Duration;

use amarra_core::Monotonic;

use super::config::Config;

/// One ramp, from its start until `config.ramp` later.
#[derive(Debug)]
pub(super) struct Ramp {
    from: Monotonic,
    /// Thousandths of a call saved up: a call is admitted when a whole one is there.
    credit: u64,
}

impl Ramp {
    pub(super) fn new(from: Monotonic) -> Self {
        // The first call is admitted: it is the one that learns something.
        Self { from, credit: 999 }
    }

    pub(super) fn is_over(&self, config: &Config, now: Monotonic) -> bool {
        now.since(self.from) >= config.ramp
    }

    /// Admits a call, or returns how long until the share grows.
    pub(super) fn admit(&mut self, config: &Config, now: Monotonic) -> Result<(), Duration> {
        if self.is_over(config, now) {
            return Ok(());
        }
        let passed = now.since(self.from);
        let steps = u64::from(config.ramp_steps);
        let length = config.ramp.checked_div(u32::from(config.ramp_steps)).unwrap_or_default();
        let length = length.as_nanos().max(1);
        let step = passed.as_nanos().checked_div(length).unwrap_or(0);
        let step = u64::try_from(step).unwrap_or(steps).min(steps);
        let shares = step.saturating_add(1).saturating_mul(1000);
        self.credit =
            self.credit.saturating_add(shares.checked_div(steps.saturating_add(1)).unwrap_or(1000));
        if let Some(rest) = self.credit.checked_sub(1000) {
            self.credit = rest;
            return Ok(());
        }
        let grows = length.saturating_mul(u128::from(step.saturating_add(1)));
        let grows = Duration::from_nanos(u64::try_from(grows).unwrap_or(u64::MAX));
        Err(grows.min(config.ramp).saturating_sub(passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_step_by_step() {
        let config = Config { ramp: Duration::from_secs(4), ramp_steps: 4, ..Config::default() };
        let mut ramp = Ramp::new(Monotonic::default());
        let mut admitted = |secs| {
            let now = Monotonic::default().plus(Duration::from_secs(secs));
            (0..1000).filter(|_| ramp.admit(&config, now).is_ok()).count()
        };
        let got: Vec<_> = (0..5).map(&mut admitted).collect();
        assert_eq!(got, [200, 400, 600, 800, 1000]);
    }

    #[test]
    fn a_refusal_says_when_the_share_grows() {
        let config = Config { ramp: Duration::from_secs(4), ramp_steps: 4, ..Config::default() };
        let mut ramp = Ramp::new(Monotonic::default());
        let now = Monotonic::default().plus(Duration::from_millis(1500));
        let refused = (0..10).find_map(|_| ramp.admit(&config, now).err());
        assert_eq!(refused, Some(Duration::from_millis(500)));
    }
}
