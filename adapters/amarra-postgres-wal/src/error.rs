//! Why the log cannot be followed.

use amarra_core::{Class, Classify};
use amarra_messaging::config::ConfigError;
use pgwire_replication::PgWireError;

/// Why a stream of the log was refused, or ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// A field is out of range. Class `Fatal`: correct it and start again.
    #[error("{field} must be {must}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it must be.
        must: &'static str,
    },
    /// The server writes too little into its log. Class `Fatal`: set it and start the server anew.
    #[error("wal_level is {found}: set it to logical and restart the server")]
    Level {
        /// What it is.
        found: String,
    },
    /// The publication is missing or publishes something else. Class `Fatal`: make it as the
    /// table's owner.
    #[error("publication {name} {why}: make it with publish() as the owner of the outbox table")]
    Publication {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The server refuses the role, its password or what it asks. Class `Fatal`: give the role
    /// `LOGIN REPLICATION` and the right to connect.
    #[error(
        "the server refuses the replication role: it needs LOGIN, REPLICATION, CONNECT ({why})"
    )]
    Refused {
        /// What the server said.
        why: String,
    },
    /// The server does not answer, or ended the stream. Class `Transient`: the table is read
    /// until the stream runs again.
    #[error("the log is not followed, the table is read instead: {why}")]
    Unavailable {
        /// What happened.
        why: String,
    },
    /// The stream does not decode. Class `Fatal`: a server this release does not know.
    #[error("a message of the log does not decode: {why}")]
    Corrupt {
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Classify for WalError {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } => Class::Transient,
            _ => Class::Fatal,
        }
    }
}

impl From<ConfigError> for WalError {
    fn from(error: ConfigError) -> Self {
        Self::Field { field: error.field, must: error.must }
    }
}

impl From<PgWireError> for WalError {
    fn from(error: PgWireError) -> Self {
        // SQLSTATE classes: 28 is the login, 42501 a missing right, 3D000 a missing database.
        let said = error.to_string();
        let refused = ["28000", "28P01", "42501", "3D000"].iter().any(|code| said.contains(code));
        if refused || error.is_auth() {
            return Self::Refused { why: said };
        }
        Self::Unavailable { why: said }
    }
}
