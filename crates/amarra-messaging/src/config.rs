//! What the configurations of the drivers share: backoff, and the error that names a field.

use std::time::Duration;

/// A configuration that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {must}")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// What it has to be.
    pub must: &'static str,
}

impl ConfigError {
    /// Returns an error for `field` unless `holds`.
    ///
    /// # Errors
    /// The error itself.
    pub fn unless(holds: bool, field: &'static str, must: &'static str) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self { field, must }) }
    }
}

/// Waits that double with every failure in a row, half of each of them jitter.
///
/// Half, not all: a caller that was just told to back off never comes back at once.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use amarra_messaging::config::Backoff;
///
/// let backoff = Backoff { min: Duration::from_millis(20), max: Duration::from_secs(1) };
/// assert_eq!(backoff.wait(1, 0), Duration::from_millis(10));
/// assert_eq!(backoff.wait(3, 0), Duration::from_millis(40));
/// assert_eq!(backoff.wait(60, 0), Duration::from_millis(500));
/// assert!(backoff.wait(60, u64::MAX) <= Duration::from_secs(1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure, before jitter.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Backoff {
    /// Returns the wait after `failures` in a row; `draw` is uniform over the whole `u64` range.
    #[must_use]
    pub fn wait(&self, failures: u32, draw: u64) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let half =
            self.min.saturating_mul(doubled).min(self.max).checked_div(2).unwrap_or_default();
        let nanos = half.as_nanos().min(u128::from(u64::MAX));
        let jitter = u128::from(draw).saturating_mul(nanos) >> 64;
        half.saturating_add(Duration::from_nanos(u64::try_from(jitter).unwrap_or(0)))
    }

    /// Checks the bounds, naming `field` when they are wrong.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn validate(&self, field: &'static str) -> Result<(), ConfigError> {
        let sound = !self.min.is_zero() && self.min <= self.max;
        ConfigError::unless(sound, field, "positive and ascending from min to max")
    }
}
