//! Why a saga could not be brought on.

use std::sync::Arc;

use amarra_core::{Class, Classify};
use amarra_store::{HandlerError, TxError};

use crate::definition::{Fingerprint, StepError};
use crate::engine::Illegal;
use crate::request::SagaId;

/// Why a saga could not be brought on. The unit of work must then be rolled back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SagaError {
    /// The transaction failed. Its class decides.
    #[error(transparent)]
    Tx(#[from] TxError),
    /// The input is refused. Its class decides.
    #[error("saga {id}: {source}")]
    Illegal {
        /// The saga.
        id: SagaId,
        /// Why.
        source: Illegal,
    },
    /// A step could not say what to do, or a reply is not of its type. Class `Fatal`.
    #[error("saga {id}: {source}")]
    Step {
        /// The saga.
        id: SagaId,
        /// Why.
        source: StepError,
    },
    /// There is no such saga. Class `Rejected`: a reply to somebody else, or to one long purged.
    #[error("there is no saga {0}")]
    NotFound(SagaId),
    /// No such definition is registered. Class `Fatal`: register every version that is in flight.
    #[error("no saga definition {name:?} version {version:?} is registered")]
    NoDefinition {
        /// The name.
        name: Arc<str>,
        /// The version, none for the newest.
        version: Option<u32>,
    },
    /// The definition was changed under its version. Class `Fatal`: give the change a new version
    /// and keep the old one until its sagas have ended.
    #[error(
        "saga {id} runs {name:?} version {version} of fingerprint {log}, registered is {found}"
    )]
    Changed {
        /// The saga.
        id: SagaId,
        /// The definition's name.
        name: Arc<str>,
        /// Its version.
        version: u32,
        /// The fingerprint the saga was started under.
        log: Fingerprint,
        /// The fingerprint registered.
        found: Fingerprint,
    },
    /// Two definitions were registered under one name and version. Class `Fatal`.
    #[error("saga definition {name:?} version {version} is registered twice")]
    Doubled {
        /// The name.
        name: Arc<str>,
        /// The version.
        version: u32,
    },
    /// The saga's input does not encode. Class `Fatal`.
    #[error("the input of saga {id} does not encode: {source}")]
    Input {
        /// The saga.
        id: SagaId,
        /// What the serializer said.
        source: serde_json::Error,
    },
}

impl Classify for SagaError {
    fn class(&self) -> Class {
        match self {
            Self::Tx(e) => e.class(),
            Self::Illegal { source, .. } => source.class(),
            Self::NotFound(_) => Class::Rejected,
            Self::Step { .. }
            | Self::NoDefinition { .. }
            | Self::Changed { .. }
            | Self::Doubled { .. }
            | Self::Input { .. } => Class::Fatal,
        }
    }
}

impl From<SagaError> for HandlerError {
    fn from(error: SagaError) -> Self {
        match error {
            SagaError::Tx(e) => Self::Tx(e),
            error if error.class() == Class::Fatal => {
                Self::Tx(TxError::Corrupt { what: "saga".to_owned(), why: error.to_string() })
            }
            error => Self::Refused(error.to_string()),
        }
    }
}
