//! The bounds of the relay's side.

use std::time::Duration;

use crate::error::{PgError, require};

/// How one process relays an outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgLogConfig {
    /// Names the outbox in positions, not empty; unique among the outboxes that share a broker.
    pub source: String,
    /// Who relays: each group has leases, cursors and parked rows of its own, so that two brokers
    /// can be served from one outbox. Not empty.
    pub group: String,
    /// Connections of the relay alone, 1 to 100. Shards share them, and one that waits for the disk
    /// holds up the others: 4, one for each shard of an outbox as it is made by default.
    pub connections: u16,
    /// How long one call may take in all, at least 1 ms; then its connection is given up and the
    /// relay tries again.
    pub call_timeout: Duration,
}

impl PgLogConfig {
    /// Makes a configuration with the defaults for the outbox `source`.
    #[must_use]
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            group: "relay".to_owned(),
            connections: 4,
            call_timeout: Duration::from_secs(15),
        }
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`PgError::Field`] for the first field out of range.
    pub fn validate(&self) -> Result<(), PgError> {
        require(!self.source.is_empty(), "source", "must not be empty")?;
        require(!self.group.is_empty(), "group", "must not be empty")?;
        require((1..=100).contains(&self.connections), "connections", "must be 1 to 100")?;
        let waits = self.call_timeout >= Duration::from_millis(1);
        require(waits, "call_timeout", "must be at least a millisecond")
    }
}
