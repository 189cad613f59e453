//! Where the log is followed, and the bounds of what is held of it.

use std::fmt;
use std::time::Duration;

use amarra_messaging::config::{Backoff, ConfigError};

/// How one process follows the write-ahead log of one service's database.
///
/// # Example
/// ```
/// use amarra_postgres_wal::WalConfig;
/// let config = WalConfig::new("127.0.0.1", "orders_wal", "secret", "orders");
/// assert!(config.validate().is_ok());
/// assert!(!format!("{config:?}").contains("secret"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct WalConfig {
    /// The server's name or address, not empty; a folder that starts with `/` is that of its
    /// socket.
    pub host: String,
    /// The server's port; 5432 by default.
    pub port: u16,
    /// The role, with the attribute `REPLICATION`, not empty: one of its own, see the crate's page.
    pub role: String,
    /// Its password, never shown; empty where the server asks for none.
    pub password: String,
    /// The service's database, not empty.
    pub database: String,
    /// The publication that [`publish`](crate::publish) made, a lower-case SQL name.
    pub publication: String,
    /// What the names of the temporary slots begin with, a lower-case SQL name of at most 40
    /// bytes; the process id of the server's end follows.
    pub slot: String,
    /// Bytes of rows held in memory, at least 1. 64 MiB, tens of thousands of rows, bridge a slow
    /// broker; beyond it the largest shard's rows are dropped and read from the table instead.
    pub held_bytes_max: usize,
    /// Bytes of one message of the protocol, at least 1 KiB: above every row. 64 MiB. A larger one
    /// ends the stream, and the table is read until it was started anew.
    pub frame_bytes_max: usize,
    /// Messages of the protocol between the socket and the held rows, at least 1. 1,024 let the one
    /// fill while the other empties; at it the server waits.
    pub frames_max: usize,
    /// How long a read waits for the log to come as far as the database, above zero; then it reads
    /// the table. 20 ms, above what the server needs to decode, below what a reader of the table
    /// would notice.
    pub catch_up: Duration,
    /// How often the server is told that the log may be recycled, above zero. A second: nothing is
    /// asked of the server again, so it need not be sooner.
    pub status_interval: Duration,
    /// The waits before a stream that ended is started anew.
    pub backoff: Backoff,
    /// Connections that ask how far the database is, 1 to 100. 2, as the table's relay has.
    pub connections: u32,
}

impl fmt::Debug for WalConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("role", &self.role)
            .field("database", &self.database)
            .field("publication", &self.publication)
            .field("slot", &self.slot)
            .field("held_bytes_max", &self.held_bytes_max)
            .field("catch_up", &self.catch_up)
            .finish_non_exhaustive()
    }
}

impl WalConfig {
    /// Makes a configuration with the defaults.
    #[must_use]
    pub fn new(
        host: impl Into<String>,
        role: impl Into<String>,
        password: impl Into<String>,
        database: impl Into<String>,
    ) -> Self {
        Self {
            host: host.into(),
            port: 5432,
            role: role.into(),
            password: password.into(),
            database: database.into(),
            publication: "amarra_outbox".to_owned(),
            slot: "amarra_wal".to_owned(),
            held_bytes_max: 64 << 20,
            frame_bytes_max: 64 << 20,
            frames_max: 1024,
            catch_up: Duration::from_millis(20),
            status_interval: Duration::from_secs(1),
            backoff: Backoff { min: Duration::from_millis(50), max: Duration::from_secs(5) },
            connections: 2,
        }
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = ConfigError::unless;
        check(!self.host.is_empty(), "host", "not empty")?;
        check(!self.role.is_empty(), "role", "not empty")?;
        check(!self.database.is_empty(), "database", "not empty")?;
        check(is_name(&self.publication), "publication", "a lower-case SQL name")?;
        let slot = is_name(&self.slot) && self.slot.len() <= 40;
        check(slot, "slot", "a lower-case SQL name of at most 40 bytes")?;
        check(self.held_bytes_max >= 1, "held_bytes_max", "at least 1")?;
        check(self.frame_bytes_max >= 1 << 10, "frame_bytes_max", "at least 1024")?;
        check(self.frames_max >= 1, "frames_max", "at least 1")?;
        check(!self.catch_up.is_zero(), "catch_up", "positive")?;
        check(!self.status_interval.is_zero(), "status_interval", "positive")?;
        check((1..=100).contains(&self.connections), "connections", "1 to 100")?;
        self.backoff.validate("backoff")
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    first && rest && name.len() <= 63
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_out_of_range_is_named() {
        let good = || WalConfig::new("h", "r", "", "d");
        let check = |config: WalConfig, field| {
            assert_eq!(config.validate().unwrap_err().field, field);
        };
        assert!(good().validate().is_ok());
        check(WalConfig { host: String::new(), ..good() }, "host");
        check(WalConfig { publication: "a b".into(), ..good() }, "publication");
        check(WalConfig { slot: "Slot".into(), ..good() }, "slot");
        check(WalConfig { held_bytes_max: 0, ..good() }, "held_bytes_max");
        check(WalConfig { catch_up: Duration::ZERO, ..good() }, "catch_up");
        check(WalConfig { connections: 0, ..good() }, "connections");
    }
}
