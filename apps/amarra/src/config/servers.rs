//! Databases and broker.

use amarra_sqlite::Synchronous;
use serde::Deserialize;

use super::source::Source;
use super::wait::Wait;

/// Shards at the most: each has a relay with a connection and a producer of its own.
const SHARDS_MAX: u16 = 1024;

/// The databases.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PostgresSection {
    /// The URL of a superuser; only `provision` reads it.
    pub(crate) admin: Option<Source>,
    /// Connections of one process, 1 to 1000. 16.
    pub(crate) connections_max: u32,
    /// Shards of each outbox, 1 to 1024. 1: one relay reads, saves and publishes larger batches, in
    /// fewer transactions and sooner, up to some ten thousand messages a second of one service.
    /// More let several processes of a service relay at once, and several transactions of Kafka be
    /// open at once. A database keeps the number of its first start; with another one everything
    /// that would write to it is refused.
    pub(crate) shards: u16,
    /// How long the server works on one statement. 10 s.
    pub(crate) statement_timeout: Wait,
    /// Whether processes of one service wake each other's relays; only needed where a service has
    /// more than one process. No.
    pub(crate) wake_across: bool,
}

impl Default for PostgresSection {
    fn default() -> Self {
        Self {
            admin: None,
            connections_max: 16,
            shards: 1,
            statement_timeout: Wait::secs(10),
            wake_across: false,
        }
    }
}

impl PostgresSection {
    /// Checks the ranges.
    pub(super) fn validate(&self) -> Result<(), String> {
        if (1..=SHARDS_MAX).contains(&self.shards) {
            return Ok(());
        }
        Err(format!("postgres.shards must be 1 to {SHARDS_MAX}"))
    }
}

/// The broker.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KafkaSection {
    /// `host:port` of some brokers, separated by commas.
    pub(crate) bootstrap: String,
    /// Whether the relays publish in transactions: fenced by the broker, at about 0.1 s more. No.
    pub(crate) transactional: bool,
    /// Partitions of a topic that `migrate` makes, at least 1: so many processes of a service can
    /// consume it at once. 3.
    pub(crate) partitions: u32,
    /// Replicas of a topic that `migrate` makes, at least 1. 1.
    pub(crate) replication: u16,
    /// How long after its last heartbeat a member is taken for dead. 6 s.
    pub(crate) session_timeout: Wait,
}

impl Default for KafkaSection {
    fn default() -> Self {
        Self {
            bootstrap: String::new(),
            transactional: false,
            partitions: 3,
            replication: 1,
            session_timeout: Wait::secs(6),
        }
    }
}

impl KafkaSection {
    /// Checks the ranges.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.partitions == 0 || self.replication == 0 {
            return Err("kafka.partitions and kafka.replication must be at least 1".to_owned());
        }
        Ok(())
    }
}

/// The files of the embedded shop.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SqliteSection {
    /// When a commit is on the disk: `"full"` before it is answered, `"normal"` at the next
    /// checkpoint (survives a kill, not a power cut). Full.
    pub(crate) synchronous: Synchronous,
}
