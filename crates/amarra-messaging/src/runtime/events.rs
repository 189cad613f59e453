//! What the consumer runtime tells an observer, and counters for those who only count.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use amarra_core::Class;

use crate::consumer::{ConsumerError, TopicPartition};
use crate::message::Offset;

/// Something that happened in a runtime.
#[derive(Debug)]
#[non_exhaustive]
pub enum RuntimeEvent<'a> {
    /// Partitions became this member's.
    Assigned(&'a [TopicPartition]),
    /// Partitions no longer are.
    Revoked(&'a [TopicPartition]),
    /// A batch was applied.
    Applied {
        /// Of which partition.
        partition: &'a TopicPartition,
        /// How many rows it had.
        rows: usize,
    },
    /// A batch, or parking a message, failed; it will be tried again or isolated.
    Failed {
        /// In which partition.
        partition: &'a TopicPartition,
        /// The error's class.
        class: Class,
        /// What happened.
        why: &'a str,
    },
    /// A message was parked with its key.
    Parked {
        /// In which partition.
        partition: &'a TopicPartition,
        /// At which offset.
        offset: Offset,
    },
    /// Offsets were committed.
    Committed(&'a [(TopicPartition, Offset)]),
    /// A poll or commit failed.
    Consumer(&'a ConsumerError),
}

/// Watches a runtime; called on its task, so it must not block.
pub trait RuntimeObserver: Send + Sync + fmt::Debug {
    /// Takes note of an event.
    fn observe(&self, event: &RuntimeEvent<'_>);
}

/// Counts what a runtime did since it started.
#[derive(Debug, Default)]
pub struct RuntimeStats {
    /// Rows applied, skipped as duplicates or parked behind their key.
    pub applied: AtomicU64,
    /// Batches that failed.
    pub failed: AtomicU64,
    /// Messages parked as poison.
    pub parked: AtomicU64,
    /// Commits.
    pub commits: AtomicU64,
    /// Polls and commits refused for an old generation.
    pub fenced: AtomicU64,
}

impl RuntimeObserver for RuntimeStats {
    fn observe(&self, event: &RuntimeEvent<'_>) {
        let (counter, n) = match event {
            RuntimeEvent::Applied { rows, .. } => (&self.applied, *rows),
            RuntimeEvent::Failed { .. } => (&self.failed, 1),
            RuntimeEvent::Parked { .. } => (&self.parked, 1),
            RuntimeEvent::Committed(_) => (&self.commits, 1),
            RuntimeEvent::Consumer(ConsumerError::Fenced) => (&self.fenced, 1),
            RuntimeEvent::Assigned(_) | RuntimeEvent::Revoked(_) | RuntimeEvent::Consumer(_) => {
                return;
            }
        };
        counter.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
