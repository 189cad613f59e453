//! The parking lot: messages set aside per (group, topic, key), in the order they were parked.

use std::collections::BTreeSet;
use std::sync::Arc;

use amarra_core::{PartitionKey, Timestamp};
use amarra_messaging::headers::Headers;
use amarra_messaging::message::{Delivery, Record};
use amarra_messaging::{Group, Offset, Parked, Partition, Topic, TxError};
use bytes::Bytes;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use crate::database::PgDatabase;
use crate::error::tx_error;
use crate::sql::{Answer, Argument, Script, lock_key};

/// Names the lock of a key, held by whoever parks a message of it or takes its first one.
fn key_lock(group: &Group, topic: &Topic, key: &PartitionKey) -> i64 {
    lock_key("parking", &[group.as_str(), topic.as_str(), key.as_str()])
}

/// Sets a message aside. The key is locked before the ticket is drawn, or tickets of a key could
/// commit in another order than they were drawn in.
pub(crate) async fn park(
    conn: &mut PgConnection,
    group: &Group,
    delivery: &Delivery,
    reason: &str,
) -> Result<(), sqlx::Error> {
    let key = delivery.key();
    sqlx::query(
        "WITH locked AS MATERIALIZED (SELECT 1 AS one, pg_advisory_xact_lock($1)) \
         INSERT INTO parked (grp, topic, key, partition, \"offset\", record_key, headers, value, \
             reason) \
         SELECT $2, $3, $4, $5, $6, $7, $8, $9, $10 FROM locked",
    )
    .bind(key_lock(group, &delivery.topic, &key))
    .bind(group.as_str())
    .bind(delivery.topic.as_str())
    .bind(key.as_str().replace('\0', "\u{fffd}"))
    .bind(i64::from(delivery.partition.0))
    .bind(i64::try_from(delivery.offset.0).unwrap_or(i64::MAX))
    .bind(&*delivery.record.key)
    .bind(delivery.record.headers.as_bytes())
    .bind(&*delivery.record.value)
    .bind(reason.replace('\0', "\u{fffd}"))
    .execute(conn)
    .await
    .map(drop)
}

/// Returns which of `keys` are parked.
pub(crate) async fn among(
    conn: &mut PgConnection,
    group: &Group,
    topic: &Topic,
    keys: &BTreeSet<PartitionKey>,
) -> Result<BTreeSet<PartitionKey>, sqlx::Error> {
    let names: Vec<&str> = keys.iter().map(PartitionKey::as_str).collect();
    let rows: Vec<String> = sqlx::query_scalar(
        "SELECT k FROM unnest($3::text[]) AS k WHERE EXISTS \
             (SELECT FROM parked WHERE grp = $1 AND topic = $2 AND key = k)",
    )
    .bind(group.as_str())
    .bind(topic.as_str())
    .bind(names)
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().map(|key| PartitionKey::new(key.as_str())).collect())
}

/// Adds the question which of `keys` are parked, in any of their topics.
pub(crate) fn look_among(group: &Group, keys: &[(&Topic, &PartitionKey)], script: &mut Script) {
    // A key is kept as it is found here, and a NUL cannot be kept.
    let names: Vec<_> =
        keys.iter().map(|(_, key)| key.as_str().replace('\0', "\u{fffd}")).collect();
    let rows = [
        Argument::Text(group.as_str()),
        Argument::Texts(keys.iter().map(|(topic, _)| topic.as_str()).collect()),
        Argument::Texts(names.iter().map(String::as_str).collect()),
    ];
    script.execute("amarra_parked", &rows);
}

/// Returns which of the keys are parked that [`look_among`] asked for, counted from one.
pub(crate) fn found_among(answer: Option<&Answer>) -> Result<BTreeSet<i64>, sqlx::Error> {
    let rows = answer.map(|answer| answer.rows.as_slice()).unwrap_or_default();
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Locks a key, then looks for its oldest message.
pub(crate) fn look(group: &Group, topic: &Topic, key: &PartitionKey) -> Script {
    let mut script = Script::default();
    script.execute("amarra_lock", &[Argument::Ints(vec![key_lock(group, topic, key)])]);
    script.execute(
        "amarra_first_parked",
        &[group.as_str(), topic.as_str(), key.as_str()].map(Argument::Text),
    );
    script
}

/// Reads what [`look`] answered.
pub(crate) fn first(answers: &[Answer], topic: &Topic) -> Result<Option<Parked>, TxError> {
    let row = answers.get(1).and_then(|answer| answer.rows.first());
    let corrupt = |why: String| TxError::Corrupt { what: "parked message".to_owned(), why };
    row.map(|row| read(row, topic).map_err(|e| corrupt(e.to_string()))).transpose()
}

/// Lists what is parked for every group, ascending by ticket, after `after`, at most `limit`.
pub(crate) async fn list(
    database: &PgDatabase,
    after: u64,
    limit: usize,
) -> Result<Vec<(Group, Parked)>, TxError> {
    let (after, limit) =
        (i64::try_from(after).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = database
        .bounded(|| {
            sqlx::query(
                "SELECT ticket, partition, \"offset\", record_key, headers, value, reason, \
                     (extract(epoch FROM at) * 1000000)::bigint, grp, topic \
                 FROM parked WHERE ticket > $1 ORDER BY ticket LIMIT $2",
            )
            .bind(after)
            .bind(limit)
            .fetch_all(database.pool())
        })
        .await?;
    let one = |row: &PgRow| {
        let (group, topic): (&str, &str) = (row.try_get(8)?, row.try_get(9)?);
        Ok((Group::from(group), read(row, &Topic::from(topic))?))
    };
    let listed: Result<_, sqlx::Error> = rows.iter().map(one).collect();
    listed.map_err(|e| tx_error(&e))
}

fn read(row: &PgRow, topic: &Topic) -> Result<Parked, sqlx::Error> {
    let number = |column: usize| {
        Ok::<_, sqlx::Error>(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
    };
    let bytes = |column: usize| row.try_get::<Vec<u8>, _>(column).map(Bytes::from);
    let headers = Headers::from_bytes(bytes(4)?).map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
    let record = Record { key: bytes(3)?, headers, value: bytes(5)? };
    let delivery = Delivery {
        topic: topic.clone(),
        partition: Partition(u32::try_from(number(1)?).unwrap_or(u32::MAX)),
        offset: Offset(number(2)?),
        record,
    };
    Ok(Parked {
        ticket: number(0)?,
        delivery,
        reason: Arc::from(row.try_get::<&str, _>(6)?),
        at: Timestamp::from_micros(row.try_get(7)?),
    })
}

/// Removes a message.
pub(crate) async fn unpark(
    conn: &mut PgConnection,
    group: &Group,
    ticket: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM parked WHERE ticket = $1 AND grp = $2")
        .bind(i64::try_from(ticket).unwrap_or(i64::MAX))
        .bind(group.as_str())
        .execute(conn)
        .await
        .map(drop)
}
