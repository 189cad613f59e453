//! The sections of a configuration, each with its defaults.

use std::path::PathBuf;
use std::time::Duration;

use amarra_http::net::{ListenConfig, TlsConfig};
use amarra_messaging::relay::RelayConfig;
use amarra_messaging::runtime::RuntimeConfig;
use amarra_shop::contract::notifications::Channel;
use amarra_sqlite::Synchronous;
use amarra_store::WorkerConfig;
use serde::Deserialize;

use super::source::Source;
use super::wait::Wait;

/// How the process ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProcessSection {
    /// How long `/readyz` answers 503 while requests are still taken, so that load balancers notice
    /// before the door closes. 500 ms.
    pub(crate) stop_grace: Wait,
    /// How long requests in flight, consumers and relays may take to end, in all; above zero. Those
    /// that take longer are cut. 20 s, shorter than the 30 s after which orchestrators kill.
    pub(crate) drain_timeout: Wait,
}

impl Default for ProcessSection {
    fn default() -> Self {
        Self { stop_grace: Wait::millis(500), drain_timeout: Wait::secs(20) }
    }
}

impl ProcessSection {
    /// Checks the ranges.
    pub(super) fn validate(&self) -> Result<(), String> {
        match self.drain_timeout.0 {
            Duration::ZERO => Err("process.drain_timeout must be above zero".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Servers and clients.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpSection {
    /// Connections open at once of one listener, at least 1. 1024.
    pub(crate) connections_max: usize,
    /// Whether plain HTTP may be served on an address that other machines reach. No.
    pub(crate) plain_off_loopback: bool,
    /// Largest request body a service reads, in bytes. 64 KiB.
    pub(crate) request_bytes_max: usize,
    /// Idle connections kept to each service. 64.
    pub(crate) idle_connections_max: usize,
    /// How long opening a connection may take. 1 s.
    pub(crate) connect_timeout: Wait,
    /// The token without which a service answers nobody: the gateway and the services share it.
    /// Needed where there is no `tls`.
    pub(crate) internal_token: Option<Source>,
    /// Mutual TLS between the gateway and the services.
    pub(crate) tls: Option<TlsSection>,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            plain_off_loopback: false,
            request_bytes_max: 64 * 1024,
            idle_connections_max: 64,
            connect_timeout: Wait::secs(1),
            internal_token: None,
            tls: None,
        }
    }
}

impl HttpSection {
    /// Returns the bounds of a listener.
    pub(crate) fn listener(&self, address: std::net::SocketAddr) -> ListenConfig {
        ListenConfig {
            connections_max: self.connections_max,
            plain_off_loopback: self.plain_off_loopback,
            ..ListenConfig::new(address)
        }
    }

    /// Returns the bounds of the client.
    pub(crate) fn client(&self) -> amarra_http::Config {
        amarra_http::Config {
            request_bytes_max: self.request_bytes_max,
            idle_connections_max: self.idle_connections_max,
            connect_timeout: self.connect_timeout.0,
            ..amarra_http::Config::default()
        }
    }
}

/// The files a process proves itself with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    /// The certificate chain, PEM, own certificate first; its DNS name is the service's name.
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM.
    pub(crate) key: PathBuf,
    /// The authority that every peer's certificate must come from, PEM.
    pub(crate) authority: PathBuf,
}

impl TlsSection {
    /// Returns the files, relative ones from `folder` on.
    pub(crate) fn files(&self, folder: &std::path::Path) -> TlsConfig {
        TlsConfig {
            certificate: folder.join(&self.certificate),
            key: folder.join(&self.key),
            authority: folder.join(&self.authority),
        }
    }
}

/// Where the secrets are; each process needs only some.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KeysSection {
    /// The seed that signs access tokens, 32 bytes as base64url: Users alone.
    pub(crate) token_seed: Option<Source>,
    /// The public keys that verify access tokens, a JSON key set: everybody else.
    pub(crate) token_public: Option<Source>,
    /// The seed that signs quotes, 32 bytes as base64url: Catalog alone.
    pub(crate) quote_seed: Option<Source>,
    /// The public keys that verify quotes, a JSON key set: Orders.
    pub(crate) quote_public: Option<Source>,
    /// The key of keyed hashes, 32 bytes as base64url: Users alone.
    pub(crate) users_hash: Option<Source>,
    /// What the provider signs webhooks with, at least 16 bytes: Payments and the provider.
    pub(crate) webhook: Option<Source>,
    /// The first administrator's password: Users, and only until there is one.
    pub(crate) admin_password: Option<Source>,
}

/// The databases.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PostgresSection {
    /// The URL of a superuser; only `provision` reads it.
    pub(crate) admin: Option<Source>,
    /// Connections of one process, 1 to 1000. 16.
    pub(crate) connections_max: u32,
    /// Shards of each outbox, at least 1; fixed once messages were appended. 4.
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
            shards: 4,
            statement_timeout: Wait::secs(10),
            wake_across: false,
        }
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
    /// Partitions of a topic that `migrate` makes, at least 1. 3.
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

/// The gateway's limits.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GatewaySection {
    /// Requests per second from one address. 200.
    pub(crate) address_calls: u32,
    /// Requests from one address at once after a pause. 400.
    pub(crate) address_burst: u32,
    /// Requests per second from one address that try passwords or tokens. 5.
    pub(crate) credentials_calls: u32,
    /// The same at once after a pause. 20.
    pub(crate) credentials_burst: u32,
    /// Requests per second of one user. 50.
    pub(crate) principal_calls: u32,
    /// The same at once after a pause. 100.
    pub(crate) principal_burst: u32,
    /// Requests a service is given at once. 64.
    pub(crate) in_flight_max: u32,
    /// Requests that wait for a place. 64.
    pub(crate) queue_max: u32,
    /// How long one try may take. 3 s.
    pub(crate) try_timeout: Wait,
}

impl Default for GatewaySection {
    fn default() -> Self {
        Self {
            address_calls: 200,
            address_burst: 400,
            credentials_calls: 5,
            credentials_burst: 20,
            principal_calls: 50,
            principal_burst: 100,
            in_flight_max: 64,
            queue_max: 64,
            try_timeout: Wait::secs(3),
        }
    }
}

/// Users.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UsersSection {
    /// Whether accounts are active at once, without a proof of the address. No, but yes in the
    /// embedded shop, which says so.
    pub(crate) auto_verify: Option<bool>,
    /// The file that tokens which prove an address are written to, in place of a mail: needed where
    /// `auto_verify` is off.
    pub(crate) verification_log: Option<PathBuf>,
    /// The first administrator's address.
    pub(crate) admin_email: String,
    /// Memory of a password hash, in KiB: 8 to 1,048,576. 19,456, the least that OWASP recommends.
    pub(crate) password_memory_kib: u32,
    /// Password hashes at once, at least 1; one more is answered 503. 16.
    pub(crate) hashes_in_flight_max: usize,
}

impl Default for UsersSection {
    fn default() -> Self {
        Self {
            auto_verify: None,
            verification_log: None,
            admin_email: "admin@amarra.local".to_owned(),
            password_memory_kib: 19_456,
            hashes_in_flight_max: 16,
        }
    }
}

impl UsersSection {
    /// Checks the ranges.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.admin_email.contains('@') {
            return Ok(());
        }
        Err("users.admin_email must be a mail address".to_owned())
    }
}

/// Orders.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OrdersSection {
    /// Orders of one user that are neither confirmed nor ended, at least 1. 20.
    pub(crate) open_orders_max: usize,
    /// How long Inventory holds stock for an order; longer than `deadline`. 15 min.
    pub(crate) reserve_ttl: Wait,
    /// How long after it was placed an order that has not sent its capture is undone. 10 min.
    pub(crate) deadline: Wait,
    /// How long a step before the capture may take before the order is undone. 2 min.
    pub(crate) step_timeout: Wait,
    /// How long a capture or a step of undoing may take before it is asked for again. 30 s.
    pub(crate) repeat_after: Wait,
}

impl Default for OrdersSection {
    fn default() -> Self {
        Self {
            open_orders_max: 20,
            reserve_ttl: Wait::secs(900),
            deadline: Wait::secs(600),
            step_timeout: Wait::secs(120),
            repeat_after: Wait::secs(30),
        }
    }
}

/// Payments.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PaymentsSection {
    /// Calls to the provider at once, at least 1. 64.
    pub(crate) in_flight_max: u32,
    /// The longest wait between two calls that settled nothing. 10 s.
    pub(crate) backoff_max: Wait,
}

impl Default for PaymentsSection {
    fn default() -> Self {
        Self { in_flight_max: 64, backoff_max: Wait::secs(10) }
    }
}

/// Notifications.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NotificationsSection {
    /// The channels the shop has: `"email"`, `"sms"`, `"push"`. Email and push.
    pub(crate) channels: Vec<Channel>,
    /// The file that messages are written to, in place of a mail or push: one line a message.
    pub(crate) sent_log: Option<PathBuf>,
    /// Messages whose keys are remembered, so that none is written twice; at least 1. At it the
    /// oldest is forgotten. A million.
    pub(crate) keys_max: usize,
}

impl Default for NotificationsSection {
    fn default() -> Self {
        Self { channels: vec![Channel::Email, Channel::Push], sent_log: None, keys_max: 1_000_000 }
    }
}

/// The payment provider.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProviderSection {
    /// The file of its ledger; every request is in it, and on the disk, before it is answered.
    pub(crate) journal: Option<PathBuf>,
    /// Whether it takes more than was authorized when asked to: a double capture is then the
    /// merchant's to prevent. No.
    pub(crate) overcapture: bool,
}

/// The relays.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RelaySection {
    /// Shards one process relays at most, at least 1. 64.
    pub(crate) shards_max: usize,
    /// How long a lease lasts: a dead relay's shards are taken over within it. 3 s.
    pub(crate) lease: Wait,
    /// Rows published at once, at least 1. 512.
    pub(crate) chunk_rows_max: usize,
    /// The longest wait for rows where nothing tells of them. 1 s.
    pub(crate) poll_max: Wait,
}

impl Default for RelaySection {
    fn default() -> Self {
        let RelayConfig { shards_max, lease, chunk_rows_max, poll_max, .. } = Default::default();
        Self { shards_max, lease: Wait(lease), chunk_rows_max, poll_max: Wait(poll_max) }
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

/// The supervisor.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SupervisorSection {
    /// The wait before a process that died is started again; it doubles with each death in a row.
    /// Above zero. 200 ms.
    pub(crate) backoff_min: Wait,
    /// The longest such wait, at least `backoff_min`. 5 s.
    pub(crate) backoff_max: Wait,
    /// A process that lived so long is started again as if it were the first time. 10 s.
    pub(crate) steady_after: Wait,
    /// How long a process may take to end once it was asked to; then it is killed. 30 s.
    pub(crate) stop_patience: Wait,
}

impl Default for SupervisorSection {
    fn default() -> Self {
        Self {
            backoff_min: Wait::millis(200),
            backoff_max: Wait::secs(5),
            steady_after: Wait::secs(10),
            stop_patience: Wait::secs(30),
        }
    }
}

impl SupervisorSection {
    /// Checks the ranges.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.backoff_min.0.is_zero() || self.backoff_max.0 < self.backoff_min.0 {
            let why = "must be above zero and at most supervisor.backoff_max";
            return Err(format!("supervisor.backoff_min {why}"));
        }
        Ok(())
    }
}

/// What is deleted when.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UpkeepSection {
    /// The time between two rounds, above zero. 1 min.
    pub(crate) every: Wait,
    /// For how long the embedded shop keeps messages that were relayed. 1 h.
    pub(crate) outbox_age: Wait,
    /// For how long the embedded shop remembers which messages it applied; longer than the week
    /// for which its bus keeps them. 192 h.
    pub(crate) inbox_age: Wait,
    /// Rows deleted in one transaction, at least 1. 10,000.
    pub(crate) rows_max: usize,
}

impl Default for UpkeepSection {
    fn default() -> Self {
        let hour = 3_600;
        Self {
            every: Wait::secs(60),
            outbox_age: Wait::secs(hour),
            inbox_age: Wait::secs(8 * 24 * hour),
            rows_max: 10_000,
        }
    }
}

impl UpkeepSection {
    /// Checks the ranges.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.every.0.is_zero() || self.rows_max == 0 {
            return Err("upkeep.every and upkeep.rows_max must be above zero".to_owned());
        }
        Ok(())
    }
}
