//! The outbox ports: `Outbox` appends in the business transaction, `OutboxLog` serves the relay.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Class, Classify, PartitionKey, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::TxError;
use crate::message::{Epoch, Outgoing, Owner, Pos, Record, Seq, Shard, Topic};

/// Appends messages to the outbox inside the caller's transaction.
///
/// # Laws
/// - OBX-1 a message becomes visible to the relay if and only if its transaction commits.
/// - OBX-2 a sequence value is drawn when its message is appended or later, but before the commit,
///   and in append order within one transaction.
/// - OBX-3 two messages of one key appended by transactions that lock the same aggregate first have
///   sequence values in commit order. Append after the lock, never before it.
/// - OBX-4 a message larger than the bound is refused with [`TxError::TooLarge`] and nothing of
///   the call is appended.
#[async_trait]
pub trait Outbox: Send {
    /// Appends messages, in order.
    ///
    /// # Errors
    /// Any [`TxError`]; the transaction must then be rolled back.
    async fn enqueue(&mut self, messages: &[Outgoing]) -> Result<(), TxError>;
}

/// What a transaction could see: Postgres's `pg_snapshot`.
///
/// A transaction id is visible when it is below `xmax` and not among those in progress.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Every id below it had ended.
    pub xmin: u64,
    /// No id from it on had started.
    pub xmax: u64,
    /// The ids between the two that were in progress, ascending.
    pub xip: Vec<u64>,
}

impl Snapshot {
    /// Tells whether the effects of a committed transaction `xid` are visible here.
    #[must_use]
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.xip.binary_search(&xid).is_err())
    }
}

/// How far the relay of one shard has come.
///
/// The content of a batch is everything visible in `cur` and not in `prev`, ordered by sequence.
/// Both are saved before anything of the batch is published, so a re-publish finds the same rows at
/// the same positions.
///
/// # Source
/// Skytools PgQ, `pgq.batch_event_sql`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// Everything visible here has been acknowledged by the broker.
    pub prev: Snapshot,
    /// The snapshot that closes the open batch, none between batches.
    pub cur: Option<Snapshot>,
    /// The last acknowledged sequence value of the open batch.
    pub last_seq: Seq,
    /// The last position handed out to an acknowledged message.
    pub pos: Pos,
}

impl Cursor {
    /// Tells whether this cursor may be saved over `saved`: it is ahead of it, at the same place
    /// with the batch that is open there, or with that batch closed.
    ///
    /// # Example
    /// ```
    /// use amarra_messaging::message::Pos;
    /// use amarra_messaging::outbox::{Cursor, Snapshot};
    ///
    /// let start = Cursor::default();
    /// let open = Cursor { cur: Some(Snapshot::default()), ..start.clone() };
    /// let ahead = Cursor { pos: Pos(3), ..open.clone() };
    /// assert!(open.follows(&start) && ahead.follows(&open) && ahead.follows(&ahead));
    /// assert!(!start.follows(&ahead) && !open.follows(&ahead));
    /// ```
    #[must_use]
    pub fn follows(&self, saved: &Self) -> bool {
        if self.pos != saved.pos {
            return self.pos > saved.pos;
        }
        let closed = self.cur.is_none() && saved.cur.as_ref() == Some(&self.prev);
        saved.cur.is_none() || self.cur == saved.cur || closed || self == saved
    }
}

/// The right to relay one shard until the lease ends or a newer epoch begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The shard.
    pub shard: Shard,
    /// The fencing epoch, higher than that of every earlier holder.
    pub epoch: Epoch,
    /// Who holds it.
    pub owner: Owner,
}

/// One outbox row as the relay reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its sequence value.
    pub seq: Seq,
    /// Where it goes.
    pub topic: Topic,
    /// The message as the broker will store it, but for its position: see
    /// [`wire::encode`](crate::wire::encode).
    pub record: Record,
    /// When it was appended.
    pub at: Timestamp,
}

/// What the next read of a shard found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The snapshot that closes the batch: the cursor's own when it had one, else a new one.
    pub cur: Snapshot,
    /// The rows after the cursor, ascending by sequence, at most as many as asked for.
    pub rows: Vec<Row>,
    /// Whether the batch ends with these rows.
    pub last: bool,
}

/// Where a relay goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resumed {
    /// The saved cursor.
    pub cursor: Cursor,
    /// The keys whose messages are parked: later ones queue behind them.
    pub parked: BTreeSet<PartitionKey>,
}

/// A message the broker refused, or one queued behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedRow {
    /// Its sequence value.
    pub seq: Seq,
    /// Its position, which it keeps when it is published later.
    pub pos: Pos,
    /// Where it goes.
    pub topic: Topic,
    /// The message, without its position.
    pub record: Record,
    /// Why, in words for an operator.
    pub reason: Arc<str>,
}

/// What waits in one shard, as an operator wants to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// The shard.
    pub shard: Shard,
    /// The newest epoch of its lease.
    pub epoch: Epoch,
    /// Who relays it now, none when nobody does.
    pub owner: Option<Owner>,
    /// How many committed messages are not acknowledged. Adapters may stop counting at a bound.
    pub waiting: u64,
    /// How old the oldest of them is, by the database's clock.
    pub oldest: Option<Duration>,
}

/// The relay's side of an outbox. Nothing here changes a message row.
///
/// # Laws
/// - OBL-1 at most one owner holds a shard's lease at an epoch; a lease taken over has a higher
///   one, and a lease given back is superseded at once. Expiry is decided by the database's clock.
/// - OBL-2 `next_chunk` returns what is visible in the batch's closing snapshot and not in
///   `cursor.prev`, with `seq > cursor.last_seq`, ascending: the same call gives the same rows for
///   ever once `cursor.cur` is set.
/// - OBL-3 over any sequence of batches every committed row is returned exactly once, however late
///   its transaction committed, and rows of one key in commit order.
/// - OBL-4 a transaction in progress delays its own rows only.
/// - OBL-5 `checkpoint`, `park` and `settle` of a superseded epoch answer [`LogError::Fenced`]
///   and change nothing.
/// - OBL-6 `resume` returns the cursor last saved by any epoch, and every key parked.
/// - OBL-7 a saved cursor never goes back to an earlier position: a `checkpoint` of one that [does
///   not follow](Cursor::follows) it is refused and changes nothing, since a call that was given up
///   may still arrive, late.
/// - OBL-8 an adapter whose `changed` tells of an append tells of every later one.
/// - OBL-9 `open_chunk` answers what `next_chunk` does. Where it says that the cursor which opens
///   the batch is saved, it is, as by `checkpoint`: only by the newest epoch, and never back.
#[async_trait]
pub trait OutboxLog: Send + Sync + fmt::Debug {
    /// Names this outbox for [`Position::source`](crate::message::Position::source).
    fn source(&self) -> Arc<str>;

    /// Takes or renews leases on up to `limit` shards for `ttl`, renewing those held first.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]; nothing was taken, or it will expire.
    async fn lease(
        &self,
        owner: &Owner,
        limit: usize,
        ttl: Duration,
    ) -> Result<Vec<Lease>, LogError>;

    /// Returns how long until the first lease of another owner ends, by the database's clock; none
    /// when there is no such lease or the adapter cannot tell. A relay that waits for its turn asks
    /// then, and not at its own next renewal.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]; leases are then asked for at the next renewal.
    async fn until_free(&self, owner: &Owner) -> Result<Option<Duration>, LogError> {
        let _ = owner;
        Ok(None)
    }

    /// Gives leases back early, so that a successor need not wait; unknown ones are ignored.
    ///
    /// # Errors
    /// [`LogError::Unavailable`]; they will expire.
    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError>;

    /// Returns the saved cursor and parked keys of a shard.
    ///
    /// # Errors
    /// [`LogError`].
    async fn resume(&self, lease: &Lease) -> Result<Resumed, LogError>;

    /// Reads on from `cursor`, at most `limit` rows.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    async fn next_chunk(
        &self,
        lease: &Lease,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<Chunk, LogError>;

    /// Reads on as [`next_chunk`](Self::next_chunk) does. When that opens a batch which has rows,
    /// an adapter may save the cursor that opens it in the same transaction: it then answers true,
    /// and that cursor, `cursor` with the chunk's `cur`, need not be checkpointed.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] when the cursor may or may not have been saved, which is harmless:
    /// it determines a batch of which nothing was published.
    async fn open_chunk(
        &self,
        lease: &Lease,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<(Chunk, bool), LogError> {
        Ok((self.next_chunk(lease, cursor, limit).await?, false))
    }

    /// Saves the cursor, durably before it returns.
    ///
    /// # Errors
    /// [`LogError::Fenced`] for an old epoch; [`LogError::Corrupt`] for a cursor that goes back;
    /// [`LogError::Unavailable`] when it may or may not have been saved, which is harmless: saving
    /// again is idempotent.
    async fn checkpoint(&self, lease: &Lease, cursor: &Cursor) -> Result<(), LogError>;

    /// Sets rows aside, in order, and parks their keys. Rows parked before are ignored, unless they
    /// were released: the broker refused them again, so the release of their keys is taken back,
    /// and they get the new reason.
    ///
    /// # Errors
    /// [`LogError`].
    async fn park(&self, lease: &Lease, rows: &[ParkedRow]) -> Result<(), LogError>;

    /// Returns parked rows that an operator released, ascending by sequence, at most `limit`.
    ///
    /// # Errors
    /// [`LogError`].
    async fn released(&self, lease: &Lease, limit: usize) -> Result<Vec<ParkedRow>, LogError>;

    /// Removes released rows once they are published; a key without rows is no longer parked.
    ///
    /// # Errors
    /// [`LogError`].
    async fn settle(&self, lease: &Lease, rows: &[ParkedRow]) -> Result<(), LogError>;

    /// Lists parked rows for an operator, ascending by sequence, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`LogError`].
    async fn parked(&self, after: Seq, limit: usize) -> Result<Vec<ParkedRow>, LogError>;

    /// Releases every parked row of a key for publishing.
    ///
    /// # Errors
    /// [`LogError`].
    async fn release(&self, topic: &Topic, key: &PartitionKey) -> Result<(), LogError>;

    /// Says what waits in each shard, for operators and metrics: a look from outside, at no moment
    /// in particular. An adapter that cannot tell says nothing.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    async fn backlog(&self) -> Result<Vec<Backlog>, LogError> {
        Ok(Vec::new())
    }

    /// Returns once rows may have been committed since the last call, or never when the adapter
    /// cannot tell: the relay polls besides.
    async fn changed(&self);

    /// Tells, once [`changed`](Self::changed) returned, whether rows of this shard may be among
    /// those committed since it was last asked; true when the adapter cannot tell.
    fn concerns(&self, shard: Shard) -> bool {
        let _ = shard;
        true
    }
}

/// Why the relay's side of an outbox failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A newer epoch owns the shard. Class `Conflict`: drop the lease and everything under it.
    #[error("fenced: shard {shard} has a newer owner than epoch {epoch}")]
    Fenced {
        /// The shard.
        shard: Shard,
        /// The epoch that was superseded.
        epoch: Epoch,
    },
    /// The database did not answer. Class `Transient`: every call here is safe to repeat.
    #[error("outbox database unavailable: {why}")]
    Unavailable {
        /// What the driver said.
        why: String,
    },
    /// A stored row or cursor does not decode. Class `Fatal`: stop and report.
    #[error("stored {what} is corrupt: {why}")]
    Corrupt {
        /// What was read.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Classify for LogError {
    fn class(&self) -> Class {
        match self {
            Self::Fenced { .. } => Class::Conflict,
            Self::Unavailable { .. } => Class::Transient,
            Self::Corrupt { .. } => Class::Fatal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_what_had_ended() {
        let snapshot = Snapshot { xmin: 5, xmax: 9, xip: vec![5, 7] };
        let seen: Vec<_> = (3..11).filter(|&xid| snapshot.sees(xid)).collect();
        assert_eq!(seen, [3, 4, 6, 8]);
    }
}
