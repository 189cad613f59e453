//! Reads an outbox as the relay does: leases, chunks, and a cursor saved before anything is used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Envelope, EventId};
use amarra_messaging::message::{Pos, Seq};
use amarra_messaging::outbox::{Chunk, Cursor, LogError, Row};
use amarra_messaging::{OutboxLog, wire};

use crate::backend::StoreBackend;
use crate::check::{Must, owner};

pub(crate) use amarra_messaging::outbox::Lease;

/// A lease that outlives every law.
const LONG: Duration = Duration::from_secs(24 * 3600);
/// More shards than any outbox has.
const SHARDS_MAX: usize = 4096;

/// A relay that owns every shard and publishes nowhere.
pub(crate) struct Reader {
    log: Arc<dyn OutboxLog>,
    shards: Vec<(Lease, Cursor)>,
    limit: usize,
}

impl Reader {
    /// Takes every shard and resumes it, reading at most `limit` rows a chunk.
    pub(crate) async fn open(b: &impl StoreBackend, name: &str, limit: usize) -> Self {
        let log = b.outbox_log();
        let mut shards = Vec::new();
        for lease in all_shards(log.as_ref(), name, LONG).await {
            let resumed = log.resume(&lease).await.must("resume");
            shards.push((lease, resumed.cursor));
        }
        assert!(!shards.is_empty(), "no shard was free to lease");
        Self { log, shards, limit }
    }

    /// Returns one batch of every shard.
    pub(crate) async fn drain(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (lease, cursor) in &mut self.shards {
            loop {
                let chunk = read(self.log.as_ref(), lease, cursor, self.limit).await;
                let last = chunk.last;
                rows.extend(chunk.rows);
                if last {
                    break;
                }
            }
        }
        rows
    }

    /// Gives every lease back.
    pub(crate) async fn close(self) {
        let leases: Vec<_> = self.shards.into_iter().map(|(lease, _)| lease).collect();
        self.log.give_back(&leases).await.must("give back");
    }
}

/// Leases every shard that is free.
pub(crate) async fn all_shards(log: &dyn OutboxLog, name: &str, ttl: Duration) -> Vec<Lease> {
    log.lease(&owner(name), SHARDS_MAX, ttl).await.must("lease")
}

/// Reads a chunk, checks what every chunk must be, and moves the cursor as the relay does.
pub(crate) async fn read(
    log: &dyn OutboxLog,
    lease: &Lease,
    cursor: &mut Cursor,
    limit: usize,
) -> Chunk {
    let (chunk, saved) = log.open_chunk(lease, cursor, limit).await.must("open_chunk");
    enter(cursor, &chunk, limit);
    if !saved {
        log.checkpoint(lease, cursor).await.must("checkpoint before publishing");
    }
    leave(cursor, &chunk);
    log.checkpoint(lease, cursor).await.must("checkpoint after publishing");
    chunk
}

/// Checks what every chunk must be, and moves the cursor to where it is saved before publishing.
#[track_caller]
pub(crate) fn enter(cursor: &mut Cursor, chunk: &Chunk, limit: usize) {
    assert!(chunk.rows.len() <= limit, "{} rows for a limit of {limit}", chunk.rows.len());
    assert!(chunk.last || !chunk.rows.is_empty(), "an empty chunk must end its batch");
    if let Some(cur) = &cursor.cur {
        assert_eq!(cur, &chunk.cur, "an open batch was closed by another snapshot");
    }
    cursor.cur = Some(chunk.cur.clone());
}

/// Moves the cursor behind a chunk, whose rows must ascend.
#[track_caller]
pub(crate) fn leave(cursor: &mut Cursor, chunk: &Chunk) {
    for row in &chunk.rows {
        assert!(row.seq > cursor.last_seq, "{:?} after {:?}", row.seq, cursor.last_seq);
        cursor.last_seq = row.seq;
        cursor.pos = cursor.pos.next();
    }
    if chunk.last {
        cursor.prev = chunk.cur.clone();
        cursor.cur = None;
        cursor.last_seq = Seq::default();
    }
}

/// Finds the shard and first chunk in which rows wait, for laws that look at one shard.
pub(crate) async fn busy_shard(b: &impl StoreBackend, name: &str, ttl: Duration) -> Lease {
    let log = b.outbox_log();
    for lease in all_shards(log.as_ref(), name, ttl).await {
        let resumed = log.resume(&lease).await.must("resume");
        let chunk = log.next_chunk(&lease, &resumed.cursor, 1).await.must("next_chunk");
        if !chunk.rows.is_empty() {
            return lease;
        }
    }
    None.must("no shard has rows")
}

/// Asserts that `rows` hold the events of `expect`, each exactly once.
#[track_caller]
pub(crate) fn assert_once(rows: &[Row], expect: impl IntoIterator<Item = EventId>) {
    let mut counts: BTreeMap<EventId, (u32, u32)> = BTreeMap::new();
    for row in rows {
        counts.entry(event(row)).or_default().0 += 1;
    }
    for id in expect {
        counts.entry(id).or_default().1 += 1;
    }
    for (id, (got, expected)) in counts {
        assert_eq!(got, expected, "event {id} was returned {got} times instead of {expected}");
    }
}

/// Asserts that the versions of each key ascend without a gap from 1.
#[track_caller]
pub(crate) fn assert_commit_order(rows: &[Row]) {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for row in rows {
        let envelope = &envelope(row);
        let last = seen.entry(envelope.partition_key.to_string()).or_default();
        let version = envelope.subject_version.get();
        let key = &envelope.partition_key;
        assert_eq!(version, *last + 1, "key {key}: version {version} follows version {last}");
        *last = version;
    }
}

/// Decodes the envelope of a row.
#[track_caller]
pub(crate) fn envelope(row: &Row) -> Envelope {
    wire::envelope(&row.record).must("a row is not the record that was appended")
}

/// Returns the event of a row.
#[track_caller]
pub(crate) fn event(row: &Row) -> EventId {
    envelope(row).id
}

/// Returns the events of rows, in order.
pub(crate) fn ids(rows: &[Row]) -> Vec<EventId> {
    rows.iter().map(event).collect()
}

/// Returns a cursor that stands behind `rows` of an open batch.
pub(crate) fn behind(chunk: &Chunk, rows: usize) -> Cursor {
    let last = rows.checked_sub(1).and_then(|i| chunk.rows.get(i));
    Cursor {
        prev: Default::default(),
        cur: Some(chunk.cur.clone()),
        last_seq: last.map(|row| row.seq).unwrap_or_default(),
        pos: Pos(rows as u64),
    }
}

/// Asserts that an answer says that the shard has a newer owner.
#[track_caller]
pub(crate) fn assert_fenced<T: std::fmt::Debug>(answer: Result<T, LogError>, what: &str) {
    assert!(
        matches!(answer, Err(LogError::Fenced { .. })),
        "{what} of a superseded epoch answered {answer:?}"
    );
}
