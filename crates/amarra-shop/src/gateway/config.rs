//! The configuration of the gateway.

use std::time::Duration;

use amarra_resilience::bulkhead::BulkheadConfig;
use amarra_resilience::limiter::LimiterConfig;
use amarra_resilience::retry::{BudgetConfig, Policy};
use amarra_resilience::shed::Shed;
use amarra_resilience::{breaker, deadline};

use crate::ports::ConfigError;

/// How the gateway bounds what comes in and what it sends on.
#[derive(Debug, Clone)]
pub struct Config {
    /// Requests per address, whatever they ask. One more is answered 429.
    pub address: LimiterConfig,
    /// Requests per address that try passwords or tokens.
    pub credentials: LimiterConfig,
    /// Requests per authenticated user.
    pub principal: LimiterConfig,
    /// The longest request target, in bytes: at least 256. A longer one is answered 414.
    pub target_bytes_max: usize,
    /// When the breaker of a service opens.
    pub breaker: breaker::Config,
    /// How many requests a service is given at once.
    pub bulkhead: BulkheadConfig,
    /// From which load on which priority is refused.
    pub shed: Shed,
    /// How a failed try is repeated, where the route allows it.
    pub retry: Policy,
    /// How many repetitions there may be in all, per service.
    pub budget: BudgetConfig,
    /// How long one try may take.
    pub try_timeout: Duration,
    /// How far a deadline that a client sends is believed.
    pub deadline: deadline::Limits,
    /// When a client that was refused for load is told to come back.
    pub retry_after: Duration,
    /// How often, at most, the keys of Users are fetched for a token that names an unknown one.
    pub keys_refetch_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let rate = |calls, burst| LimiterConfig { calls, burst, ..LimiterConfig::default() };
        Self {
            address: rate(200, 400),
            credentials: rate(5, 20),
            principal: rate(50, 100),
            target_bytes_max: 2_048,
            breaker: breaker::Config::default(),
            bulkhead: BulkheadConfig::default(),
            shed: Shed::default(),
            retry: Policy::default(),
            budget: BudgetConfig::default(),
            try_timeout: Duration::from_secs(3),
            deadline: deadline::Limits::default(),
            retry_after: Duration::from_secs(1),
            keys_refetch_after: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Checks the bounds that are not checked where they are used.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let error = |field, why: &str| Err(ConfigError { field, why: why.into() });
        if self.target_bytes_max < 256 {
            return error("gateway.target_bytes_max", "must be at least 256");
        }
        if self.retry_after.is_zero() {
            return error("gateway.retry_after", "must be above zero");
        }
        if self.keys_refetch_after.is_zero() {
            return error("gateway.keys_refetch_after", "must be above zero");
        }
        Ok(())
    }
}

/// Names the part of the configuration that a building block refused.
pub(super) fn within(field: &'static str, error: amarra_resilience::ConfigError) -> ConfigError {
    ConfigError { field, why: error.to_string() }
}
