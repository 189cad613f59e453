//! The consuming port: a member of a group, with its assignment and offsets.

use std::fmt;
use std::time::Duration;

use amarra_core::{Class, Classify};
use async_trait::async_trait;

use crate::message::{Delivery, Offset, Partition, Topic};

/// A partition of a topic, as assigned to a member.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: Partition,
}

/// What a poll brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// Records, ascending by offset within each partition; never of a paused partition.
    Records(Vec<Delivery>),
    /// Partitions that are now this member's; reading starts at the committed offset, or at the
    /// first record where none is committed.
    Assigned(Vec<TopicPartition>),
    /// Partitions that no longer are; their commits are refused from now on.
    Revoked(Vec<TopicPartition>),
    /// Nothing came within the wait.
    Idle,
}

/// One member of a consumer group.
///
/// # Laws
/// - CON-1 a partition is assigned to at most one member of a generation.
/// - CON-2 records of a partition come in offset order without gaps, from the committed offset on.
/// - CON-3 a record is delivered again after a restart or rebalance until an offset beyond it is
///   committed: at least once.
/// - CON-4 a commit of an older generation, or of a partition not assigned, is refused.
/// - CON-5 a committed offset survives the member; it never moves by itself.
/// - CON-6 nothing is committed unless `commit` is called.
/// - CON-7 a record that was handed out stays: every reader finds it at its offset, also after a
///   crash of the broker.
#[async_trait]
pub trait Consumer: Send + fmt::Debug {
    /// Waits up to `wait` for something, at most `limit` records.
    ///
    /// # Errors
    /// [`ConsumerError::Unavailable`]; poll again after a pause.
    ///
    /// # Cancellation
    /// Records handed out are in the returned value only: a dropped future loses none, they are
    /// handed out by the next poll.
    async fn poll(&mut self, limit: usize, wait: Duration) -> Result<Polled, ConsumerError>;

    /// Commits the next offsets to read.
    ///
    /// # Errors
    /// [`ConsumerError::Fenced`] when the generation passed: drop the partition's work, its next
    /// owner repeats it. [`ConsumerError::Unavailable`] when it may or may not have happened.
    async fn commit(&mut self, offsets: &[(TopicPartition, Offset)]) -> Result<(), ConsumerError>;

    /// Stops handing out records of a partition until it is resumed.
    fn pause(&mut self, partition: &TopicPartition);

    /// Goes on handing out records of a partition.
    fn resume(&mut self, partition: &TopicPartition);

    /// Reads a partition from `offset` on at the next poll.
    fn seek(&mut self, partition: &TopicPartition, offset: Offset);
}

/// Why a consumer call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumerError {
    /// This member's generation passed. Class `Conflict`: poll, and start from what it assigns.
    #[error("fenced: the group moved on to another generation")]
    Fenced,
    /// The broker did not answer. Class `Unknown`: commits may be repeated, they are idempotent.
    #[error("broker unavailable: {why}")]
    Unavailable {
        /// What the driver said.
        why: String,
    },
}

impl Classify for ConsumerError {
    fn class(&self) -> Class {
        match self {
            Self::Fenced => Class::Conflict,
            Self::Unavailable { .. } => Class::Unknown,
        }
    }
}
