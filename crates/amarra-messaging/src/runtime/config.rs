//! The bounds of the consumer runtime.

use std::time::Duration;

use crate::config::{Backoff, ConfigError};

/// Bounds of one [`Runtime`](super::Runtime): every queue, batch, retry and wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Rows of one batch, so of one transaction; at least 1. Larger batches share a commit.
    pub batch_rows_max: usize,
    /// Rows held of one partition, in flight or queued; from it on the partition is paused, and
    /// resumed at half. At least `batch_rows_max`.
    pub partition_rows_max: usize,
    /// Rows held in all; from it on every partition is paused, and resumed at half. At least
    /// `partition_rows_max`.
    pub total_rows_max: usize,
    /// Rows asked for in one poll; at least 1.
    pub poll_rows_max: usize,
    /// How long a poll waits; it is the whole idle cost of the runtime.
    pub poll_wait: Duration,
    /// The least time between two commits, but at shutdown: longer means fewer commits and more
    /// duplicates to skip after a crash.
    pub commit_interval: Duration,
    /// The waits after a failed batch, park, poll or commit.
    pub backoff: Backoff,
    /// How often a message that is refused on its own is tried before its key is parked; at least
    /// 1.
    pub poison_attempts_max: u32,
    /// How long a shutdown waits for batches in flight; those left over are delivered again.
    pub drain_timeout: Duration,
}

impl Default for RuntimeConfig {
    /// Suits a service that keeps up: 64 rows a transaction, one idle poll a second.
    fn default() -> Self {
        Self {
            batch_rows_max: 64,
            partition_rows_max: 512,
            total_rows_max: 4096,
            poll_rows_max: 512,
            poll_wait: Duration::from_secs(1),
            commit_interval: Duration::from_millis(100),
            backoff: Backoff { min: Duration::from_millis(20), max: Duration::from_secs(2) },
            poison_attempts_max: 3,
            drain_timeout: Duration::from_secs(5),
        }
    }
}

impl RuntimeConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is out of range.
    ///
    /// # Example
    /// ```
    /// use amarra_messaging::runtime::RuntimeConfig;
    ///
    /// let config = RuntimeConfig { batch_rows_max: 0, ..RuntimeConfig::default() };
    /// assert_eq!(config.validate().unwrap_err().field, "batch_rows_max");
    /// assert!(RuntimeConfig::default().validate().is_ok());
    /// ```
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::unless(self.batch_rows_max >= 1, "batch_rows_max", "at least 1")?;
        ConfigError::unless(
            self.partition_rows_max >= self.batch_rows_max,
            "partition_rows_max",
            "at least batch_rows_max",
        )?;
        ConfigError::unless(
            self.total_rows_max >= self.partition_rows_max,
            "total_rows_max",
            "at least partition_rows_max",
        )?;
        ConfigError::unless(self.poll_rows_max >= 1, "poll_rows_max", "at least 1")?;
        ConfigError::unless(!self.poll_wait.is_zero(), "poll_wait", "positive")?;
        ConfigError::unless(self.poison_attempts_max >= 1, "poison_attempts_max", "at least 1")?;
        self.backoff.validate("backoff")
    }
}
