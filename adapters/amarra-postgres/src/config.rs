//! Where the database is, and the bounds of everything asked of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use amarra_messaging::inbox::InboxConfig;

use crate::error::{PgError, require};

/// One service's database, as one process reaches it.
///
/// # Example
/// ```
/// use amarra_postgres::PgConfig;
/// let config = PgConfig::new("postgres://orders:secret@127.0.0.1/orders");
/// assert!(config.validate().is_ok());
/// assert!(!format!("{config:?}").contains("secret"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PgConfig {
    /// The server, role and database: `postgres://role:password@host:port/database`. The password
    /// is never shown.
    pub url: String,
    /// The schema of the tables, a lower-case name; `public` because a service has a database of
    /// its own.
    pub schema: String,
    /// Views that have a table of their own: view name to table name. Every other view shares one
    /// table. The bodies of these are JSON; docs.md shows the columns.
    pub views: BTreeMap<String, String>,
    /// Connections of this process, 1 to 1000. A unit holds one; 16 keeps a small server busy.
    pub connections_max: u32,
    /// How long a unit waits for a free or new connection, above zero; then it fails as a lost
    /// connection.
    pub acquire_timeout: Duration,
    /// How long the server works on one statement, above zero; then the unit fails as a
    /// serialization failure.
    pub statement_timeout: Duration,
    /// How long a statement waits for a lock, above zero and at most `statement_timeout`; then the
    /// unit fails as a serialization failure.
    pub lock_timeout: Duration,
    /// How long the server lets a unit do nothing, above zero; then it rolls it back and frees its
    /// locks.
    pub idle_timeout: Duration,
    /// How long one call may take in all, above `statement_timeout`: the bound that holds when the
    /// network swallows packets.
    pub call_timeout: Duration,
    /// For how long a commit whose answer was lost is asked for on another connection; zero never
    /// asks. Then the outcome is unknown.
    pub resolve_timeout: Duration,
    /// Bytes of one aggregate's state, view row or stored response, at least 1; a larger one is
    /// refused.
    pub state_bytes_max: usize,
    /// Aggregates that one `load` locks, 1 to 10,000; more are refused. Each takes a slot of the
    /// server's lock table (`max_locks_per_transaction` times `max_connections` slots in all).
    pub load_max: usize,
    /// Rows of one page, claim or audit read, at least 1; a call that asks for more gets these.
    pub rows_max: usize,
    /// Bytes of one outbox message's payload, at least 1; a larger one is refused.
    pub message_bytes_max: usize,
    /// Bytes of messages, headers included, that a unit keeps until its commit, at most 64 MiB;
    /// what it appends beyond them is sent at once, which is a round trip. 1 MiB holds what a batch
    /// of messages appends; zero sends every append at once.
    pub kept_bytes_max: usize,
    /// Shards of the outbox, at least 1; a message's shard is murmur2 of its partition key modulo
    /// this number. It never changes once messages were appended.
    pub shards: u16,
    /// The longest lease of an outbox shard or timer claim, above zero; a longer one asked for is
    /// cut to it.
    pub lease_max: Duration,
    /// What each group remembers of the messages it applied: rows, a window or an offset.
    pub inbox: InboxConfig,
}

impl PgConfig {
    /// Makes a configuration with the defaults for the database at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: "public".to_owned(),
            views: BTreeMap::new(),
            connections_max: 16,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(15),
            resolve_timeout: Duration::from_secs(5),
            state_bytes_max: 4 << 20,
            load_max: 1000,
            rows_max: 10_000,
            message_bytes_max: 1 << 20,
            kept_bytes_max: 1 << 20,
            shards: 4,
            lease_max: Duration::from_secs(300),
            inbox: InboxConfig::default(),
        }
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`PgError::Field`] for the first field out of range.
    pub fn validate(&self) -> Result<(), PgError> {
        let scheme = self.url.starts_with("postgres://") || self.url.starts_with("postgresql://");
        require(scheme, "url", "must look like postgres://role:password@host:port/database")?;
        require(is_name(&self.schema), "schema", "must be a lower-case SQL name")?;
        require(self.views.values().all(|t| is_name(t)), "views", "must name lower-case tables")?;
        let connections = (1..=1000).contains(&self.connections_max);
        require(connections, "connections_max", "must be 1 to 1000")?;
        for (field, value) in [
            ("acquire_timeout", self.acquire_timeout),
            ("statement_timeout", self.statement_timeout),
            ("lock_timeout", self.lock_timeout),
            ("idle_timeout", self.idle_timeout),
            ("lease_max", self.lease_max),
        ] {
            require(value >= Duration::from_millis(1), field, "must be at least a millisecond")?;
        }
        let ordered = self.lock_timeout <= self.statement_timeout;
        require(ordered, "lock_timeout", "must be at most statement_timeout")?;
        let outer = self.call_timeout > self.statement_timeout;
        require(outer, "call_timeout", "must be above statement_timeout")?;
        require(self.state_bytes_max > 0, "state_bytes_max", "must be at least 1")?;
        require((1..=10_000).contains(&self.load_max), "load_max", "must be 1 to 10000")?;
        require(self.rows_max > 0, "rows_max", "must be at least 1")?;
        require(self.message_bytes_max > 0, "message_bytes_max", "must be at least 1")?;
        let kept = self.kept_bytes_max <= 64 << 20;
        require(kept, "kept_bytes_max", "must be at most 67108864")?;
        require(self.shards > 0, "shards", "must be at least 1")?;
        let windows = "must be a multiple of 64 from 64 to 65536";
        require(self.inbox.validate().is_ok(), "inbox.window_bits", windows)
    }
}

impl fmt::Debug for PgConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgConfig")
            .field("url", &redacted(&self.url))
            .field("schema", &self.schema)
            .field("views", &self.views)
            .field("connections_max", &self.connections_max)
            .finish_non_exhaustive()
    }
}

/// Returns a URL without its password and its parameters, which may hold one.
pub(crate) fn redacted(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return "***".to_owned() };
    match rest.rsplit_once('@') {
        None => format!("{scheme}://{rest}"),
        Some((who, place)) => {
            let user = who.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{place}")
        }
    }
}

/// Tells whether `name` can stand in SQL without quotes.
pub(crate) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && name.len() <= 63
}
