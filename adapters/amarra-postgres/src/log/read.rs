//! Reads what one snapshot sees and another does not, whatever the size of the difference.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_core::Timestamp;
use amarra_messaging::Headers;
use amarra_messaging::message::{Record, Seq, Shard, Topic};
use amarra_messaging::outbox::{Chunk, Cursor, Lease, LogError, Row, Snapshot};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row as _, ValueRef as _};

use super::snapshot::{from_text, in_progress, to_text};
use crate::error::log_error;

/// Values of the sequence that one statement looks through at most.
const WINDOW: i64 = 1 << 20;
/// Rows among which one statement looks for the first at most.
const FIRST_MAX: i64 = 500_000;

/// From 1970 to the beginning of the server's times, the year 2000.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Every row of a small difference, found by transaction id, or none but the header of a large one.
///
/// The two branches are the index ranges that hold the difference; a condition joined by `OR`
/// would scan the table. `seq + 0` keeps the planner on the index of transaction ids.
macro_rules! difference {
    ($columns:literal, $limit:literal) => {
        concat!(
            "(SELECT ",
            $columns,
            " FROM outbox WHERE shard = $1 ",
            "AND xid >= (SELECT $2::text::xid8) AND xid < (SELECT pg_snapshot_xmax(cur) FROM s) ",
            "AND pg_visible_in_snapshot(xid, (SELECT cur FROM s)) AND seq + 0 > $5 ",
            "LIMIT ",
            $limit,
            ") UNION ALL ",
            "(SELECT ",
            $columns,
            " FROM outbox WHERE shard = $1 ",
            "AND xid = ANY ((SELECT $3::text::xid8[])::xid8[]) ",
            "AND pg_visible_in_snapshot(xid, (SELECT cur FROM s)) AND seq + 0 > $5 ",
            "LIMIT ",
            $limit,
            ")"
        )
    };
}

/// A header, which is [`LARGE`], [`SAVED`] or neither, and then the rows.
macro_rules! small {
    ($save:literal, $saved:literal) => {
        concat!(
            "WITH s AS MATERIALIZED ( ",
            "SELECT coalesce($4::text::pg_snapshot, pg_current_snapshot()) AS cur), ",
            "m AS MATERIALIZED (SELECT * FROM (",
            difference!("seq, topic, key, headers, payload, at", "$6"),
            ") AS u LIMIT $6), ",
            "n AS MATERIALIZED (SELECT count(*) < $6 AS small, count(*) > 0 AS some FROM m) ",
            $save,
            "SELECT CASE WHEN NOT small THEN -2 WHEN ",
            $saved,
            " THEN -1 ELSE 0 END::bigint AS seq, ",
            // Read after the snapshot was taken: no row that it sees has a higher value.
            "(SELECT cur::text FROM s) || ' ' || (SELECT last_value FROM outbox_seq_seq) ",
            "AS topic, NULL::bytea AS key, NULL::bytea AS headers, NULL::bytea AS payload, ",
            "NULL::timestamptz AS at FROM n ",
            "UNION ALL SELECT seq, topic, key, headers, payload, at FROM m ",
            "WHERE (SELECT small FROM n) ORDER BY seq"
        )
    };
}

const LARGE: i64 = -2;
const SAVED: i64 = -1;

const SMALL: &str = small!("", "false");

/// The same, and the cursor that opens the batch is saved, as a checkpoint saves it, if there are
/// rows: a look that finds none writes nothing.
const OPEN: &str = small!(
    ", saved AS (UPDATE outbox_cursor c \
         SET prev = $7, cur = s.cur::text, last_seq = $5, pos = $8 FROM n, s \
         WHERE n.small AND n.some AND c.grp = $9 AND c.shard = $1 AND c.epoch = $10 \
             AND (c.pos < $8 OR c.pos = $8 AND (c.cur IS NULL OR c.cur = s.cur::text)) \
         RETURNING 1) ",
    "EXISTS (SELECT FROM saved)"
);

const FIRST: &str = concat!(
    "WITH s AS MATERIALIZED (SELECT $4::text::pg_snapshot AS cur) ",
    "SELECT count(*), min(seq) FROM (",
    difference!("seq", "$6"),
    ") AS u"
);

/// A stretch of a large difference, in the order of the sequence.
const STRETCH: &str = "SELECT seq, topic, key, headers, payload, at FROM outbox \
     WHERE shard = $1 AND seq > $2 AND seq <= $3 \
     AND (xid >= (SELECT $4::text::xid8) OR xid = ANY ((SELECT $5::text::xid8[])::xid8[])) \
     AND pg_visible_in_snapshot(xid, (SELECT $6::text::pg_snapshot)) ORDER BY seq LIMIT $7";

/// A batch too large to be sorted for each chunk: it is read along the sequence instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Large {
    prev: Snapshot,
    cur: Snapshot,
    /// No row of it has this sequence value or a lower one.
    after: i64,
    /// No row of it has a higher sequence value.
    upto: i64,
}

/// What is to be read.
pub(super) struct Ask {
    pub(super) lease: Lease,
    pub(super) cursor: Cursor,
    pub(super) limit: usize,
    /// For which group the cursor that opens a batch is saved, if it may be.
    pub(super) save: Option<String>,
}

/// The rows of one chunk and, when its batch is large, where that is.
pub(super) struct Found {
    pub(super) chunk: Chunk,
    pub(super) large: Option<Large>,
    /// Whether the cursor that opens the batch was saved.
    pub(super) saved: bool,
}

/// Reads the next chunk; `known` is what an earlier chunk of the batch found out.
///
/// A small batch, which is what an idle relay meets, is one statement. A large one is looked for
/// once, then each chunk costs its own rows: a backlog drains at a flat rate.
pub(super) async fn chunk(
    conn: &mut PgConnection,
    ask: Ask,
    known: Option<Large>,
) -> Result<Found, LogError> {
    let (shard, cursor, limit) = (ask.lease.shard, &ask.cursor, ask.limit);
    let ours = known.filter(|k| Some(&k.cur) == cursor.cur.as_ref() && k.prev == cursor.prev);
    let large = match ours {
        Some(large) => large,
        None => match small(conn, &ask).await? {
            Ok((chunk, saved)) => return Ok(Found { chunk, large: None, saved }),
            Err(mut large) => {
                large.after = first(conn, shard, cursor, &large.cur).await?;
                large
            }
        },
    };
    let chunk = stretch(conn, shard, cursor, limit, &large).await?;
    Ok(Found { large: (!chunk.last).then_some(large), chunk, saved: false })
}

/// Reads the whole rest of the batch, if it fits in a chunk.
async fn small(
    conn: &mut PgConnection,
    Ask { lease, cursor, limit, save }: &Ask,
) -> Result<Result<(Chunk, bool), Large>, LogError> {
    let mut found = sqlx::query(if save.is_some() { OPEN } else { SMALL })
        .bind(lease.shard.0.cast_signed())
        .bind(cursor.prev.xmax.to_string())
        .bind(in_progress(&cursor.prev))
        .bind(cursor.cur.as_ref().map(to_text))
        .bind(cursor.last_seq.0.cast_signed())
        .bind(one_more(*limit));
    if let Some(group) = save {
        found = found
            .bind(to_text(&cursor.prev))
            .bind(cursor.pos.0.cast_signed())
            .bind(group)
            .bind(lease.epoch.0.cast_signed());
    }
    let mut rows = found.fetch(conn);
    let header = rows.try_next().await.map_err(|e| log_error(&e))?;
    let header = header.ok_or_else(|| corrupt("chunk", "it has no header"))?;
    let place: &str = header.try_get("topic").map_err(|e| log_error(&e))?;
    let (cur, upto) = place.split_once(' ').ok_or_else(|| corrupt("chunk", "it has no end"))?;
    let (cur, upto) = (from_text(cur)?, upto.parse().map_err(|_| corrupt("chunk", upto))?);
    let first: i64 = header.try_get("seq").map_err(|e| log_error(&e))?;
    if first == LARGE {
        // Nothing more comes, but the end of the answer has to be read.
        while rows.try_next().await.map_err(|e| log_error(&e))?.is_some() {}
        let prev = cursor.prev.clone();
        return Ok(Err(Large { prev, cur, after: cursor.last_seq.0.cast_signed(), upto }));
    }
    let mut batch = Batch::default();
    while let Some(row) = rows.try_next().await.map_err(|e| log_error(&e))? {
        batch.push(&row)?;
    }
    Ok(Ok((Chunk { cur, rows: batch.into_rows()?, last: true }, first == SAVED)))
}

/// Finds the value after which the batch begins. Without it the rows that were relayed before and
/// not dropped yet would be looked through; with a huge batch that is the lesser work.
async fn first(
    conn: &mut PgConnection,
    shard: Shard,
    cursor: &Cursor,
    cur: &Snapshot,
) -> Result<i64, LogError> {
    let last_seq = cursor.last_seq.0.cast_signed();
    if cursor.prev == Snapshot::default() {
        return Ok(last_seq);
    }
    let (count, first): (i64, Option<i64>) = sqlx::query_as(FIRST)
        .bind(shard.0.cast_signed())
        .bind(cursor.prev.xmax.to_string())
        .bind(in_progress(&cursor.prev))
        .bind(to_text(cur))
        .bind(last_seq)
        .bind(FIRST_MAX)
        .fetch_one(conn)
        .await
        .map_err(|e| log_error(&e))?;
    Ok(first.filter(|_| count < FIRST_MAX).map_or(last_seq, |seq| seq.saturating_sub(1)))
}

/// Reads along the sequence, window by window, until the chunk is full or the batch ends.
async fn stretch(
    conn: &mut PgConnection,
    shard: Shard,
    cursor: &Cursor,
    limit: usize,
    large: &Large,
) -> Result<Chunk, LogError> {
    let (mut after, mut batch) =
        (large.after.max(cursor.last_seq.0.cast_signed()), Batch::default());
    while after < large.upto && batch.len() <= limit {
        let upto = after.saturating_add(WINDOW).min(large.upto);
        let want = one_more(limit.saturating_sub(batch.len()));
        let mut rows = sqlx::query(STRETCH)
            .bind(shard.0.cast_signed())
            .bind(after)
            .bind(upto)
            .bind(large.prev.xmax.to_string())
            .bind(in_progress(&large.prev))
            .bind(to_text(&large.cur))
            .bind(want)
            .fetch(&mut *conn);
        while let Some(row) = rows.try_next().await.map_err(|e| log_error(&e))? {
            batch.push(&row)?;
        }
        after = upto;
    }
    let last = batch.len() <= limit;
    let mut rows = batch.into_rows()?;
    rows.truncate(limit);
    Ok(Chunk { cur: large.cur.clone(), rows, last })
}

fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

/// Rows being decoded: their bytes lie in one buffer, so that a chunk is one allocation.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: BytesMut,
    rows: Vec<(Seq, Topic, [usize; 3], Timestamp)>,
    topics: BTreeMap<Arc<str>, Topic>,
    last_topic: Option<Topic>,
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes a row of `seq, topic, key, headers, payload, at`.
    fn push(&mut self, row: &PgRow) -> Result<(), LogError> {
        let seq: i64 = row.try_get(0_usize).map_err(|e| log_error(&e))?;
        let topic: &str = row.try_get(1_usize).map_err(|e| log_error(&e))?;
        let at = raw(row, 5)?.try_into().map(i64::from_be_bytes);
        let at = at.map_err(|_| corrupt("outbox row", "its time has not eight bytes"))?;
        let at = at.saturating_add(EPOCH_MICROS);
        let [key, headers, payload] = [raw(row, 2)?, raw(row, 3)?, raw(row, 4)?];
        let topic = self.topic(topic);
        self.push_parts(Seq(seq.cast_unsigned()), topic, [key, headers, payload], at);
        Ok(())
    }

    /// Takes the parts of a row.
    pub(crate) fn push_parts(&mut self, seq: Seq, topic: Topic, parts: [&[u8]; 3], at: i64) {
        let lengths = parts.map(<[u8]>::len);
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.rows.push((seq, topic, lengths, Timestamp::from_micros(at)));
    }

    /// Returns the one topic of a name.
    pub(crate) fn topic(&mut self, name: &str) -> Topic {
        if let Some(topic) = self.last_topic.as_ref().filter(|t| t.as_str() == name) {
            return topic.clone();
        }
        let topic = match self.topics.get(name) {
            Some(topic) => topic.clone(),
            None => {
                let topic = Topic::from(name);
                self.topics.insert(name.into(), topic.clone());
                topic
            }
        };
        self.last_topic = Some(topic.clone());
        topic
    }

    /// Returns the rows.
    pub(crate) fn into_rows(self) -> Result<Vec<Row>, LogError> {
        let mut rest = self.bytes.freeze();
        let row = |(seq, topic, lengths, at): (Seq, Topic, [usize; 3], Timestamp)| {
            let [key, headers, value] = lengths;
            let key = take(&mut rest, key);
            let headers = Headers::from_bytes(take(&mut rest, headers))
                .map_err(|e| corrupt("outbox headers", &e.to_string()))?;
            let value = take(&mut rest, value);
            Ok(Row { seq, topic, record: Record { key, headers, value }, at })
        };
        self.rows.into_iter().map(row).collect()
    }
}

fn take(bytes: &mut Bytes, len: usize) -> Bytes {
    bytes.split_to(len.min(bytes.len()))
}

/// Returns a column's bytes where they lie.
pub(super) fn raw(row: &PgRow, column: usize) -> Result<&[u8], LogError> {
    let value = row.try_get_raw(column).map_err(|e| log_error(&e))?;
    if value.is_null() {
        return Ok(&[]);
    }
    value.as_bytes().map_err(|e| corrupt("outbox row", &e.to_string()))
}

pub(crate) fn corrupt(what: &str, why: &str) -> LogError {
    LogError::Corrupt { what: what.to_owned(), why: why.to_owned() }
}
