//! The observer hook: told what became true at the moment it did.

use std::fmt;
use std::sync::Arc;

use amarra_core::{AggregateId, EventId, Timestamp, Version};
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::{Delivery, Seq, Shard};
use amarra_messaging::{Group, Offset, Outgoing, Parked, Partition, Position, Record, Topic};
use amarra_store::read_model::ViewWrite;
use amarra_store::{AuditRow, IdempotencyKey, StoredResponse};
use bytes::Bytes;

use crate::client::ClientId;

/// Watches both servers; every method does nothing by default.
///
/// Called synchronously, in the order in which things became true, by the task that made them so
/// and outside of the server's lock: an observer may inspect any server.
pub trait Observer: Send + Sync + fmt::Debug {
    /// A transaction that wrote something became visible.
    fn committed(&self, tx: &CommittedTx) {
        let _ = tx;
    }

    /// Units waited for each other in a circle, and this one's was rolled back to open it: services
    /// that lock in one order never see it, and on a real server each costs a second.
    fn deadlocked(&self, unit: &Deadlocked<'_>) {
        let _ = unit;
    }

    /// A record became readable.
    fn published(&self, published: &Published) {
        let _ = published;
    }

    /// Records were handed to a group member.
    fn delivered(&self, delivered: &Delivered<'_>) {
        let _ = delivered;
    }

    /// A member's offset commit was applied.
    fn offsets_committed(&self, commit: &OffsetsCommitted) {
        let _ = commit;
    }

    /// A generation of a group began.
    fn rebalanced(&self, rebalanced: &Rebalanced) {
        let _ = rebalanced;
    }
}

/// A committed transaction with all it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedTx {
    /// The database's name.
    pub database: Arc<str>,
    /// Whose unit it was.
    pub client: ClientId,
    /// Its transaction id: ids are drawn at the first write, so commits are not in their order.
    pub xid: u64,
    /// The transaction's time, by the database's clock.
    pub now: Timestamp,
    /// Every save, in call order: the aggregate, its version after it, its state.
    pub saved: Vec<(AggregateId, Version, Bytes)>,
    /// What was appended to the outbox.
    pub messages: Vec<(Seq, Outgoing)>,
    /// What was admitted.
    pub admitted: Vec<Admitted>,
    /// What was set aside.
    pub parked: Vec<(Group, Parked)>,
    /// What was taken out of the parking lot, by ticket.
    pub unparked: Vec<(Group, u64)>,
    /// The audit rows, chained.
    pub audited: Vec<AuditRow>,
    /// The view rows written, the last write of each.
    pub views: Vec<ViewWrite>,
    /// The timers set, with the time they are due, or removed.
    pub scheduled: Vec<(AggregateId, Option<Timestamp>)>,
    /// The responses recorded for idempotency keys.
    pub responses: Vec<(IdempotencyKey, StoredResponse)>,
}

/// A unit that was the victim of a deadlock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlocked<'a> {
    /// The database's name.
    pub database: &'a Arc<str>,
    /// Whose unit it was.
    pub client: &'a ClientId,
    /// What it asked for, in words.
    pub wanted: &'a str,
}

/// One message that a group admitted, with a row of its own or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The group that applied the message.
    pub group: Group,
    /// The message.
    pub event: EventId,
    /// From which topic.
    pub topic: Topic,
    /// From which partition.
    pub partition: Partition,
    /// At which place.
    pub offset: Offset,
    /// Where in which outbox it came from.
    pub position: Option<Position>,
}

/// A record that became readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The outbox it came from.
    pub source: Arc<str>,
    /// The shard of it.
    pub shard: Shard,
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: Partition,
    /// Its place.
    pub offset: Offset,
    /// The record.
    pub record: Record,
}

/// Records that a poll handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered<'a> {
    /// The group.
    pub group: &'a Group,
    /// The member's process.
    pub client: &'a ClientId,
    /// The group's generation.
    pub generation: u64,
    /// The records, ascending by offset within each partition.
    pub deliveries: &'a [Delivery],
}

/// An offset commit that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetsCommitted {
    /// The group.
    pub group: Group,
    /// The member's process.
    pub client: ClientId,
    /// The group's generation.
    pub generation: u64,
    /// The next offsets to read.
    pub offsets: Vec<(TopicPartition, Offset)>,
}

/// The start of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebalanced {
    /// The group.
    pub group: Group,
    /// The generation.
    pub generation: u64,
    /// What each member's process was assigned.
    pub assignment: Vec<(ClientId, Vec<TopicPartition>)>,
}
