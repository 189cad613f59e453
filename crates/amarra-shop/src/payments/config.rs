//! How Payments behaves.

use std::time::Duration;

use amarra_resilience::{Policy, breaker, bulkhead, retry};
use amarra_store::Attempts;

use super::model::Rules;
use crate::contract::users::Secret;
use crate::ports::ConfigError;

/// How Payments behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// The secret shared with the provider, at least 16 bytes; webhooks are signed with it.
    pub webhook_secret: Secret,
    /// How far a webhook's signing time may be from the database's: a webhook beyond it is refused
    /// as a replay. It has to cover the skew between the provider's clock and the database's.
    pub webhook_window: Duration,
    /// The longest body of a webhook, in bytes; a longer one is refused.
    pub webhook_bytes_max: usize,
    /// How long one call to the provider may take, its retries included. Shorter than the lease of
    /// the timers, or two workers may call at once (which the idempotency key makes harmless).
    pub call_patience: Duration,
    /// How long one try of a call may take; beyond it the outcome is unknown.
    pub call_timeout: Duration,
    /// When a try that surely was not carried out is repeated within one call.
    pub retry: Policy,
    /// How much may be repeated in all.
    pub budget: retry::BudgetConfig,
    /// When the provider is believed ill.
    pub breaker: breaker::Config,
    /// How many calls run at once.
    pub bulkhead: bulkhead::BulkheadConfig,
    /// The wait before a call that settled nothing is followed by the next; it doubles each time.
    pub backoff: Duration,
    /// The longest such wait.
    pub backoff_max: Duration,
    /// How long after a void that found no authorization to look for one that arrived late.
    pub void_recheck_after: Duration,
    /// The bounds of one payment.
    pub rules: Rules,
    /// How often a change is tried that lost a race in the database.
    pub attempts: Attempts,
    /// At most how many journal entries one page holds; more are cut off.
    pub journal_page_max: usize,
}

impl Config {
    /// Returns the defaults with the secret that has none.
    #[must_use]
    pub fn new(webhook_secret: Secret) -> Self {
        Self {
            webhook_secret,
            webhook_window: Duration::from_secs(600),
            webhook_bytes_max: 16 * 1024,
            call_patience: Duration::from_secs(5),
            call_timeout: Duration::from_secs(2),
            retry: Policy { attempts_max: 2, ..Policy::default() },
            budget: retry::BudgetConfig::default(),
            // A long open period would keep orders waiting well after the provider is back.
            breaker: breaker::Config {
                open_wait_max: Duration::from_secs(10),
                ..breaker::Config::default()
            },
            bulkhead: bulkhead::BulkheadConfig::default(),
            backoff: Duration::from_millis(200),
            backoff_max: Duration::from_secs(10),
            void_recheck_after: Duration::from_secs(10),
            rules: Rules { attempts_max: 5, refunds_max: 20, void_rechecks: 3 },
            attempts: Attempts::default(),
            journal_page_max: 100,
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |holds: bool, field, why: &str| {
            if holds { Ok(()) } else { Err(ConfigError { field, why: why.to_owned() }) }
        };
        let positive = |d: Duration, field| check(!d.is_zero(), field, "must be above zero");
        let secret = self.webhook_secret.expose().len() >= 16;
        check(secret, "payments.webhook_secret", "must be at least 16 bytes long")?;
        positive(self.webhook_window, "payments.webhook_window")?;
        check(
            self.webhook_bytes_max >= 1024,
            "payments.webhook_bytes_max",
            "must be at least 1024",
        )?;
        positive(self.call_timeout, "payments.call_timeout")?;
        let patience = self.call_patience >= self.call_timeout;
        check(patience, "payments.call_patience", "must be at least call_timeout")?;
        positive(self.backoff, "payments.backoff")?;
        let grows = self.backoff_max >= self.backoff;
        check(grows, "payments.backoff_max", "must be at least backoff")?;
        positive(self.void_recheck_after, "payments.void_recheck_after")?;
        check(self.rules.attempts_max > 0, "payments.rules.attempts_max", "must be at least 1")?;
        check(self.rules.refunds_max > 0, "payments.rules.refunds_max", "must be at least 1")?;
        let tries = self.attempts.attempts_max > 0;
        check(tries, "payments.attempts.attempts_max", "must be at least 1")?;
        check(self.journal_page_max > 0, "payments.journal_page_max", "must be at least 1")
    }

    /// Returns the longest wait after `unresolved` calls that settled nothing.
    #[must_use]
    pub fn wait_after(&self, unresolved: u32) -> Duration {
        let doublings = unresolved.saturating_sub(1).min(16);
        self.backoff.saturating_mul(1 << doublings).min(self.backoff_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bad_field_is_named() {
        let good = || Config::new(Secret::new("0123456789abcdef"));
        assert_eq!(good().validate(), Ok(()));
        let check = |spoil: fn(&mut Config), field: &str| {
            let mut config = good();
            spoil(&mut config);
            assert_eq!(config.validate().map_err(|e| e.field), Err(field));
        };
        check(|c| c.webhook_secret = Secret::new("short"), "payments.webhook_secret");
        check(|c| c.webhook_window = Duration::ZERO, "payments.webhook_window");
        check(|c| c.call_patience = Duration::from_secs(1), "payments.call_patience");
        check(|c| c.backoff_max = Duration::from_millis(1), "payments.backoff_max");
        check(|c| c.rules.attempts_max = 0, "payments.rules.attempts_max");
    }

    #[test]
    fn waits_double_up_to_their_bound() {
        let config = Config::new(Secret::new("0123456789abcdef"));
        let waits: Vec<_> = (0..9).map(|n| config.wait_after(n).as_millis()).collect();
        assert_eq!(waits, [200, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }
}
