//! The error of setting up a database, broker or group member.

use amarra_core::{Class, Classify};

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A field is outside of its range. Class `Fatal`: correct it and start again.
    #[error("{field} {why}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it must be.
        why: &'static str,
    },
    /// The inbox of a group is out of its range. Class `Fatal`: correct it and start again.
    #[error(transparent)]
    Inbox(#[from] amarra_messaging::ConfigError),
    /// A topic exists with another number of partitions. Class `Fatal`: the number never changes,
    /// since it decides which partition a key goes to.
    #[error("topic {topic} exists with {existing} partitions")]
    TopicExists {
        /// The topic.
        topic: String,
        /// How many partitions it has.
        existing: u32,
    },
}

impl Classify for ConfigError {
    fn class(&self) -> Class {
        Class::Fatal
    }
}

/// Refuses a field unless `ok`.
pub(crate) fn require(ok: bool, field: &'static str, why: &'static str) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError::Field { field, why }) }
}
