//! Bounds and times of a database.

use std::time::Duration;

use amarra_messaging::ConfigError;
use amarra_messaging::inbox::InboxConfig;
use serde::Deserialize;

use crate::error::OpenError;

/// How soon what was committed is on the disk itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Synchronous {
    /// Before the commit is answered: it survives a loss of power. A commit costs one `fsync`.
    #[default]
    Full,
    /// At the next checkpoint: a commit survives a `kill -9` of the process and may be lost when
    /// the machine loses power. The database is whole in any case. Several times faster on disks
    /// with a slow `fsync`.
    Normal,
}

impl Synchronous {
    pub(crate) const fn pragma(self) -> sqlx::sqlite::SqliteSynchronous {
        match self {
            Self::Full => sqlx::sqlite::SqliteSynchronous::Full,
            Self::Normal => sqlx::sqlite::SqliteSynchronous::Normal,
        }
    }

    pub(crate) const fn statement(self) -> &'static str {
        match self {
            Self::Full => "PRAGMA synchronous = FULL",
            Self::Normal => "PRAGMA synchronous = NORMAL",
        }
    }
}

/// How one database behaves.
///
/// # Example
/// ```
/// use amarra_sqlite::DatabaseConfig;
/// assert!(DatabaseConfig::default().validate().is_ok());
/// let bad = DatabaseConfig { shards: 0, ..DatabaseConfig::default() };
/// assert!(bad.validate().unwrap_err().to_string().contains("shards"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Shards of the outbox, 1 to 64; a message's shard is murmur2 of its partition key modulo this
    /// number. Fixed when the file is made. One, since one process relays all of them and each
    /// saves its own cursor.
    pub shards: u16,
    /// When a commit is on the disk.
    pub synchronous: Synchronous,
    /// How long a unit waits for the one that writes before it, above zero; it is then rolled back
    /// as a serialization failure. Five seconds, hundreds of ordinary units.
    pub writer_wait: Duration,
    /// How long SQLite waits for a file lock somebody else holds, above zero. Only a tool that
    /// looks into the file can hold one: the process lock keeps other services out.
    pub busy_timeout: Duration,
    /// Connections that read, 1 to 64, each with a thread of its own. A reader never waits for the
    /// writer; two serve views and the relay at once.
    pub readers: u32,
    /// Bytes of one outbox message's payload, at least 1; a larger one is refused.
    pub message_bytes_max: usize,
    /// Bytes of one aggregate's state, view row or stored response, at least 1; a larger one is
    /// refused.
    pub state_bytes_max: usize,
    /// The longest lease of an outbox shard or timer claim, above zero; a longer one asked for is
    /// cut to it.
    pub lease_max: Duration,
    /// What each group remembers of the messages it applied: rows, a window or an offset.
    pub inbox: InboxConfig,
}

impl Default for DatabaseConfig {
    /// One shard, durable against loss of power, 1 MiB messages.
    fn default() -> Self {
        Self {
            shards: 1,
            synchronous: Synchronous::Full,
            writer_wait: Duration::from_secs(5),
            busy_timeout: Duration::from_secs(5),
            readers: 2,
            message_bytes_max: 1 << 20,
            state_bytes_max: 4 << 20,
            lease_max: Duration::from_secs(300),
            inbox: InboxConfig::default(),
        }
    }
}

impl DatabaseConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`OpenError::Config`] for the first field out of range.
    pub fn validate(&self) -> Result<(), OpenError> {
        ConfigError::unless((1..=64).contains(&self.shards), "shards", "from 1 to 64")?;
        ConfigError::unless(!self.writer_wait.is_zero(), "writer_wait", "above zero")?;
        ConfigError::unless(!self.busy_timeout.is_zero(), "busy_timeout", "above zero")?;
        ConfigError::unless((1..=64).contains(&self.readers), "readers", "from 1 to 64")?;
        ConfigError::unless(self.message_bytes_max > 0, "message_bytes_max", "at least 1")?;
        ConfigError::unless(self.state_bytes_max > 0, "state_bytes_max", "at least 1")?;
        ConfigError::unless(!self.lease_max.is_zero(), "lease_max", "above zero")?;
        self.inbox.validate()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_field_is_named() {
        let check = |result: Result<(), OpenError>, field: &str| {
            let message = result.unwrap_err().to_string();
            assert!(message.starts_with(field), "{message:?} does not name {field}");
        };
        let db = DatabaseConfig::default;
        let zero = Duration::ZERO;
        check(DatabaseConfig { shards: 0, ..db() }.validate(), "shards");
        check(DatabaseConfig { writer_wait: zero, ..db() }.validate(), "writer_wait");
        check(DatabaseConfig { busy_timeout: zero, ..db() }.validate(), "busy_timeout");
        check(DatabaseConfig { readers: 0, ..db() }.validate(), "readers");
        check(DatabaseConfig { message_bytes_max: 0, ..db() }.validate(), "message_bytes_max");
        check(DatabaseConfig { state_bytes_max: 0, ..db() }.validate(), "state_bytes_max");
        check(DatabaseConfig { lease_max: zero, ..db() }.validate(), "lease_max");
        let mut narrow = db();
        narrow.inbox.default.window_bits = 63;
        check(narrow.validate(), "window_bits");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let parsed = serde_json::from_str::<DatabaseConfig>(r#"{"shard": 1}"#);
        assert!(parsed.unwrap_err().to_string().contains("unknown field `shard`"));
        let parsed: DatabaseConfig = serde_json::from_str(r#"{"synchronous": "normal"}"#).unwrap();
        assert_eq!(parsed.synchronous, Synchronous::Normal);
    }
}
