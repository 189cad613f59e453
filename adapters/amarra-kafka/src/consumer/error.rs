//! Why a member of a consumer group cannot be made.

use amarra_core::{Class, Classify};
use amarra_messaging::ConfigError;

/// Why a [`KafkaConsumer`](super::KafkaConsumer) cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A field is out of range. Class `Fatal`: correct it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no topic to read. Class `Fatal`: name one.
    #[error("no topic to read: name at least one")]
    NoTopic,
    /// The client library or the operating system refused. Class `Fatal`: correct what it says.
    #[error("the Kafka client cannot be made: {why}")]
    Client {
        /// What it said.
        why: String,
    },
}

impl Classify for OpenError {
    fn class(&self) -> Class {
        Class::Fatal
    }
}
