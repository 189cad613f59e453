//! The configuration of Users.

use std::time::Duration;

use amarra_resilience::{breaker, bulkhead};
use amarra_store::Attempts;

use super::password::PasswordConfig;
use crate::auth::{KeyConfig, TokenConfig};
use crate::contract::users::Secret;
use crate::ports::ConfigError;

/// The first administrator, made at start-up when nobody has the address yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapAdmin {
    /// The address, the login name.
    pub email: String,
    /// The password, 10 to 128 characters.
    pub password: Secret,
}

/// How Users works.
#[derive(Debug, Clone)]
pub struct Config {
    /// How access tokens are issued.
    pub token: TokenConfig,
    /// 32 bytes as base64url: the key of every keyed hash here (addresses, refresh tokens,
    /// verification tokens). A copy of the database is worth nothing without it.
    pub hash_key: Secret,
    /// How passwords are hashed.
    pub password: PasswordConfig,
    /// How long a login lasts without the password, however often it is refreshed.
    pub refresh_ttl: Duration,
    /// How long the refresh token before the current one still works, so that two tabs, or a retry
    /// after a lost answer, do not look like a theft. At most a minute.
    pub refresh_grace: Duration,
    /// How many logins of one user live at once: 1 to 100. At the bound the oldest is revoked.
    pub sessions_max: usize,
    /// How many wrong passwords in a row lock the user out: at least 1.
    pub login_failures_max: u32,
    /// For how long.
    pub lock_for: Duration,
    /// How long a verification token is good.
    pub verification_ttl: Duration,
    /// How often its delivery is tried: at least 1. After that it is given up. Tries that were
    /// never sent, as while a breaker is open, do not count; they end when the token expires.
    pub verification_attempts_max: u32,
    /// The wait before its second delivery; it doubles from there on.
    pub verification_backoff: Duration,
    /// How long one delivery may take.
    pub send_timeout: Duration,
    /// When whoever carries the tokens is believed ill.
    pub breaker: breaker::Config,
    /// How many deliveries run at once.
    pub bulkhead: bulkhead::BulkheadConfig,
    /// Whether users are active at once, without a verification: simulations and tests only.
    pub auto_verify: bool,
    /// The first administrator, none when there is one already.
    pub bootstrap_admin: Option<BootstrapAdmin>,
    /// How often a command is run again on contention.
    pub attempts: Attempts,
}

impl Config {
    /// Makes the production configuration with these keys.
    #[must_use]
    pub fn new(keys: KeyConfig, hash_key: Secret) -> Self {
        Self {
            token: TokenConfig::new(keys),
            hash_key,
            password: PasswordConfig::default(),
            refresh_ttl: Duration::from_secs(30 * 86_400),
            refresh_grace: Duration::from_secs(10),
            sessions_max: 10,
            login_failures_max: 5,
            lock_for: Duration::from_secs(900),
            verification_ttl: Duration::from_secs(86_400),
            verification_attempts_max: 8,
            verification_backoff: Duration::from_secs(5),
            send_timeout: Duration::from_secs(10),
            breaker: breaker::Config::default(),
            bulkhead: bulkhead::BulkheadConfig::default(),
            auto_verify: false,
            bootstrap_admin: None,
            attempts: Attempts { idempotent: true, ..Attempts::default() },
        }
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let error = |field, why: &str| Err(ConfigError { field, why: why.into() });
        self.token.validate()?;
        self.password.validate()?;
        if super::tokens::key_bytes(&self.hash_key).is_none() {
            return error("users.hash_key", "must be 32 bytes as base64url");
        }
        for (field, wait) in [
            ("users.refresh_ttl", self.refresh_ttl),
            ("users.lock_for", self.lock_for),
            ("users.verification_ttl", self.verification_ttl),
            ("users.verification_backoff", self.verification_backoff),
            ("users.send_timeout", self.send_timeout),
        ] {
            if wait.is_zero() {
                return error(field, "must be above zero");
            }
        }
        if self.refresh_grace > Duration::from_secs(60) {
            return error("users.refresh_grace", "must be at most a minute");
        }
        if !(1..=100).contains(&self.sessions_max) {
            return error("users.sessions_max", "must be 1 to 100");
        }
        if self.login_failures_max == 0 {
            return error("users.login_failures_max", "must be at least 1");
        }
        if self.verification_attempts_max == 0 {
            return error("users.verification_attempts_max", "must be at least 1");
        }
        Ok(())
    }
}
