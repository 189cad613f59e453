//! What the relay tells an observer, and counters for those who only count.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::engine::StopReason;
use crate::message::Shard;
use crate::outbox::{Lease, LogError, ParkedRow};
use crate::transport::PublishError;

/// Something that happened in a relay.
#[derive(Debug)]
#[non_exhaustive]
pub enum RelayEvent<'a> {
    /// A shard is now relayed here.
    Started(&'a Lease),
    /// A shard no longer is.
    Stopped(&'a Lease, &'a StopReason),
    /// Rows were read.
    Read {
        /// Of which shard.
        shard: Shard,
        /// How many.
        rows: usize,
        /// The age of the oldest of them, by the publisher's clock against this process's.
        age: Duration,
    },
    /// Rows were acknowledged by the broker.
    Published {
        /// Of which shard.
        shard: Shard,
        /// How many.
        rows: usize,
    },
    /// Rows were parked, the first because the broker refused it or its key was parked before.
    Parked(&'a [ParkedRow]),
    /// A call to the broker failed.
    Publish(Shard, &'a PublishError),
    /// A call to the outbox failed, of one shard or of the leases.
    Log(Option<Shard>, &'a LogError),
}

/// Watches a relay; called on its task, so it must not block.
pub trait RelayObserver: Send + Sync + fmt::Debug {
    /// Takes note of an event.
    fn observe(&self, event: &RelayEvent<'_>);
}

/// Counts what a relay did since it started.
#[derive(Debug, Default)]
pub struct RelayStats {
    /// Messages acknowledged by the broker, repeats included.
    pub published: AtomicU64,
    /// Messages parked.
    pub parked: AtomicU64,
    /// Shards lost to a newer owner.
    pub fenced: AtomicU64,
    /// Calls to the broker or the outbox that failed.
    pub failures: AtomicU64,
    /// The age of the oldest message last read, in microseconds.
    pub backlog_age_micros: AtomicU64,
}

impl RelayObserver for RelayStats {
    fn observe(&self, event: &RelayEvent<'_>) {
        let (counter, n) = match event {
            RelayEvent::Published { rows, .. } => (&self.published, *rows),
            RelayEvent::Parked(rows) => (&self.parked, rows.len()),
            RelayEvent::Stopped(_, StopReason::Fenced) => (&self.fenced, 1),
            RelayEvent::Publish(..) | RelayEvent::Log(..) => (&self.failures, 1),
            RelayEvent::Read { age, .. } => {
                let micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
                return self.backlog_age_micros.store(micros, Ordering::Relaxed);
            }
            RelayEvent::Started(_) | RelayEvent::Stopped(..) => return,
        };
        counter.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
