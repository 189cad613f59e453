//! Why a database cannot be used, and how the driver's errors become those of the ports.

use amarra_core::{Class, Classify};
use amarra_messaging::TxError;
use amarra_messaging::outbox::LogError;

/// Why a database was refused at start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PgError {
    /// A field is outside of its range. Class `Fatal`: correct it and start again.
    #[error("{field} {why}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it must be.
        why: &'static str,
    },
    /// The server does not answer. Class `Transient`: start it, or correct host and port.
    #[error("{server} does not answer: start it, or correct host and port in url ({why})")]
    Unreachable {
        /// The server, without credentials.
        server: String,
        /// What the driver said.
        why: String,
    },
    /// The server refuses the role, its password or the database. Class `Fatal`: correct `url`.
    #[error("{server} refuses the login: correct role, password and database in url ({why})")]
    Refused {
        /// The server, without credentials.
        server: String,
        /// What the server said.
        why: String,
    },
    /// The server is older than this release supports. Class `Fatal`: upgrade it.
    #[error("server version {found} is too old: PostgreSQL 15 or later is needed")]
    Version {
        /// What it is.
        found: String,
    },
    /// The schema has migrations that this binary does not know. Class `Fatal`: run the newer
    /// binary, or restore the database of this one.
    #[error("schema is ahead: it has migration {found}, unknown here; run the newer binary")]
    SchemaAhead {
        /// The unknown migration.
        found: i64,
    },
    /// The schema lacks a migration. Class `Fatal`: migrate as the owner role.
    #[error("schema lacks migration {missing}: migrate it with the owner role first")]
    SchemaBehind {
        /// The first one missing.
        missing: i64,
    },
    /// A migration was changed after it was applied, or ended half-way. Class `Fatal`.
    #[error("migration {version} {why}")]
    Migration {
        /// The migration.
        version: i64,
        /// What is wrong and how to go on.
        why: String,
    },
    /// The server or role has a setting that breaks a guarantee. Class `Fatal`: reset it.
    #[error("{name} is {found}: set it to {expected} for this role or database")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A view's table is missing or lacks the columns `key`, `position`, `body`, `json`. Class
    /// `Fatal`.
    #[error("views: table {table} is missing or not as docs.md describes it ({why})")]
    View {
        /// The table.
        table: String,
        /// What the server said.
        why: String,
    },
    /// Any other failure of the server. Class `Transient`.
    #[error("database error: {why}")]
    Database {
        /// What the driver said.
        why: String,
    },
}

impl Classify for PgError {
    fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::Database { .. } => Class::Transient,
            _ => Class::Fatal,
        }
    }
}

/// Refuses a field unless `ok`.
pub(crate) fn require(ok: bool, field: &'static str, why: &'static str) -> Result<(), PgError> {
    if ok { Ok(()) } else { Err(PgError::Field { field, why }) }
}

/// What a driver's error says of the statement: its SQLSTATE, when the server answered.
pub(crate) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned())
}

/// Turns an error of a statement inside an uncommitted transaction into the ports' own.
pub(crate) fn tx_error(error: &sqlx::Error) -> TxError {
    let why = error.to_string();
    if let sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) = error {
        return TxError::Corrupt { what: "row".to_owned(), why };
    }
    let Some(state) = sqlstate(error) else { return TxError::Connection { why } };
    match (state.as_str(), state.get(..2).unwrap_or_default()) {
        // A unique name was taken between the look and the insert: the next run sees it.
        ("23505" | "55P03" | "57014", _) | (_, "40") => TxError::Serialization,
        (_, "08" | "25" | "53" | "57") => TxError::Connection { why },
        _ => TxError::Corrupt { what: "statement".to_owned(), why },
    }
}

/// Turns an error of the relay's side into the port's own.
pub(crate) fn log_error(error: &sqlx::Error) -> LogError {
    match tx_error(error) {
        TxError::Corrupt { what, why } => LogError::Corrupt { what, why },
        other => LogError::Unavailable { why: format!("{other} ({error})") },
    }
}
