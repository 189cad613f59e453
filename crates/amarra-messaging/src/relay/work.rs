//! The rows a relay has in hand: a chunk of the outbox, or parked rows that were released.

use std::collections::BTreeSet;
use std::sync::Arc;

use amarra_core::PartitionKey;

use crate::headers::Headers;
use crate::message::{Pos, Record, Seq, Shard};
use crate::outbox::{Chunk, ParkedRow, Snapshot};
use crate::transport::Publish;
use crate::wire;

const BEHIND: &str = "queued behind a parked message";

/// Rows on their way to the broker.
///
/// Invariant: `records` are the encoded `rows`, index by index; the first `acked` are stored.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) origin: Origin,
    rows: Vec<ParkedRow>,
    records: Arc<[Publish]>,
    acked: usize,
    /// Rows acknowledged before `rows` were cut down.
    stored: Vec<ParkedRow>,
    /// Rows to be parked before anything else is published.
    pub(super) to_park: Vec<ParkedRow>,
}

/// Where rows came from.
#[derive(Debug)]
pub(super) enum Origin {
    /// The outbox.
    Chunk {
        /// The snapshot that closes their batch.
        cur: Snapshot,
        /// Where the cursor stands once they are done.
        end: (Seq, Pos),
        /// Whether they are the last of their batch.
        last: bool,
        /// Whether the cursor that determines them is durable.
        saved: bool,
    },
    /// The parked rows, released by an operator.
    Released,
}

/// Names an outbox shard in the positions of its messages.
pub(super) type Source<'a> = (&'a Arc<str>, Shard);

impl Work {
    /// Numbers the rows of a chunk densely from `pos` on and sets those of parked keys aside.
    pub(super) fn of_chunk(
        chunk: Chunk,
        pos: Pos,
        parked: &BTreeSet<PartitionKey>,
        source: Source<'_>,
    ) -> Self {
        let (mut seq, mut pos) = (Seq::default(), pos);
        let behind: Arc<str> = BEHIND.into();
        let (mut rows, mut to_park) = (Vec::with_capacity(chunk.rows.len()), Vec::new());
        for row in chunk.rows {
            (seq, pos) = (row.seq, pos.next());
            let aside = !parked.is_empty() && parked.contains(&row.record.partition_key());
            let reason = Arc::clone(&behind);
            let row = ParkedRow { seq, pos, topic: row.topic, record: row.record, reason };
            if aside { to_park.push(row) } else { rows.push(row) }
        }
        let origin =
            Origin::Chunk { cur: chunk.cur, end: (seq, pos), last: chunk.last, saved: false };
        Self { to_park, ..Self::new(origin, rows, source) }
    }

    /// Takes released rows, which keep their positions.
    pub(super) fn of_released(rows: Vec<ParkedRow>, source: Source<'_>) -> Self {
        Self::new(Origin::Released, rows, source)
    }

    fn new(origin: Origin, rows: Vec<ParkedRow>, source: Source<'_>) -> Self {
        let records = encode(&origin, &rows, source);
        Self { origin, rows, records, acked: 0, stored: Vec::new(), to_park: Vec::new() }
    }

    /// Returns the records to publish and the index to publish from, none when all are stored.
    pub(super) fn to_publish(&self) -> Option<(Arc<[Publish]>, usize)> {
        (self.acked < self.records.len()).then(|| (Arc::clone(&self.records), self.acked))
    }

    /// Takes note that `n` more records are stored; returns how many really were outstanding.
    pub(super) fn acknowledge(&mut self, n: usize) {
        self.acked = self.acked.saturating_add(n).min(self.rows.len());
    }

    /// Takes note that everything handed out is stored.
    pub(super) fn acknowledge_all(&mut self) {
        self.acked = self.rows.len();
    }

    /// Sets the first row that is not stored aside, with every later one of its key, and returns
    /// the key.
    pub(super) fn refuse(&mut self, why: &str, source: Source<'_>) -> Option<PartitionKey> {
        let mut rest = self.rows.split_off(self.acked);
        self.stored.append(&mut self.rows);
        self.acked = 0;
        let refused = rest.first().map(|row| row.record.partition_key());
        let key = rest.first().map(|row| row.record.key.clone());
        if let Some(refused) = rest.first_mut() {
            refused.reason = why.into();
        }
        let of_key = |row: &ParkedRow| Some(&row.record.key) == key.as_ref();
        let (aside, rest) = rest.into_iter().partition::<Vec<_>, _>(of_key);
        self.to_park.extend(aside);
        self.records = encode(&self.origin, &rest, source);
        self.rows = rest;
        refused
    }

    /// Returns the rows that are stored, once nothing is left to publish.
    pub(super) fn into_stored(mut self) -> Vec<ParkedRow> {
        self.stored.append(&mut self.rows);
        self.stored
    }
}

fn encode(origin: &Origin, rows: &[ParkedRow], (source, shard): Source<'_>) -> Arc<[Publish]> {
    let late = matches!(origin, Origin::Released);
    let plain = rows.iter().map(|row| (&row.record.headers, row.pos));
    let headers = wire::positioned(plain, source, shard, late);
    let encode = |(row, headers): (&ParkedRow, Headers)| {
        let (key, value) = (row.record.key.clone(), row.record.value.clone());
        Publish { topic: row.topic.clone(), record: Record { key, headers, value } }
    };
    rows.iter().zip(headers).map(encode).collect()
}
