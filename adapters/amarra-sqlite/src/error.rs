//! Why a file could not be opened, and how a driver's error reads in the ports' words.

use std::path::{Path, PathBuf};

use amarra_core::{Class, Classify};
use amarra_messaging::outbox::LogError;
use amarra_messaging::{ConfigError, Topic, TxError};

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A field is outside of its range. Class `Fatal`: correct it and start again.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another process, or another handle of this one, has the file open. Class `Transient`: stop
    /// the other one, or choose another path.
    #[error("{path} is in use by another process: stop it, or choose another path")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The path cannot be read and written. Class `Fatal`: make its folder and give this user the
    /// right to write there.
    #[error(
        "cannot write {path}: {source}; make its folder and let this user write there, or choose \
         another path"
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file belongs to something else. Class `Fatal`: choose another path.
    #[error("{path} is not {what} of this program: choose another path")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// A newer release wrote the file. Class `Fatal`: run that release, or restore a backup.
    #[error(
        "{path} has schema version {found} and this program knows {known}: run the newer release"
    )]
    SchemaAhead {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The outbox was made with another number of shards. Class `Fatal`: the number never changes,
    /// since it decides which shard a key's messages are in.
    #[error(
        "{path} has {existing} outbox shards and shards says {configured}: set shards to {existing}"
    )]
    Shards {
        /// The file.
        path: PathBuf,
        /// How many it has.
        existing: u16,
        /// How many are configured.
        configured: u16,
    },
    /// The database and the file of its relay are not of one another: one was restored, copied or
    /// deleted without the other. Class `Fatal`: restore both from one backup.
    #[error("{path} does not belong to its database: {why}; restore both files from one backup")]
    Mismatch {
        /// The relay's file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A topic was made with another number of partitions. Class `Fatal`: the number never changes,
    /// since it decides where a key's records are.
    #[error(
        "topic {topic} has {existing} partitions in {path} and partitions says {configured}: set \
         partitions to {existing}, or use another topic"
    )]
    Partitions {
        /// The file.
        path: PathBuf,
        /// The topic.
        topic: Topic,
        /// How many it has.
        existing: u32,
        /// How many are configured.
        configured: u32,
    },
    /// A group asks for a topic that the bus does not have. Class `Fatal`: declare it.
    #[error("there is no topic {topic} in {path}: add it to the topics the bus is opened with")]
    UnknownTopic {
        /// The file.
        path: PathBuf,
        /// The topic.
        topic: Topic,
    },
    /// The bus is closed. Class `Fatal`: open it again.
    #[error("the bus in {path} is closed: open it again")]
    Closed {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full. Class `Transient`: free space on its volume.
    #[error("the disk of {path} is full: free space on its volume")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged. Class `Fatal`: restore a backup.
    #[error("{path} is damaged: restore a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// The driver failed in another way. Class `Transient`: its message says why.
    #[error("cannot open {path}: {source}")]
    Driver {
        /// The file.
        path: PathBuf,
        /// What the driver said.
        source: sqlx::Error,
    },
}

impl Classify for OpenError {
    fn class(&self) -> Class {
        match self {
            Self::Locked { .. } | Self::Full { .. } | Self::Driver { .. } => Class::Transient,
            _ => Class::Fatal,
        }
    }
}

impl OpenError {
    pub(crate) fn of(path: &Path, source: sqlx::Error) -> Self {
        let path = path.to_owned();
        match kind(&source) {
            Kind::Full => Self::Full { path },
            Kind::Damaged => Self::Damaged { path, source },
            Kind::Unwritable => Self::Unwritable { path, source: std::io::Error::other(source) },
            Kind::Busy | Kind::Other => Self::Driver { path, source },
        }
    }
}

/// What a driver's error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Somebody else holds a file lock.
    Busy,
    /// There is no space left.
    Full,
    /// The file cannot be written or opened.
    Unwritable,
    /// The file, or a value in it, does not decode.
    Damaged,
    /// Anything else.
    Other,
}

/// Sorts a driver's error by SQLite's primary result code.
pub(crate) fn kind(error: &sqlx::Error) -> Kind {
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or(0);
            match code & 0xff {
                5 | 6 => Kind::Busy,
                8 | 14 => Kind::Unwritable,
                11 | 26 => Kind::Damaged,
                13 => Kind::Full,
                _ => Kind::Other,
            }
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Kind::Damaged,
        _ => Kind::Other,
    }
}

/// Tells whether a file does not even begin as SQLite's files do.
pub(crate) fn is_no_database(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|database| database.code());
    code.and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| code & 0xff == 26)
}

/// Says in words for an operator what failed.
pub(crate) fn why(error: &sqlx::Error) -> String {
    match kind(error) {
        Kind::Full => "the disk is full: free space on its volume".to_owned(),
        Kind::Unwritable => format!("the file cannot be written: {error}"),
        _ if matches!(error, sqlx::Error::PoolClosed) => "it is closed".to_owned(),
        _ => error.to_string(),
    }
}

/// Reads a driver's error of a statement that was not a commit.
pub(crate) fn tx(error: &sqlx::Error) -> TxError {
    match kind(error) {
        Kind::Busy => TxError::Serialization,
        Kind::Damaged => TxError::Corrupt { what: "row".to_owned(), why: error.to_string() },
        _ => TxError::Connection { why: why(error) },
    }
}

/// Reads a driver's error of the relay's side.
pub(crate) fn log(error: &sqlx::Error) -> LogError {
    match kind(error) {
        Kind::Damaged => LogError::Corrupt { what: "row".to_owned(), why: error.to_string() },
        _ => LogError::Unavailable { why: why(error) },
    }
}

/// Reads a driver's error of a commit: full or locked means that nothing was applied; anything else
/// may have reached the disk, where the next start would find it.
pub(crate) fn commit(error: &sqlx::Error) -> TxError {
    match kind(error) {
        Kind::Busy => TxError::Serialization,
        Kind::Full => TxError::Connection { why: why(error) },
        _ => TxError::OutcomeUnknown,
    }
}
