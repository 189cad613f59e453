//! When a callee is believed ill, and how calls to it are tried again.

use amarra_resilience::retry::{BudgetConfig, Policy};
use amarra_resilience::{PerMille, breaker};
use serde::Deserialize;

use super::wait::Wait;

/// When a callee is believed ill. What is not set is as the service has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BreakerSection {
    /// Calls within ten seconds below which nothing is judged, at least 1. 10.
    pub(crate) calls_min: Option<u32>,
    /// The share of failed calls that opens the breaker, in percent, 1 to 100. 50.
    pub(crate) failure_percent: Option<u8>,
    /// How long the first open period lasts; each one that follows doubles it. Above zero. 1 s.
    pub(crate) open_wait: Option<Wait>,
    /// What the doubling stops at, at least `open_wait`. 60 s; 10 s for the payment provider and
    /// 5 s for the provider's webhooks, since orders wait for them.
    pub(crate) open_wait_max: Option<Wait>,
    /// Probes that one half-open period admits, 1 to 1023. 3.
    pub(crate) probes: Option<u16>,
    /// How long a probe may stay out, and a half-open period last; above zero. 10 s.
    pub(crate) probe_wait: Option<Wait>,
    /// How long after closing only a growing share of the calls is admitted. 5 s.
    pub(crate) ramp: Option<Wait>,
}

impl BreakerSection {
    /// Returns a service's own bounds with what is set here.
    pub(crate) fn over(&self, own: breaker::Config) -> breaker::Config {
        let failure_rate = self.failure_percent.map(PerMille::percent);
        breaker::Config {
            calls_min: self.calls_min.unwrap_or(own.calls_min),
            failure_rate: failure_rate.unwrap_or(own.failure_rate),
            open_wait: self.open_wait.map_or(own.open_wait, |wait| wait.0),
            open_wait_max: self.open_wait_max.map_or(own.open_wait_max, |wait| wait.0),
            half_open_permits: self.probes.unwrap_or(own.half_open_permits),
            half_open_wait: self.probe_wait.map_or(own.half_open_wait, |wait| wait.0),
            ramp: self.ramp.map_or(own.ramp, |wait| wait.0),
            ..own
        }
    }
}

/// How a call is tried again: only one that surely had no effect, or that may be repeated. What is
/// not set is as the service has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetrySection {
    /// Tries of one call, the first included, at least 1. 3 for the gateway, 2 for Payments.
    pub(crate) tries_max: Option<u32>,
    /// The wait before the second try, of which a random share is taken; it doubles. 50 ms.
    pub(crate) wait: Option<Wait>,
    /// What the doubling stops at, at least `wait`. 2 s.
    pub(crate) wait_max: Option<Wait>,
    /// Retries that a hundred calls allow, in percent, 0 to 100: what an outage adds to the load at
    /// most. 10.
    pub(crate) budget_percent: Option<u8>,
    /// Retries saved up at most, at least 1. 10.
    pub(crate) budget_max: Option<u32>,
}

impl RetrySection {
    /// Returns a service's own policy with what is set here.
    pub(crate) fn policy(&self, own: Policy) -> Policy {
        Policy {
            attempts_max: self.tries_max.unwrap_or(own.attempts_max),
            base: self.wait.map_or(own.base, |wait| wait.0),
            cap: self.wait_max.map_or(own.cap, |wait| wait.0),
            ..own
        }
    }

    /// Returns a service's own budget with what is set here.
    pub(crate) fn budget(&self, own: BudgetConfig) -> BudgetConfig {
        BudgetConfig {
            per_call: self.budget_percent.map_or(own.per_call, PerMille::percent),
            tokens_max: self.budget_max.unwrap_or(own.tokens_max),
            ..own
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_as_the_service_has_it() {
        let own = breaker::Config { calls_min: 7, ..breaker::Config::default() };
        assert_eq!(BreakerSection::default().over(own), own);
        let policy = Policy { attempts_max: 2, ..Policy::default() };
        assert_eq!(RetrySection::default().policy(policy), policy);
        let budget = BudgetConfig::default();
        assert_eq!(RetrySection::default().budget(budget), budget);
    }

    #[test]
    fn what_is_set_is_taken() {
        let text = "failure_percent = 20\nopen_wait = \"2s\"\nprobes = 1";
        let section: BreakerSection = toml::from_str(text).unwrap();
        let config = section.over(breaker::Config::default());
        assert_eq!(config.failure_rate, PerMille::percent(20));
        assert_eq!((config.open_wait.as_secs(), config.half_open_permits), (2, 1));
        let text = "tries_max = 5\nwait = \"10ms\"\nbudget_percent = 3\nbudget_max = 4";
        let section: RetrySection = toml::from_str(text).unwrap();
        let policy = section.policy(Policy::default());
        assert_eq!((policy.attempts_max, policy.base.as_millis()), (5, 10));
        let budget = section.budget(BudgetConfig::default());
        assert_eq!((budget.per_call, budget.tokens_max), (PerMille::percent(3), 4));
        assert!(toml::from_str::<RetrySection>("tries = 5").is_err());
    }
}
