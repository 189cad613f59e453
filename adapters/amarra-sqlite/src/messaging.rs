//! The outbox and parking-lot ports of a unit.

use std::collections::BTreeSet;
use std::sync::Arc;

use amarra_core::{PartitionKey, Timestamp};
use amarra_messaging::message::{Delivery, Offset, Outgoing, Partition};
use amarra_messaging::murmur2::choose;
use amarra_messaging::{Group, Headers, Outbox, Parked, ParkingLot, Record, Topic, TxError, wire};
use amarra_store::UnitOfWork;
use async_trait::async_trait;
use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection, SqlitePool};

use crate::clock::{int, nat, rows};
use crate::unit::{SqliteUnit, driver};

#[async_trait]
impl Outbox for SqliteUnit {
    async fn enqueue(&mut self, messages: &[Outgoing]) -> Result<(), TxError> {
        let (bound, shards) = (self.message_bytes_max(), u32::from(self.shards()));
        let appended = !messages.is_empty();
        self.attempt(async |connection| {
            if messages.iter().any(|message| message.envelope.data.len() > bound) {
                let bound = u64::try_from(bound).unwrap_or(u64::MAX);
                return Err(TxError::TooLarge { what: "message (message_bytes_max)", bound });
            }
            for message in messages {
                append(connection, message, shards).await?;
            }
            Ok(())
        })
        .await?;
        if appended {
            self.note_append();
        }
        Ok(())
    }
}

async fn append(
    connection: &mut SqliteConnection,
    message: &Outgoing,
    shards: u32,
) -> Result<(), TxError> {
    let record = wire::encode(&message.envelope, None);
    let shard = choose(&record.key, shards).unwrap_or(0);
    sqlx::query(
        "INSERT INTO outbox (shard, topic, key, headers, value, at) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(i64::from(shard))
    .bind(message.topic.as_str())
    .bind(&*record.key)
    .bind(record.headers.as_bytes())
    .bind(&*record.value)
    .bind(message.envelope.time.as_micros())
    .execute(connection)
    .await
    .map(drop)
    .map_err(driver)
}

#[async_trait]
impl ParkingLot for SqliteUnit {
    async fn park(
        &mut self,
        group: &Group,
        delivery: &Delivery,
        reason: &str,
    ) -> Result<(), TxError> {
        let at = self.now().as_micros();
        self.attempt(async |connection| {
            sqlx::query(
                "INSERT INTO parked (grp, topic, key, partition, pos, record_key, headers, value, \
                 reason, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(group.as_str())
            .bind(delivery.topic.as_str())
            .bind(delivery.key().as_str())
            .bind(i64::from(delivery.partition.0))
            .bind(int(delivery.offset.0))
            .bind(&*delivery.record.key)
            .bind(delivery.record.headers.as_bytes())
            .bind(&*delivery.record.value)
            .bind(reason)
            .bind(at)
            .execute(connection)
            .await
            .map(drop)
            .map_err(driver)
        })
        .await
    }

    async fn parked_among(
        &mut self,
        group: &Group,
        topic: &Topic,
        keys: &BTreeSet<PartitionKey>,
    ) -> Result<BTreeSet<PartitionKey>, TxError> {
        self.attempt(async |connection| {
            let mut parked = BTreeSet::new();
            // Nearly always nothing is parked at all.
            let any = "SELECT 1 FROM parked WHERE grp = ? AND topic = ? LIMIT 1";
            let any = sqlx::query(any).bind(group.as_str()).bind(topic.as_str());
            if any.fetch_optional(&mut *connection).await.map_err(driver)?.is_none() {
                return Ok(parked);
            }
            for key in keys {
                let found = sqlx::query(
                    "SELECT 1 FROM parked WHERE grp = ? AND topic = ? AND key = ? LIMIT 1",
                )
                .bind(group.as_str())
                .bind(topic.as_str())
                .bind(key.as_str());
                if found.fetch_optional(&mut *connection).await.map_err(driver)?.is_some() {
                    parked.insert(key.clone());
                }
            }
            Ok(parked)
        })
        .await
    }

    async fn first_parked(
        &mut self,
        group: &Group,
        topic: &Topic,
        key: &PartitionKey,
    ) -> Result<Option<Parked>, TxError> {
        self.attempt(async |connection| {
            let row = sqlx::query(
                "SELECT ticket, partition, pos, reason, at, record_key, headers, value \
                 FROM parked WHERE grp = ? AND topic = ? AND key = ? ORDER BY ticket LIMIT 1",
            )
            .bind(group.as_str())
            .bind(topic.as_str())
            .bind(key.as_str())
            .fetch_optional(connection)
            .await
            .map_err(driver)?;
            row.map(|row| parked(topic, &row)).transpose()
        })
        .await
    }

    async fn unpark(&mut self, group: &Group, ticket: u64) -> Result<(), TxError> {
        self.attempt(async |connection| {
            sqlx::query("DELETE FROM parked WHERE ticket = ? AND grp = ?")
                .bind(int(ticket))
                .bind(group.as_str())
                .execute(connection)
                .await
                .map(drop)
                .map_err(driver)
        })
        .await
    }
}

/// Lists what is parked for every group, ascending by ticket, after `after`, at most `limit`.
pub(crate) async fn list(
    readers: &SqlitePool,
    after: u64,
    limit: usize,
) -> Result<Vec<(Group, Parked)>, TxError> {
    let found = sqlx::query(
        "SELECT ticket, partition, pos, reason, at, record_key, headers, value, grp, topic \
         FROM parked WHERE ticket > ? ORDER BY ticket LIMIT ?",
    )
    .bind(int(after))
    .bind(rows(limit))
    .fetch_all(readers)
    .await
    .map_err(driver)?;
    let one = |row: &SqliteRow| {
        let group: String = row.try_get(8).map_err(driver)?;
        let topic: String = row.try_get(9).map_err(driver)?;
        Ok((Group::from(group.as_str()), parked(&Topic::from(topic.as_str()), row)?))
    };
    found.iter().map(one).collect()
}

fn parked(topic: &Topic, row: &SqliteRow) -> Result<Parked, TxError> {
    let reason: String = row.try_get(3).map_err(driver)?;
    let delivery = Delivery {
        topic: topic.clone(),
        partition: Partition(row.try_get(1).map_err(driver)?),
        offset: Offset(nat(row.try_get(2).map_err(driver)?)),
        record: record(row, 5).map_err(driver)?,
    };
    Ok(Parked {
        ticket: nat(row.try_get(0).map_err(driver)?),
        delivery,
        reason: Arc::from(reason),
        at: Timestamp::from_micros(row.try_get(4).map_err(driver)?),
    })
}

/// Reads key, headers and value from three columns.
pub(crate) fn record(row: &SqliteRow, first: usize) -> Result<Record, sqlx::Error> {
    let bytes =
        |column: usize| row.try_get::<Vec<u8>, _>(first.saturating_add(column)).map(Bytes::from);
    let headers = Headers::from_bytes(bytes(1)?).map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
    Ok(Record { key: bytes(0)?, headers, value: bytes(2)? })
}
