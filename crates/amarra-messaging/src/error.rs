//! The error of everything that happens inside one local transaction.

use amarra_core::{AggregateId, Class, Classify};

/// Why an operation of a local transaction, or its commit, failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TxError {
    /// Somebody else saved the aggregate first, or took its unique name. Class `Conflict`: roll
    /// back, load again and decide again.
    #[error("{id} was changed or created by somebody else")]
    Conflict {
        /// The aggregate.
        id: AggregateId,
    },
    /// The database chose this transaction as the victim of a serialization failure or deadlock.
    /// Class `Transient`: run the transaction again.
    #[error("serialization failure: run the transaction again")]
    Serialization,
    /// The connection was lost before the commit was sent. Class `Transient`: nothing was applied.
    #[error("connection to the database lost: {why}")]
    Connection {
        /// What the driver said.
        why: String,
    },
    /// The connection was lost after the commit was sent. Class `Unknown`: run the transaction
    /// again only if it admits its message or records its idempotency key.
    #[error("commit outcome unknown: the connection was lost after the commit was sent")]
    OutcomeUnknown,
    /// A newer owner holds the lease this transaction relied on. Class `Conflict`: stop the work
    /// that the lease allowed.
    #[error("fenced: epoch {held} of {what} was superseded")]
    Fenced {
        /// What the lease is on.
        what: String,
        /// The epoch this caller held.
        held: u64,
    },
    /// A bound was exceeded. Class `Rejected`: the message names the bound.
    #[error("{what} exceeds its bound of {bound}")]
    TooLarge {
        /// What was too large, with the configuration field that bounds it.
        what: &'static str,
        /// The bound.
        bound: u64,
    },
    /// A stored value does not decode. Class `Fatal`: stop and report.
    #[error("stored {what} is corrupt: {why}")]
    Corrupt {
        /// What was read.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Classify for TxError {
    fn class(&self) -> Class {
        match self {
            Self::Conflict { .. } | Self::Fenced { .. } => Class::Conflict,
            Self::Serialization | Self::Connection { .. } => Class::Transient,
            Self::OutcomeUnknown => Class::Unknown,
            Self::TooLarge { .. } => Class::Rejected,
            Self::Corrupt { .. } => Class::Fatal,
        }
    }
}
