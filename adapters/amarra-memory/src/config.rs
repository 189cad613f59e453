//! Bounds and times of the simulated servers and of a group member.

use std::time::Duration;

use amarra_messaging::inbox::InboxConfig;

use crate::error::{ConfigError, require};

/// How one simulated database behaves.
///
/// # Example
/// ```
/// use amarra_memory::DatabaseConfig;
/// assert!(DatabaseConfig::default().validate().is_ok());
/// let bad = DatabaseConfig { shards: 0, ..DatabaseConfig::default() };
/// assert!(bad.validate().unwrap_err().to_string().starts_with("shards"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// Shards of the outbox, at least 1; a message's shard is murmur2 of its partition key modulo
    /// this number. Each is one relay's work; four let two relays share it.
    pub shards: u16,
    /// How long a unit waits for a row another one holds before it is rolled back as a
    /// serialization failure.
    pub lock_timeout: Duration,
    /// Bytes of one outbox message's payload; a larger one is refused.
    pub message_bytes_max: usize,
    /// Bytes of one aggregate's state, view row or stored response; a larger one is refused.
    pub state_bytes_max: usize,
    /// The longest lease of an outbox shard or timer claim; a longer one asked for is cut to it.
    pub lease_max: Duration,
    /// How long writing a commit record to disk takes; a crash within it is where a commit's
    /// outcome is unknown.
    pub flush_latency: Duration,
    /// How many values a sequence skips over a crash, as Postgres loses those it logged ahead.
    pub sequence_gap_at_crash: u64,
    /// What each group remembers of the messages it applied.
    pub inbox: InboxConfig,
}

impl Default for DatabaseConfig {
    /// Four shards, 1 MiB messages, no latency.
    fn default() -> Self {
        Self {
            shards: 4,
            lock_timeout: Duration::from_secs(5),
            message_bytes_max: 1 << 20,
            state_bytes_max: 4 << 20,
            lease_max: Duration::from_secs(300),
            flush_latency: Duration::ZERO,
            sequence_gap_at_crash: 32,
            inbox: InboxConfig::default(),
        }
    }
}

impl DatabaseConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`ConfigError::Field`] for the first field out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        require(self.shards > 0, "shards", "must be at least 1")?;
        require(!self.lock_timeout.is_zero(), "lock_timeout", "must be above zero")?;
        require(self.message_bytes_max > 0, "message_bytes_max", "must be at least 1")?;
        require(self.state_bytes_max > 0, "state_bytes_max", "must be at least 1")?;
        require(!self.lease_max.is_zero(), "lease_max", "must be above zero")?;
        Ok(self.inbox.validate()?)
    }
}

/// How the simulated broker behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Bytes of one record with its key and headers; a larger one is refused.
    pub record_bytes_max: usize,
    /// How long a record takes from the leader's log to every replica; until then it is not
    /// delivered and a change of leader loses it.
    pub replication_latency: Duration,
    /// How long a rebalance waits for the members of the generation before.
    pub rebalance_timeout: Duration,
}

impl Default for BrokerConfig {
    /// 2 MiB records, no latency, 10 s for a rebalance.
    fn default() -> Self {
        Self {
            record_bytes_max: 2 << 20,
            replication_latency: Duration::ZERO,
            rebalance_timeout: Duration::from_secs(10),
        }
    }
}

impl BrokerConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`ConfigError::Field`] for the first field out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        require(self.record_bytes_max > 0, "record_bytes_max", "must be at least 1")?;
        require(!self.rebalance_timeout.is_zero(), "rebalance_timeout", "must be above zero")
    }
}

/// How a group's partitions are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Assignor {
    /// Neighbouring partitions of each topic to one member: equal keys of two topics with equally
    /// many partitions meet at one member.
    #[default]
    Range,
    /// All partitions of all topics in turn: the counts of two members differ by at most one.
    RoundRobin,
}

/// How one member takes part in its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberOptions {
    /// How long after its last poll ended a member is expelled.
    pub session_timeout: Duration,
    /// How partitions are shared out; the member that joined first decides for the group.
    pub assignor: Assignor,
}

impl Default for MemberOptions {
    /// Expelled after 10 s without a poll, range assignment.
    fn default() -> Self {
        Self { session_timeout: Duration::from_secs(10), assignor: Assignor::Range }
    }
}

impl MemberOptions {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`ConfigError::Field`] for the first field out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        require(!self.session_timeout.is_zero(), "session_timeout", "must be above zero")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_field_is_named() {
        let check = |result: Result<(), ConfigError>, field: &str| {
            let message = result.unwrap_err().to_string();
            assert!(message.starts_with(field), "{message:?} does not name {field}");
        };
        let db = DatabaseConfig::default;
        check(DatabaseConfig { shards: 0, ..db() }.validate(), "shards");
        let zero = Duration::ZERO;
        check(DatabaseConfig { lock_timeout: zero, ..db() }.validate(), "lock_timeout");
        check(DatabaseConfig { message_bytes_max: 0, ..db() }.validate(), "message_bytes_max");
        check(DatabaseConfig { state_bytes_max: 0, ..db() }.validate(), "state_bytes_max");
        check(DatabaseConfig { lease_max: zero, ..db() }.validate(), "lease_max");
        let mut narrow = db();
        narrow.inbox.default.window_bits = 63;
        check(narrow.validate(), "window_bits");
        let broker = BrokerConfig::default;
        check(BrokerConfig { record_bytes_max: 0, ..broker() }.validate(), "record_bytes_max");
        check(BrokerConfig { rebalance_timeout: zero, ..broker() }.validate(), "rebalance_timeout");
        let member = MemberOptions { session_timeout: zero, ..MemberOptions::default() };
        check(member.validate(), "session_timeout");
    }
}
