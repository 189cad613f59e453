//! Why a cluster cannot be used, and how the driver's errors become those of the ports.

use amarra_core::{Class, Classify};
use amarra_messaging::ConfigError;
use rdkafka::error::{KafkaError as DriverError, RDKafkaErrorCode};

/// Why a cluster or a topic was refused at start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KafkaError {
    /// A field is outside of its range. Class `Fatal`: correct it and start again.
    #[error(transparent)]
    Field(#[from] ConfigError),
    /// librdkafka refuses the properties. Class `Fatal`: correct `extra`.
    #[error("the client cannot be made: correct extra ({why})")]
    Client {
        /// What librdkafka said, without values.
        why: String,
    },
    /// No broker answers. Class `Transient`: start it, or correct `bootstrap`.
    #[error("no broker answers at {bootstrap}: start it, or correct bootstrap ({why})")]
    Unreachable {
        /// Where it was looked for.
        bootstrap: String,
        /// What the driver said.
        why: String,
    },
    /// The cluster refuses what was asked of it. Class `Fatal`: grant it, or do it by hand.
    #[error("the cluster refuses to {what}: {why}")]
    Refused {
        /// What was asked.
        what: String,
        /// What the cluster said.
        why: String,
    },
    /// A topic is missing. Class `Fatal`: create it.
    #[error("topic {topic} does not exist: create it")]
    Missing {
        /// The topic.
        topic: String,
    },
    /// A topic is not as it has to be. Class `Fatal`: change it, or the configuration.
    #[error("topic {topic} has {setting} {found}, wanted {wanted}: {remedy}")]
    Differs {
        /// The topic.
        topic: String,
        /// The setting.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it has to be.
        wanted: String,
        /// How to make it so.
        remedy: &'static str,
    },
    /// Any other failure of the cluster. Class `Transient`.
    #[error("the cluster failed to {what}: {why}")]
    Cluster {
        /// What was asked.
        what: String,
        /// What the driver said.
        why: String,
    },
}

impl Classify for KafkaError {
    fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::Cluster { .. } => Class::Transient,
            _ => Class::Fatal,
        }
    }
}

/// Says what is wrong with the properties; a value among them may be a secret.
pub(crate) fn unmakeable(e: &DriverError) -> KafkaError {
    let why = match e {
        DriverError::ClientConfig(_, _, key, _) => format!("property {key} is wrong or unknown"),
        _ => "librdkafka refuses the properties together".to_owned(),
    };
    KafkaError::Client { why }
}

/// Tells whether the broker refuses a record for what it is.
pub(crate) fn is_refusal(e: &DriverError) -> bool {
    use RDKafkaErrorCode::{InvalidRecord, InvalidTimestamp, MessageSizeTooLarge};
    let code = e.rdkafka_error_code();
    matches!(code, Some(MessageSizeTooLarge | InvalidRecord | InvalidTimestamp))
}

/// Tells whether somebody else took the transactional id.
pub(crate) fn is_fenced(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{Fenced, InvalidProducerEpoch, ProducerFenced};
    matches!(code, Fenced | ProducerFenced | InvalidProducerEpoch)
}
