//! The bounds of the relay.

use std::time::Duration;

use crate::config::{Backoff, ConfigError};

/// Bounds of one [`Relay`](super::Relay): leases, chunks, waits and retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayConfig {
    /// Shards this process relays at most; at least 1. The others are left to other processes.
    pub shards_max: usize,
    /// How long a lease lasts, by the database's clock. Renewed at a third; work under it stops at
    /// two thirds, so that a clock that runs fast or slow by half cannot outlive it.
    pub lease: Duration,
    /// Rows read, checkpointed and published at once; at least 1. At most one chunk a shard is
    /// published twice after a crash.
    pub chunk_rows_max: usize,
    /// The first wait for rows after some came, where the outbox does not tell of changes; it
    /// doubles up to `poll_max` while none come.
    pub poll_min: Duration,
    /// The longest wait for rows: the whole idle cost, together with the renewals.
    pub poll_max: Duration,
    /// How long a cursor that passed its batch waits for the next batch, which saves it along,
    /// before it is saved alone; zero saves it at once. Each save is a transaction and a flush of
    /// the disk.
    pub save_after: Duration,
    /// How long the broker may take for one chunk, or to open a session. At most a third of
    /// `lease`: a publish that was given up must not land after a takeover.
    pub publish_timeout: Duration,
    /// The waits after a failed call.
    pub backoff: Backoff,
    /// How long a shutdown waits for chunks being published.
    pub drain_timeout: Duration,
}

impl Default for RelayConfig {
    /// Takes over a dead relay's shards within three seconds.
    fn default() -> Self {
        Self {
            shards_max: 64,
            lease: Duration::from_secs(3),
            chunk_rows_max: 512,
            poll_min: Duration::from_millis(250),
            poll_max: Duration::from_secs(1),
            save_after: Duration::from_millis(100),
            publish_timeout: Duration::from_secs(1),
            backoff: Backoff { min: Duration::from_millis(20), max: Duration::from_secs(1) },
            drain_timeout: Duration::from_secs(2),
        }
    }
}

impl RelayConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is out of range.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use amarra_messaging::relay::RelayConfig;
    ///
    /// let late = RelayConfig { publish_timeout: Duration::from_secs(9), ..Default::default() };
    /// assert_eq!(late.validate().unwrap_err().field, "publish_timeout");
    /// assert!(RelayConfig::default().validate().is_ok());
    /// ```
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = ConfigError::unless;
        check(self.shards_max >= 1, "shards_max", "at least 1")?;
        check(self.lease >= Duration::from_millis(3), "lease", "at least 3 ms")?;
        check(self.chunk_rows_max >= 1, "chunk_rows_max", "at least 1")?;
        check(!self.poll_min.is_zero(), "poll_min", "positive")?;
        check(self.poll_max >= self.poll_min, "poll_max", "at least poll_min")?;
        let publish =
            !self.publish_timeout.is_zero() && self.publish_timeout.saturating_mul(3) <= self.lease;
        check(publish, "publish_timeout", "positive and at most a third of lease")?;
        self.backoff.validate("backoff")
    }

    /// Returns when a lease is renewed, counted from the call that took it.
    pub(super) fn renew_after(&self) -> Duration {
        self.lease.checked_div(3).unwrap_or_default()
    }

    /// Returns when work under a lease stops, counted from the call that took it.
    pub(super) fn stop_after(&self) -> Duration {
        self.renew_after().saturating_mul(2)
    }
}
