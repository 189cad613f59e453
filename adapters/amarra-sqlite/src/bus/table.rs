//! The statements of the bus's file.

use std::collections::BTreeMap;
use std::path::Path;

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::{Epoch, Shard};
use amarra_messaging::{Group, Offset, Partition, Record, Topic};
use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection, SqlitePool};

use super::config::TopicConfig;
use super::plan::{Fences, Plan};
use super::state::{Log, PartitionId, State};
use crate::clock::{int, nat, rows};
use crate::error::OpenError;
use crate::messaging::record;

/// Bits of a place that hold the offset.
const OFFSET_BITS: u32 = 40;
const OFFSET_MASK: i64 = (1 << OFFSET_BITS) - 1;
/// Records that one statement inserts: a few sizes, so that each is prepared once.
const CHUNKS: [usize; 3] = [64, 8, 1];

/// Returns where the record of a partition is, or would be.
fn place(id: PartitionId, offset: u64) -> i64 {
    (id.0 << OFFSET_BITS).saturating_add(int(offset).min(OFFSET_MASK))
}

fn offset(place: i64) -> u64 {
    nat(place & OFFSET_MASK)
}

/// Makes a topic unless it is there with as many partitions.
pub(super) async fn declare(
    connection: &mut SqliteConnection,
    path: &Path,
    config: &TopicConfig,
) -> Result<bool, OpenError> {
    let TopicConfig { topic, partitions } = config;
    let failed = |source| OpenError::of(path, source);
    let existing: Option<u32> = sqlx::query_scalar("SELECT partitions FROM topics WHERE topic = ?")
        .bind(topic.as_str())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    match existing {
        Some(existing) if existing == *partitions => return Ok(false),
        Some(existing) => {
            let (path, topic, configured) = (path.to_owned(), topic.clone(), *partitions);
            return Err(OpenError::Partitions { path, topic, existing, configured });
        }
        None => {}
    }
    sqlx::query("INSERT INTO topics (topic, partitions) VALUES (?, ?)")
        .bind(topic.as_str())
        .bind(*partitions)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    for number in 0..*partitions {
        sqlx::query("INSERT INTO partitions (topic, number, start) VALUES (?, ?, 0)")
            .bind(topic.as_str())
            .bind(number)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    Ok(true)
}

/// Reads the partitions that the state does not know yet.
pub(super) async fn load_partitions(
    connection: &mut SqliteConnection,
    state: &[PartitionId],
) -> Result<Vec<(PartitionId, Log)>, sqlx::Error> {
    let found: Vec<(i64, String, u32, i64)> =
        sqlx::query_as("SELECT id, topic, number, start FROM partitions ORDER BY topic, number")
            .fetch_all(&mut *connection)
            .await?;
    let mut logs = Vec::new();
    for (id, topic, number, start) in found {
        let id = PartitionId(id);
        if !state.contains(&id) {
            let at = TopicPartition { topic: Topic::from(&*topic), partition: Partition(number) };
            let end = end(connection, id, nat(start)).await?;
            logs.push((id, Log::new(at, nat(start), end)));
        }
    }
    Ok(logs)
}

/// Reads the offset that the next record of a partition gets.
pub(super) async fn end(
    connection: &mut SqliteConnection,
    id: PartitionId,
    start: u64,
) -> Result<u64, sqlx::Error> {
    let last: Option<i64> =
        sqlx::query_scalar("SELECT max(place) FROM log WHERE place >= ? AND place <= ?")
            .bind(place(id, 0))
            .bind(place(id, u64::MAX))
            .fetch_one(connection)
            .await?;
    Ok(last.map_or(start, |last| offset(last).saturating_add(1)).max(start))
}

/// Reads when the first record kept of a partition was published.
pub(super) async fn first_at(
    connection: &mut SqliteConnection,
    id: PartitionId,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT at FROM log WHERE place >= ? AND place <= ? ORDER BY place LIMIT 1")
        .bind(place(id, 0))
        .bind(place(id, u64::MAX))
        .fetch_optional(connection)
        .await
}

/// Committed offsets, by group.
pub(super) type Offsets = BTreeMap<Group, BTreeMap<TopicPartition, Offset>>;

/// Reads every committed offset.
pub(super) async fn load_offsets(
    connection: &mut SqliteConnection,
) -> Result<Offsets, sqlx::Error> {
    let found: Vec<(String, String, u32, i64)> = sqlx::query_as(
        "SELECT o.grp, p.topic, p.number, o.next FROM offsets o JOIN partitions p \
         ON p.id = o.partition",
    )
    .fetch_all(connection)
    .await?;
    let mut offsets = Offsets::new();
    for (group, topic, number, next) in found {
        let at = TopicPartition { topic: Topic::from(&*topic), partition: Partition(number) };
        offsets.entry(Group::from(&*group)).or_default().insert(at, Offset(nat(next)));
    }
    Ok(offsets)
}

/// Reads groups and fences into a fresh state.
pub(super) async fn load_groups(
    connection: &mut SqliteConnection,
    state: &mut State,
    fences: &mut Fences,
) -> Result<(), sqlx::Error> {
    let subscriptions: Vec<(String, String)> =
        sqlx::query_as("SELECT grp, topic FROM subscriptions").fetch_all(&mut *connection).await?;
    for (group, topic) in subscriptions {
        let group = state.groups.entry(Group::from(&*group)).or_default();
        group.restore_topic(Topic::from(&*topic));
    }
    for (group, committed) in load_offsets(connection).await? {
        state.groups.entry(group).or_default().restore_offsets(committed);
    }
    let found: Vec<(String, u16, i64)> =
        sqlx::query_as("SELECT source, shard, epoch FROM fences").fetch_all(connection).await?;
    for (source, shard, epoch) in found {
        fences.restore(&source, Shard(shard), Epoch(nat(epoch)));
    }
    Ok(())
}

/// Writes a plan.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    plan: &Plan,
    at: i64,
) -> Result<(), sqlx::Error> {
    for session in &plan.fences {
        sqlx::query(
            "INSERT INTO fences (source, shard, epoch) VALUES (?, ?, ?) \
             ON CONFLICT DO UPDATE SET epoch = excluded.epoch",
        )
        .bind(&*session.source)
        .bind(i64::from(session.shard.0))
        .bind(int(session.epoch.0))
        .execute(&mut *connection)
        .await?;
    }
    let placed = |(id, (first, records)): (&PartitionId, &(u64, Vec<Record>))| {
        let id = *id;
        (*first..).zip(records.clone()).map(move |(offset, record)| (place(id, offset), record))
    };
    let records: Vec<_> = plan.records.iter().flat_map(placed).collect();
    append(connection, &records, at).await?;
    for ((group, id), next) in &plan.offsets {
        sqlx::query(
            "INSERT INTO offsets (grp, partition, next) VALUES (?, ?, ?) \
             ON CONFLICT DO UPDATE SET next = excluded.next",
        )
        .bind(group.as_str())
        .bind(id.0)
        .bind(int(next.0))
        .execute(&mut *connection)
        .await?;
    }
    for (group, topics) in &plan.subscriptions {
        for topic in topics.iter() {
            sqlx::query("INSERT OR IGNORE INTO subscriptions (grp, topic) VALUES (?, ?)")
                .bind(group.as_str())
                .bind(topic.as_str())
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}

/// Inserts records, many in one statement: each is a round trip to the thread that writes.
async fn append(
    connection: &mut SqliteConnection,
    mut records: &[(i64, Record)],
    at: i64,
) -> Result<(), sqlx::Error> {
    for chunk in CHUNKS {
        let values = vec!["(?, ?, ?, ?, ?)"; chunk].join(", ");
        let insert = format!("INSERT INTO log (place, key, headers, value, at) VALUES {values}");
        while let Some((now, later)) = records.split_at_checked(chunk) {
            records = later;
            let mut insert = sqlx::query(AssertSqlSafe(insert.clone()));
            for (place, record) in now {
                insert = insert
                    .bind(*place)
                    .bind(&*record.key)
                    .bind(record.headers.as_bytes())
                    .bind(&*record.value)
                    .bind(at);
            }
            insert.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Reads records of a partition from `from` to below `below`, as far as the bounds go.
pub(super) async fn read(
    readers: &SqlitePool,
    id: PartitionId,
    (from, below): (u64, u64),
    (rows_max, bytes_max): (usize, usize),
) -> Result<Vec<(Offset, Record)>, sqlx::Error> {
    let select = "SELECT place, key, headers, value FROM log WHERE place >= ? AND place < ? \
                  ORDER BY place LIMIT ?";
    let select = sqlx::query(select).bind(place(id, from)).bind(place(id, below));
    let mut found = select.bind(rows(rows_max)).fetch(readers);
    let (mut records, mut bytes) = (Vec::new(), 0_usize);
    while bytes < bytes_max
        && let Some(row) = found.try_next().await?
    {
        let record = record(&row, 1)?;
        bytes = bytes.saturating_add(record.bytes());
        records.push((Offset(offset(row.try_get(0)?)), record));
    }
    Ok(records)
}

/// Deletes records of a partition that are below `below` and older than `before`, from the first
/// on; returns the first offset that is kept.
pub(super) async fn prune(
    connection: &mut SqliteConnection,
    id: PartitionId,
    (start, below): (u64, u64),
    before: i64,
) -> Result<u64, sqlx::Error> {
    let (from, to) = (place(id, start), place(id, below));
    let young: Option<i64> = sqlx::query_scalar(
        "SELECT place FROM log WHERE place >= ? AND place < ? AND at >= ? ORDER BY place LIMIT 1",
    )
    .bind(from)
    .bind(to)
    .bind(before)
    .fetch_optional(&mut *connection)
    .await?;
    let kept = young.unwrap_or(to);
    sqlx::query("DELETE FROM log WHERE place >= ? AND place < ?")
        .bind(from)
        .bind(kept)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE partitions SET start = ? WHERE id = ?")
        .bind(int(offset(kept)))
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(offset(kept))
}

/// Deletes what is known of a group.
pub(super) async fn forget(
    connection: &mut SqliteConnection,
    group: &Group,
) -> Result<(), sqlx::Error> {
    for delete in ["DELETE FROM offsets WHERE grp = ?", "DELETE FROM subscriptions WHERE grp = ?"] {
        sqlx::query(delete).bind(group.as_str()).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Counts the bytes of the file that are in use.
pub(super) async fn used(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let used: i64 = sqlx::query_scalar(
        "SELECT (page_count - freelist_count) * page_size \
         FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()",
    )
    .fetch_one(connection)
    .await?;
    Ok(nat(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_partitions_do_not_meet() {
        let check = |id: i64, at: u64| assert_eq!(offset(place(PartitionId(id), at)), at);
        check(1, 0);
        check(7, 123_456_789);
        check(1 << 22, (1 << 40) - 1);
        assert!(place(PartitionId(1), u64::MAX) < place(PartitionId(2), 0));
    }
}
