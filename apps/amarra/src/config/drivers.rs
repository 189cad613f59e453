//! Relays, consumers and workers.

use amarra_messaging::relay::RelayConfig;
use amarra_messaging::runtime::RuntimeConfig;
use amarra_store::WorkerConfig;
use serde::Deserialize;

use super::wait::Wait;

/// Where a relay's rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RelaySource {
    /// The outbox table.
    #[default]
    Table,
    /// The write-ahead log, and the table for what is not held of it.
    Wal,
}

/// The relays.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RelaySection {
    /// Where rows come from: `"table"`, or `"wal"` on Postgres, which tells at once of rows that
    /// another process committed. That wants `wal_level = logical`, `services.NAME.wal`, and for
    /// each process a replication slot and a WAL sender of the server. Table: it needs no role that
    /// may follow the log of the whole cluster.
    pub(crate) source: RelaySource,
    /// Shards one process relays at most, at least 1. 64.
    pub(crate) shards_max: usize,
    /// How long a lease lasts: a dead relay's shards are taken over within it. With Kafka at least
    /// 3 s. 3 s.
    pub(crate) lease: Wait,
    /// Rows published at once, at least 1. 512.
    pub(crate) chunk_rows_max: usize,
    /// The longest wait for rows where nothing tells of them. 1 s.
    pub(crate) poll_max: Wait,
}

impl Default for RelaySection {
    fn default() -> Self {
        let RelayConfig { shards_max, lease, chunk_rows_max, poll_max, .. } = Default::default();
        let source = RelaySource::default();
        Self { source, shards_max, lease: Wait(lease), chunk_rows_max, poll_max: Wait(poll_max) }
    }
}

impl RelaySection {
    /// Returns the bounds of a relay.
    pub(crate) fn config(&self) -> RelayConfig {
        let defaults = RelayConfig::default();
        let lease = self.lease.0;
        RelayConfig {
            shards_max: self.shards_max,
            lease,
            chunk_rows_max: self.chunk_rows_max,
            poll_min: defaults.poll_min.min(self.poll_max.0),
            poll_max: self.poll_max.0,
            publish_timeout: lease.checked_div(3).unwrap_or_default(),
            ..defaults
        }
    }
}

/// The consumers.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConsumerSection {
    /// Rows of one batch, so of one transaction; at least 1. 64.
    pub(crate) batch_rows_max: usize,
    /// How long a poll waits. 1 s.
    pub(crate) poll_wait: Wait,
    /// The least time between two commits of offsets. 100 ms.
    pub(crate) commit_interval: Wait,
}

impl Default for ConsumerSection {
    fn default() -> Self {
        let RuntimeConfig { batch_rows_max, poll_wait, commit_interval, .. } = Default::default();
        Self { batch_rows_max, poll_wait: Wait(poll_wait), commit_interval: Wait(commit_interval) }
    }
}

impl ConsumerSection {
    /// Returns the bounds of a consumer.
    pub(crate) fn config(&self) -> RuntimeConfig {
        let defaults = RuntimeConfig::default();
        let partition_rows_max = defaults.partition_rows_max.max(self.batch_rows_max);
        RuntimeConfig {
            batch_rows_max: self.batch_rows_max,
            partition_rows_max,
            total_rows_max: defaults.total_rows_max.max(partition_rows_max),
            poll_wait: self.poll_wait.0,
            commit_interval: self.commit_interval.0,
            ..defaults
        }
    }
}

/// The workers of timers.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WorkerSection {
    /// How long a claim keeps others away. 10 s.
    pub(crate) lease: Wait,
    /// Claims acted on at once, at least 1. 16.
    pub(crate) claims_max: usize,
    /// The longest time between two looks for due timers. 1 s.
    pub(crate) poll: Wait,
}

impl Default for WorkerSection {
    fn default() -> Self {
        let WorkerConfig { lease, claims_max, poll, .. } = Default::default();
        Self { lease: Wait(lease), claims_max, poll: Wait(poll) }
    }
}

impl WorkerSection {
    /// Returns the bounds of a worker.
    pub(crate) fn config(&self) -> WorkerConfig {
        WorkerConfig {
            lease: self.lease.0,
            claims_max: self.claims_max,
            poll: self.poll.0,
            ..WorkerConfig::default()
        }
    }
}
