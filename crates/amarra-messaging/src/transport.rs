//! The publishing port: a session per lease, fenced at the broker.

use std::fmt;

use amarra_core::{Class, Classify};
use async_trait::async_trait;

use crate::message::{Epoch, Record, Shard, Topic};
use crate::outbox::Lease;

/// One record with its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Where it goes; the record's key chooses the partition.
    pub topic: Topic,
    /// The bytes.
    pub record: Record,
}

/// Opens publishing sessions.
///
/// # Laws
/// - TRN-1 opening a session for a shard fences every session of an older epoch of that shard.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug {
    /// Opens the session of a lease.
    ///
    /// # Errors
    /// [`PublishError::Fenced`] when a newer epoch is known to the broker;
    /// [`PublishError::Unavailable`] when the broker does not answer.
    async fn open(&self, lease: &Lease) -> Result<Box<dyn Session>, PublishError>;
}

/// Publishes in order.
///
/// # Laws
/// - TRN-2 `Ok` means that every record is stored as durably as the broker promises.
/// - TRN-3 records of one key and topic are stored in call order; a retry inside the session never
///   stores a record twice nor reorders it.
/// - TRN-4 after an error the first `acked` records are stored, and of the others any may be: the
///   caller publishes from `acked` on again, so a reader may see them twice but never reordered
///   after the retry succeeds.
/// - TRN-5 a fenced session stores nothing.
/// - TRN-6 equal keys go to one partition: murmur2 of the key modulo the partitions, as Kafka does.
/// - TRN-7 where a transport is transactional, readers find of one call either all records that
///   were not reported as stored, or none; and a call that was dropped likewise.
#[async_trait]
pub trait Session: Send + fmt::Debug {
    /// Publishes records, in order.
    ///
    /// # Errors
    /// [`PublishError`]; each variant says what is known.
    ///
    /// # Cancellation
    /// Any number of the records may have been stored.
    async fn publish(&mut self, records: &[Publish]) -> Result<(), PublishError>;
}

/// Why records were not all published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A newer session owns the shard. Class `Conflict`: drop the lease.
    #[error("fenced: the broker knows a newer epoch of shard {shard} than {epoch}")]
    Fenced {
        /// The shard.
        shard: Shard,
        /// The epoch that was superseded.
        epoch: Epoch,
    },
    /// The broker refuses the record at `acked` for what it is. Class `Rejected`: park its key.
    #[error("the broker refuses a record: {why}")]
    Refused {
        /// How many records before it are stored.
        acked: usize,
        /// What the broker said.
        why: String,
    },
    /// The broker did not answer for all. Class `Unknown`: publish from `acked` on again.
    #[error("broker unavailable after {acked} records: {why}")]
    Unavailable {
        /// How many records are known to be stored, counted from the first.
        acked: usize,
        /// What the driver said.
        why: String,
    },
}

impl Classify for PublishError {
    fn class(&self) -> Class {
        match self {
            Self::Fenced { .. } => Class::Conflict,
            Self::Refused { .. } => Class::Rejected,
            Self::Unavailable { .. } => Class::Unknown,
        }
    }
}
