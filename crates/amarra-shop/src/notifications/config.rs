//! The configuration of Notifications.

use std::time::Duration;

use amarra_resilience::{breaker, bulkhead};

use crate::contract::notifications::Channel;
use crate::ports::ConfigError;

/// The bounds and waits of Notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The channels the shop has; the others are never used, whatever users prefer. At least one.
    pub channels: Vec<Channel>,
    /// How often a notification is handed to its provider before it is set aside; at least 1. Tries
    /// that were never sent, as while a breaker is open, do not count.
    pub attempts_max: u32,
    /// The longest wait after a first failed try; it doubles from there on. Above zero.
    pub backoff_first: Duration,
    /// What the doubling stops at; at least `backoff_first`.
    pub backoff_max: Duration,
    /// How long one try may take; above zero, and well below the lease of the worker that makes it.
    pub send_timeout: Duration,
    /// When a channel's provider is believed ill.
    pub breaker: breaker::Config,
    /// How many tries run at once on one channel.
    pub bulkhead: bulkhead::BulkheadConfig,
    /// Notifications of one order that are returned at most; at least 1.
    pub page_max: usize,
}

impl Default for Config {
    /// All three channels, eight tries from a second to five minutes apart.
    fn default() -> Self {
        Self {
            channels: vec![Channel::Email, Channel::Sms, Channel::Push],
            attempts_max: 8,
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            send_timeout: Duration::from_secs(3),
            breaker: breaker::Config::default(),
            bulkhead: bulkhead::BulkheadConfig::default(),
            page_max: 100,
        }
    }
}

impl Config {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first field out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = ConfigError::unless;
        let some = !self.channels.is_empty();
        check(some, "notifications.channels", "must name at least one")?;
        check(self.attempts_max > 0, "notifications.attempts_max", "must be at least 1")?;
        let first = self.backoff_first;
        check(!first.is_zero(), "notifications.backoff_first", "must be above zero")?;
        let ordered = self.backoff_max >= first;
        check(ordered, "notifications.backoff_max", "must be at least backoff_first")?;
        let timeout = !self.send_timeout.is_zero();
        check(timeout, "notifications.send_timeout", "must be above zero")?;
        self.breaker.validate().map_err(|e| nested("notifications.breaker", e))?;
        check(self.page_max > 0, "notifications.page_max", "must be at least 1")
    }
}

pub(super) fn nested(field: &'static str, e: amarra_resilience::ConfigError) -> ConfigError {
    ConfigError { field, why: e.to_string() }
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
        check(|c| c.channels.clear(), "notifications.channels");
        check(|c| c.attempts_max = 0, "notifications.attempts_max");
        check(|c| c.backoff_first = Duration::ZERO, "notifications.backoff_first");
        check(|c| c.backoff_max = Duration::ZERO, "notifications.backoff_max");
        check(|c| c.send_timeout = Duration::ZERO, "notifications.send_timeout");
        check(|c| c.breaker.calls_min = 0, "notifications.breaker");
        check(|c| c.page_max = 0, "notifications.page_max");
    }
}
