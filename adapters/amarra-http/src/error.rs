//! Why an HTTP call gave no usable response.

use amarra_core::{Class, Classify};

/// Why an HTTP call gave no usable response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No connection: nothing was sent. Class `Transient`: try again.
    #[error("cannot connect to {service}: {why}")]
    NotSent {
        /// The service.
        service: String,
        /// What the network said.
        why: String,
    },
    /// The connection broke after the request was sent. Class `Unknown`: the service may have
    /// acted; try again only with an idempotency key.
    #[error("no answer from {service}: {why}")]
    NoAnswer {
        /// The service.
        service: String,
        /// What the network said.
        why: String,
    },
    /// The response is larger than `response_bytes_max`. Class `Fatal`.
    #[error("the response of {service} exceeds response_bytes_max")]
    TooLarge {
        /// The service.
        service: String,
    },
}

impl Classify for HttpError {
    fn class(&self) -> Class {
        match self {
            Self::NotSent { .. } => Class::Transient,
            Self::NoAnswer { .. } => Class::Unknown,
            Self::TooLarge { .. } => Class::Fatal,
        }
    }
}
