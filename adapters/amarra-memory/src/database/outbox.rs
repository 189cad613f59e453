//! The outbox table: rows by shard and transaction, read as the difference of two snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use amarra_core::{PartitionKey, Timestamp};
use amarra_messaging::message::{Epoch, Outgoing, Owner, Seq, Shard};
use amarra_messaging::murmur2::choose;
use amarra_messaging::outbox::{Cursor, Lease, LogError, ParkedRow, Row, Snapshot};
use amarra_messaging::{Topic, wire};

/// The outbox of a database. Committed rows never change and never go.
#[derive(Debug)]
pub(super) struct OutboxTable {
    next_seq: u64,
    shards: Vec<ShardRows>,
    parked: BTreeMap<Seq, ParkedEntry>,
}

#[derive(Debug, Default)]
struct ShardRows {
    /// By transaction id, so that a difference of snapshots touches only its own rows.
    by_xid: BTreeMap<u64, Vec<Appended>>,
    epoch: Epoch,
    owner: Option<Owner>,
    expires: Timestamp,
    cursor: Cursor,
}

/// A row as the relay reads it, and the message that inspection shows.
#[derive(Debug)]
struct Appended {
    row: Row,
    message: Outgoing,
}

#[derive(Debug)]
struct ParkedEntry {
    shard: Shard,
    row: ParkedRow,
    released: bool,
}

impl OutboxTable {
    pub(super) fn new(shards: u16) -> Self {
        let shards = (0..shards).map(|_| ShardRows::default()).collect();
        Self { next_seq: 1, shards, parked: BTreeMap::new() }
    }

    /// Draws the next sequence value; it is burnt when its transaction rolls back.
    pub(super) fn draw(&mut self) -> Seq {
        let seq = Seq(self.next_seq);
        self.next_seq = self.next_seq.saturating_add(1);
        seq
    }

    /// Skips sequence values, as a crash does.
    pub(super) fn skip(&mut self, gap: u64) {
        self.next_seq = self.next_seq.saturating_add(gap);
    }

    /// Adds a committed row.
    pub(super) fn append(&mut self, xid: u64, seq: Seq, message: &Outgoing) {
        let key = message.envelope.partition_key.as_str().as_bytes();
        let shards = u32::try_from(self.shards.len()).unwrap_or(u32::MAX).max(1);
        let shard = usize::try_from(choose(key, shards).unwrap_or(0));
        if let Some(rows) = shard.ok().and_then(|shard| self.shards.get_mut(shard)) {
            let topic = message.topic.clone();
            let record = wire::encode(&message.envelope, None);
            let row = Row { seq, topic, record, at: message.envelope.time };
            let appended = Appended { row, message: message.clone() };
            rows.by_xid.entry(xid).or_default().push(appended);
        }
    }

    /// Renews the leases of `owner`, then takes free ones, at most `limit` in all.
    ///
    /// A lease that ran out is taken anew even by its holder: somebody else may have acted since.
    pub(super) fn lease(
        &mut self,
        owner: &Owner,
        limit: usize,
        now: Timestamp,
        ttl: Duration,
    ) -> Vec<Lease> {
        let mut leases = Vec::new();
        for renewing in [true, false] {
            for (number, shard) in (0..=u16::MAX).zip(&mut self.shards) {
                let live = shard.owner.is_some() && shard.expires > now;
                let wanted =
                    if renewing { live && shard.owner.as_ref() == Some(owner) } else { !live };
                if !wanted || leases.len() >= limit {
                    continue;
                }
                if !renewing {
                    shard.epoch = shard.epoch.next();
                    shard.owner = Some(owner.clone());
                }
                shard.expires = now.plus(ttl);
                let shard_id = Shard(number);
                leases.push(Lease { shard: shard_id, epoch: shard.epoch, owner: owner.clone() });
            }
        }
        leases
    }

    /// Ends a lease, if it is still the newest.
    pub(super) fn give_back(&mut self, lease: &Lease) {
        if let Ok(shard) = self.fenced(lease) {
            shard.owner = None;
            shard.epoch = shard.epoch.next();
        }
    }

    /// Returns the shard's saved cursor and parked keys.
    pub(super) fn resume(
        &self,
        shard: Shard,
    ) -> Result<(Cursor, BTreeSet<PartitionKey>), LogError> {
        let rows = self.shards.get(usize::from(shard.0)).ok_or_else(|| unknown(shard))?;
        let parked = self.parked.values().filter(|p| p.shard == shard);
        let keys = parked.map(|p| p.row.record.partition_key()).collect();
        Ok((rows.cursor.clone(), keys))
    }

    /// Reads what `cur` sees and `cursor.prev` does not, after `cursor.last_seq`, ascending; tells
    /// whether nothing is left of it.
    pub(super) fn read(
        &self,
        shard: Shard,
        cursor: &Cursor,
        cur: &Snapshot,
        limit: usize,
    ) -> Result<(Vec<Row>, bool), LogError> {
        let rows = self.shards.get(usize::from(shard.0)).ok_or_else(|| unknown(shard))?;
        let prev = &cursor.prev;
        let late = prev.xip.iter().filter_map(|xid| rows.by_xid.get_key_value(xid));
        let fresh = rows.by_xid.range(prev.xmax..cur.xmax.max(prev.xmax));
        let mut found: Vec<&Row> = late
            .chain(fresh)
            .filter(|(xid, _)| cur.sees(**xid))
            .flat_map(|(_, rows)| rows)
            .map(|appended| &appended.row)
            .filter(|row| row.seq > cursor.last_seq)
            .collect();
        let last = found.len() <= limit;
        if !last {
            found.select_nth_unstable_by_key(limit, |row| row.seq);
            found.truncate(limit);
        }
        found.sort_unstable_by_key(|row| row.seq);
        Ok((found.into_iter().cloned().collect(), last))
    }

    /// Saves a cursor under a lease, unless it goes back.
    pub(super) fn checkpoint(&mut self, lease: &Lease, cursor: &Cursor) -> Result<(), LogError> {
        let shard = self.fenced(lease)?;
        if !cursor.follows(&shard.cursor) {
            let why = format!("position {} would go back behind {}", cursor.pos, shard.cursor.pos);
            return Err(LogError::Corrupt { what: "cursor".to_owned(), why });
        }
        shard.cursor = cursor.clone();
        Ok(())
    }

    /// Sets rows aside under a lease; rows set aside before stay as they are, and rows that were
    /// released take the release of their keys back.
    pub(super) fn park(&mut self, lease: &Lease, rows: &[ParkedRow]) -> Result<(), LogError> {
        self.fenced(lease)?;
        let mut again = Vec::new();
        for row in rows {
            if let Some(entry) = self.parked.get_mut(&row.seq).filter(|entry| entry.released) {
                entry.row.reason = row.reason.clone();
                again.push((row.topic.clone(), row.record.partition_key()));
            }
        }
        for (topic, key) in again {
            self.set_released(&topic, &key, false);
        }
        for row in rows {
            let entry = || ParkedEntry { shard: lease.shard, row: row.clone(), released: false };
            self.parked.entry(row.seq).or_insert_with(entry);
        }
        Ok(())
    }

    /// Lists released rows of a shard.
    pub(super) fn released(&self, shard: Shard, limit: usize) -> Vec<ParkedRow> {
        let released = self.parked.values().filter(|p| p.released && p.shard == shard);
        released.take(limit).map(|p| p.row.clone()).collect()
    }

    /// Removes rows under a lease.
    pub(super) fn settle(&mut self, lease: &Lease, rows: &[ParkedRow]) -> Result<(), LogError> {
        self.fenced(lease)?;
        for row in rows {
            self.parked.remove(&row.seq);
        }
        Ok(())
    }

    /// Lists parked rows after `after`.
    pub(super) fn parked(&self, after: Seq, limit: usize) -> Vec<ParkedRow> {
        self.parked.range(after.next()..).take(limit).map(|(_, p)| p.row.clone()).collect()
    }

    /// Releases the rows of a key that are parked now.
    pub(super) fn release(&mut self, topic: &Topic, key: &PartitionKey) {
        self.set_released(topic, key, true);
    }

    fn set_released(&mut self, topic: &Topic, key: &PartitionKey, released: bool) {
        let of_key = |row: &ParkedRow| row.topic == *topic && row.record.partition_key() == *key;
        for entry in self.parked.values_mut().filter(|p| of_key(&p.row)) {
            entry.released = released;
        }
    }

    fn fenced(&mut self, lease: &Lease) -> Result<&mut ShardRows, LogError> {
        let shard =
            self.shards.get_mut(usize::from(lease.shard.0)).ok_or_else(|| unknown(lease.shard))?;
        if shard.epoch == lease.epoch {
            Ok(shard)
        } else {
            Err(LogError::Fenced { shard: lease.shard, epoch: lease.epoch })
        }
    }

    /// Lists committed rows, by shard and transaction id.
    pub(super) fn iter(&self) -> impl Iterator<Item = OutboxRow<'_>> {
        (0..=u16::MAX).zip(&self.shards).flat_map(move |(number, rows)| {
            rows.by_xid.iter().flat_map(move |(&xid, of_xid)| {
                of_xid.iter().map(move |Appended { row, message }| OutboxRow {
                    shard: Shard(number),
                    xid,
                    seq: row.seq,
                    message,
                    acknowledged: rows.cursor.prev.sees(xid)
                        || (row.seq <= rows.cursor.last_seq
                            && rows.cursor.cur.as_ref().is_some_and(|cur| cur.sees(xid))),
                    parked: self.parked.contains_key(&row.seq),
                })
            })
        })
    }

    /// Lists the shards with their leases and cursors.
    pub(super) fn shards(&self) -> impl Iterator<Item = ShardRow<'_>> {
        (0..=u16::MAX).zip(&self.shards).map(|(number, rows)| ShardRow {
            shard: Shard(number),
            epoch: rows.epoch,
            owner: rows.owner.as_ref(),
            expires: rows.expires,
            cursor: &rows.cursor,
        })
    }
}

/// One committed outbox row, for inspection.
#[derive(Debug, Clone, Copy)]
pub struct OutboxRow<'a> {
    /// Its shard.
    pub shard: Shard,
    /// The transaction that inserted it.
    pub xid: u64,
    /// Its sequence value.
    pub seq: Seq,
    /// Its message.
    pub message: &'a Outgoing,
    /// Whether the saved cursor has passed it: the broker acknowledged it, or it was parked.
    pub acknowledged: bool,
    /// Whether it is parked.
    pub parked: bool,
}

/// One shard of the outbox, for inspection.
#[derive(Debug, Clone, Copy)]
pub struct ShardRow<'a> {
    /// The shard.
    pub shard: Shard,
    /// The newest epoch given out.
    pub epoch: Epoch,
    /// Who holds the lease, if it has not run out.
    pub owner: Option<&'a Owner>,
    /// When the lease runs out, by the database's clock.
    pub expires: Timestamp,
    /// The saved cursor.
    pub cursor: &'a Cursor,
}

fn unknown(shard: Shard) -> LogError {
    LogError::Corrupt { what: "lease".to_owned(), why: format!("there is no shard {shard}") }
}
