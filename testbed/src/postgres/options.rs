//! How a private PostgreSQL server is set up.

use std::fmt::Write;
use std::time::Duration;

use crate::error::Error;

/// A version of PostgreSQL that the product is tested on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PgVersion {
    /// The oldest one supported, from Debian.
    V15,
    /// The newest one, from Maven Central.
    V18,
}

impl PgVersion {
    /// Every version.
    pub const ALL: [Self; 2] = [Self::V18, Self::V15];

    /// The major version.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::V15 => 15,
            Self::V18 => 18,
        }
    }
}

/// How roles prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PgAuth {
    /// Nobody needs a password.
    #[default]
    Trust,
    /// Every role but the superuser `app` needs its password (SCRAM-SHA-256).
    Scram,
}

/// How a private PostgreSQL server is set up.
#[derive(Debug, Clone)]
pub struct PgOptions {
    /// Whether commits are forced to the disk. Off, because most tests lose no power; on for tests
    /// of durability and for published figures.
    pub fsync: bool,
    /// How roles prove who they are.
    pub auth: PgAuth,
    /// The most connections, 1 to 1,000. 300, because tests open pools beside each other.
    pub connections_max: u16,
    /// Further settings of `postgresql.conf`, which win over those of the testbed.
    pub settings: Vec<(String, String)>,
    /// How long a start may take, at least a second. 60 s, because the machine may be busy
    /// building.
    pub patience: Duration,
}

impl Default for PgOptions {
    fn default() -> Self {
        Self {
            fsync: false,
            auth: PgAuth::Trust,
            connections_max: 300,
            settings: Vec::new(),
            patience: Duration::from_secs(60),
        }
    }
}

impl PgOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), Error> {
        if !(1..=1_000).contains(&self.connections_max) {
            return Err(Error::Misuse("connections_max must be 1 to 1000".into()));
        }
        if self.patience < Duration::from_secs(1) {
            return Err(Error::Misuse("patience must be at least a second".into()));
        }
        let odd = |key: &str| !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b));
        match self.settings.iter().find(|(key, _)| key.is_empty() || odd(key)) {
            Some((key, _)) => Err(Error::Misuse(format!("settings: {key:?} is no setting's name"))),
            None => Ok(()),
        }
    }

    pub(super) fn settings_text(&self, port: u16) -> String {
        let on = if self.fsync { "on" } else { "off" };
        let own = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", port.to_string()),
            ("unix_socket_directories", String::new()),
            ("wal_level", "logical".to_owned()),
            ("max_wal_senders", "16".to_owned()),
            ("max_replication_slots", "32".to_owned()),
            ("max_connections", self.connections_max.to_string()),
            ("synchronous_commit", "on".to_owned()),
            ("fsync", on.to_owned()),
            ("full_page_writes", on.to_owned()),
            ("password_encryption", "scram-sha-256".to_owned()),
            ("timezone", "UTC".to_owned()),
        ];
        let own = own.iter().map(|(key, value)| (*key, value.as_str()));
        let further = self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let mut text = String::new();
        for (key, value) in own.chain(further) {
            let _ = writeln!(text, "{key} = '{}'", value.replace('\'', "''"));
        }
        text
    }

    pub(super) fn hba(&self, superuser: &str) -> String {
        let method = match self.auth {
            PgAuth::Trust => "trust",
            PgAuth::Scram => "scram-sha-256",
        };
        let mut text = String::new();
        for database in ["all", "replication"] {
            let _ = writeln!(text, "host {database} {superuser} 127.0.0.1/32 trust");
            let _ = writeln!(text, "host {database} all 127.0.0.1/32 {method}");
        }
        text
    }
}
