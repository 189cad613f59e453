//! Topics, groups, offsets, and a message on its way out and in.

use std::fmt;
use std::sync::Arc;

use amarra_core::{Envelope, PartitionKey};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::headers::Headers;

amarra_core::text_ids! {
    /// A stream of messages, split in partitions.
    Topic,
    /// The members that share the work of a topic; each message is applied once per group.
    Group,
    /// One process, as leases and group membership know it.
    Owner,
}

macro_rules! counts {
    ($($(#[$meta:meta])* $name:ident($int:ty)),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default,
            Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl $name {
            /// Returns the number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )+};
}

counts! {
    /// A partition of a topic, from 0.
    Partition(u32),
    /// A place in a partition, from 0; a committed offset is the next one to read.
    Offset(u64),
    /// A shard of an outbox, from 0: one relay owns it at a time.
    Shard(u16),
    /// Grows each time a lease changes hands; an older one is fenced.
    Epoch(u64),
    /// Drawn from a sequence at insert, before the commit: gaps and late commits are normal.
    Seq(u64),
    /// The dense number of a message within its outbox shard; a re-publish carries the same.
    Pos(u64),
}

/// A message to be published by the transaction that appends it to the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Where it goes.
    pub topic: Topic,
    /// What it says.
    pub envelope: Envelope,
}

/// Where in which outbox a message came from: equal on every re-publish of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The outbox, unique per database and restored copy of it.
    pub source: Arc<str>,
    /// The shard within it.
    pub shard: Shard,
    /// The dense number within the shard.
    pub pos: Pos,
}

/// What a broker stores: bytes it does not understand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Chooses the partition.
    pub key: Bytes,
    /// Names and values.
    pub headers: Headers,
    /// The payload.
    pub value: Bytes,
}

/// A record as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// From which topic.
    pub topic: Topic,
    /// From which partition.
    pub partition: Partition,
    /// At which place.
    pub offset: Offset,
    /// The record.
    pub record: Record,
}

impl Record {
    /// Returns the key as text; bytes that are not UTF-8 are replaced, which still keeps equal keys
    /// equal.
    #[must_use]
    pub fn partition_key(&self) -> PartitionKey {
        PartitionKey::new(String::from_utf8_lossy(&self.key).as_ref())
    }

    /// Counts the bytes of key, headers and value: what a bound in bytes counts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let parts = [self.key.len(), self.headers.as_bytes().len(), self.value.len()];
        parts.into_iter().fold(0, usize::saturating_add)
    }
}

impl Delivery {
    /// Returns [`Record::partition_key`].
    #[must_use]
    pub fn key(&self) -> PartitionKey {
        self.record.partition_key()
    }
}

/// A delivery that decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// From which topic.
    pub topic: Topic,
    /// From which partition.
    pub partition: Partition,
    /// At which place.
    pub offset: Offset,
    /// The message.
    pub envelope: Envelope,
    /// Where it came from, none for a foreign producer.
    pub position: Option<Position>,
    /// Whether its numbers are those of its neighbours.
    pub turn: Turn,
}

/// How a message comes, next to those around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Turn {
    /// As it was published: positions and offsets ascend, but for what is delivered again.
    #[default]
    InOrder,
    /// Late, out of the outbox's parked set: its position is old, its offset is not.
    Released,
    /// Late, out of the group's parking lot: its position and its offset are old.
    Replayed,
}
