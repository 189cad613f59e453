//! Hashes and verifies passwords: Argon2id in PHC strings.

use std::fmt;

use amarra_core::Entropy;
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tokio::sync::Semaphore;

use crate::contract::ApiError;
use crate::contract::users::Secret;
use crate::ports::ConfigError;

/// How expensive a hash is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordConfig {
    /// Memory, in KiB: 8 to 1,048,576.
    pub memory_kib: u32,
    /// Passes over it: 1 to 100.
    pub passes: u32,
    /// Lanes: 1 to 16, at most an eighth of the memory.
    pub lanes: u32,
    /// How many hashes run at once: at least 1. One more is answered 503, since a queue of hashes
    /// is a cheap way to stop a service.
    pub hashes_in_flight_max: usize,
}

impl Default for PasswordConfig {
    /// The least that OWASP recommends for Argon2id.
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1, hashes_in_flight_max: 16 }
    }
}

impl PasswordConfig {
    /// The cheapest parameters: for simulations and tests, where nobody attacks the hashes.
    #[must_use]
    pub fn cheapest() -> Self {
        Self { memory_kib: 8, passes: 1, lanes: 1, hashes_in_flight_max: 1024 }
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let error = |field, why: &str| Err(ConfigError { field, why: why.into() });
        if !(8..=1_048_576).contains(&self.memory_kib) {
            return error("password.memory_kib", "must be 8 to 1048576");
        }
        if !(1..=100).contains(&self.passes) {
            return error("password.passes", "must be 1 to 100");
        }
        if !(1..=16).contains(&self.lanes) || self.lanes.saturating_mul(8) > self.memory_kib {
            return error("password.lanes", "must be 1 to 16 and at most an eighth of the memory");
        }
        if self.hashes_in_flight_max == 0 {
            return error("password.hashes_in_flight_max", "must be at least 1");
        }
        Ok(())
    }
}

/// Hashes and verifies passwords.
///
/// # Laws
/// - PWD-1 verifying for an unknown user costs what verifying for a known one costs.
/// - PWD-2 a hash made with other parameters still verifies, and says that it is out of date.
pub struct Passwords {
    config: PasswordConfig,
    dummy: String,
    in_flight: Semaphore,
}

/// What a verification says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the password is right.
    pub right: bool,
    /// Whether the hash was made with other parameters than the configured ones.
    pub outdated: bool,
}

impl Passwords {
    /// Prepares the hash that stands in for unknown users.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn new(config: PasswordConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let dummy = Parts { config, salt: [0; 16], hash: [0; 32] }.to_string();
        let in_flight = Semaphore::new(config.hashes_in_flight_max.min(Semaphore::MAX_PERMITS));
        Ok(Self { config, dummy, in_flight })
    }

    /// Hashes a password under a fresh salt.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] when too many hashes are running.
    pub fn hash(&self, password: &Secret, entropy: &dyn Entropy) -> Result<String, ApiError> {
        let _permit = self.permit()?;
        let mut salt = [0; 16];
        entropy.fill(&mut salt);
        let hash = derive(self.config, password, &salt)
            .ok_or_else(|| ApiError::Internal("argon2 refused validated parameters".into()))?;
        Ok(Parts { config: self.config, salt, hash }.to_string())
    }

    /// Verifies a password against a stored hash, or against the dummy when there is none.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] when too many hashes are running; [`ApiError::Internal`] when the
    /// stored hash is corrupt.
    pub fn verify(&self, password: &Secret, stored: Option<&str>) -> Result<Verdict, ApiError> {
        let _permit = self.permit()?;
        let text = stored.unwrap_or(&self.dummy);
        let parts = Parts::parse(text)
            .ok_or_else(|| ApiError::Internal("a stored password hash is corrupt".into()))?;
        let hash = derive(parts.config, password, &parts.salt)
            .ok_or_else(|| ApiError::Internal("argon2 refused stored parameters".into()))?;
        let right = crate::auth::equal(&hash, &parts.hash) && stored.is_some();
        let cost = |c: PasswordConfig| (c.memory_kib, c.passes, c.lanes);
        Ok(Verdict { right, outdated: cost(parts.config) != cost(self.config) })
    }

    fn permit(&self) -> Result<tokio::sync::SemaphorePermit<'_>, ApiError> {
        self.in_flight.try_acquire().map_err(|_| ApiError::Unavailable {
            why: "too many logins",
            retry_after: std::time::Duration::from_secs(1),
            outcome_unknown: false,
        })
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("config", &self.config).finish_non_exhaustive()
    }
}

fn derive(config: PasswordConfig, password: &Secret, salt: &[u8; 16]) -> Option<[u8; 32]> {
    let params = Params::new(config.memory_kib, config.passes, config.lanes, Some(32)).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut hash = [0; 32];
    argon2.hash_password_into(password.expose().as_bytes(), salt, &mut hash).ok()?;
    Some(hash)
}

/// The parts of a PHC string as we write them.
struct Parts {
    config: PasswordConfig,
    salt: [u8; 16],
    hash: [u8; 32],
}

impl Parts {
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("$argon2id$v=19$m=")?;
        let mut fields = rest.split('$');
        let (costs, salt, hash) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next().is_some() {
            return None;
        }
        let (memory, costs) = costs.split_once(",t=")?;
        let (passes, lanes) = costs.split_once(",p=")?;
        let config = PasswordConfig {
            memory_kib: memory.parse().ok()?,
            passes: passes.parse().ok()?,
            lanes: lanes.parse().ok()?,
            hashes_in_flight_max: 1,
        };
        config.validate().ok()?;
        Some(Self {
            config,
            salt: STANDARD_NO_PAD.decode(salt).ok()?.try_into().ok()?,
            hash: STANDARD_NO_PAD.decode(hash).ok()?.try_into().ok()?,
        })
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PasswordConfig { memory_kib: m, passes: t, lanes: p, .. } = self.config;
        let (salt, hash) = (STANDARD_NO_PAD.encode(self.salt), STANDARD_NO_PAD.encode(self.hash));
        write!(f, "$argon2id$v=19$m={m},t={t},p={p}${salt}${hash}")
    }
}

#[cfg(test)]
mod tests;
