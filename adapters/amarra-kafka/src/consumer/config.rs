//! The bounds and settings of a member of a consumer group.

use std::time::Duration;

use amarra_messaging::ConfigError;

/// How a group shares its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Protocol {
    /// The members share by themselves, cooperatively; every broker knows it. The session timeout
    /// is the member's own.
    #[default]
    Classic,
    /// The broker shares (KIP-848, Kafka 4). The session timeout is the broker's, 45 s unless it
    /// was told otherwise, and so long a dead member holds its partitions.
    Consumer,
    /// [`Consumer`](Self::Consumer) where the broker knows it, else [`Classic`](Self::Classic).
    Auto,
}

/// What is read of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Isolation {
    /// What was committed; a record waits for its transaction to end.
    #[default]
    ReadCommitted,
    /// Everything, aborted records too.
    ReadUncommitted,
}

/// How to be a member of a consumer group.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use amarra_kafka::ConsumerConfig;
///
/// let config = ConsumerConfig { session_timeout: Duration::ZERO, ..ConsumerConfig::default() };
/// assert_eq!(config.validate().unwrap_err().field, "session_timeout");
/// assert!(ConsumerConfig::default().validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// How the group shares its partitions. Classic, because only there the session timeout is
    /// ours.
    pub protocol: Protocol,
    /// After how long without a heartbeat the broker takes the member for dead, 500 ms to an hour;
    /// only with the classic protocol. 6 s, the shortest that a broker allows unless told
    /// otherwise: a dead member's partitions wait for it.
    pub session_timeout: Duration,
    /// The time between two heartbeats, at least 50 ms and at most a third of `session_timeout`;
    /// only with the classic protocol. 500 ms: members learn of a rebalance by it.
    pub heartbeat_interval: Duration,
    /// After how long without a poll the member gives its partitions up, though it is alive: at
    /// least `session_timeout`, at most an hour. 10 s, because a runtime polls all the time.
    pub max_poll_interval: Duration,
    /// How long the broker may hold a fetch while nothing comes, 1 ms to 60 s; a record that comes
    /// is answered at once. 500 ms.
    pub fetch_wait_max: Duration,
    /// Bytes of one fetch, 1 KiB to 1 GB; a larger record comes alone. 16 MiB.
    pub fetch_bytes_max: usize,
    /// Bytes of one partition, in one fetch and held for polls, 1 KiB to 1 GB; past it the
    /// partition waits, and a larger record comes alone. 1 MiB.
    pub partition_bytes_max: usize,
    /// Records of one partition held for polls, 1 to 1,000,000; at it the partition waits. As many
    /// that were handed out are kept for a seek back. 1,000.
    pub partition_records_max: usize,
    /// Bytes of all partitions fetched ahead, 1 KiB to 1 GB; at it nothing is fetched. 16 MiB.
    pub prefetch_bytes_max: usize,
    /// A name of the member, unique in the group, by which it keeps its partitions when it comes
    /// back within `session_timeout`; 1 to 200 bytes. None.
    pub instance_id: Option<String>,
    /// What is read of transactions. What was committed.
    pub isolation: Isolation,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            session_timeout: Duration::from_secs(6),
            heartbeat_interval: Duration::from_millis(500),
            max_poll_interval: Duration::from_secs(10),
            fetch_wait_max: Duration::from_millis(500),
            fetch_bytes_max: 16 << 20,
            partition_bytes_max: 1 << 20,
            partition_records_max: 1_000,
            prefetch_bytes_max: 16 << 20,
            instance_id: None,
            isolation: Isolation::default(),
        }
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

impl ConsumerConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let sound = (Duration::from_millis(500)..=HOUR).contains(&self.session_timeout);
        ConfigError::unless(sound, "session_timeout", "500 ms to an hour")?;
        let third = self.session_timeout.checked_div(3).unwrap_or_default();
        let sound = (Duration::from_millis(50)..=third).contains(&self.heartbeat_interval);
        ConfigError::unless(sound, "heartbeat_interval", "50 ms to a third of session_timeout")?;
        let sound = (self.session_timeout..=HOUR).contains(&self.max_poll_interval);
        ConfigError::unless(sound, "max_poll_interval", "session_timeout to an hour")?;
        let minute = Duration::from_secs(60);
        let sound = (Duration::from_millis(1)..=minute).contains(&self.fetch_wait_max);
        ConfigError::unless(sound, "fetch_wait_max", "1 ms to 60 s")?;
        for (bytes, field) in [
            (self.fetch_bytes_max, "fetch_bytes_max"),
            (self.partition_bytes_max, "partition_bytes_max"),
            (self.prefetch_bytes_max, "prefetch_bytes_max"),
        ] {
            let sound = (1 << 10..=1_000_000_000).contains(&bytes);
            ConfigError::unless(sound, field, "1 KiB to 1 GB")?;
        }
        let sound = (1..=1_000_000).contains(&self.partition_records_max);
        ConfigError::unless(sound, "partition_records_max", "1 to 1,000,000")?;
        let sound = self.instance_id.as_ref().is_none_or(|id| (1..=200).contains(&id.len()));
        ConfigError::unless(sound, "instance_id", "1 to 200 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_out_of_range_is_named() {
        let check = |change: fn(&mut ConsumerConfig), field: &str| {
            let mut config = ConsumerConfig::default();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().field, field);
        };
        check(|c| c.session_timeout = Duration::from_millis(499), "session_timeout");
        check(|c| c.heartbeat_interval = Duration::from_millis(2_001), "heartbeat_interval");
        check(|c| c.max_poll_interval = Duration::from_secs(5), "max_poll_interval");
        check(|c| c.fetch_wait_max = Duration::ZERO, "fetch_wait_max");
        check(|c| c.fetch_bytes_max = 1_023, "fetch_bytes_max");
        check(|c| c.partition_bytes_max = 1_000_000_001, "partition_bytes_max");
        check(|c| c.prefetch_bytes_max = 0, "prefetch_bytes_max");
        check(|c| c.partition_records_max = 0, "partition_records_max");
        check(|c| c.instance_id = Some(String::new()), "instance_id");
    }
}
