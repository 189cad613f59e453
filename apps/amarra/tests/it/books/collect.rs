//! Reads the books: six databases, every topic, and what the providers wrote down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amarra_core::{AggregateId, Timestamp, Version};
use amarra_messaging::wire;
use amarra_messaging::{Headers, Record as Wire};
use amarra_shop::contract::OrderId;
use amarra_shop::contract::topics;
use amarra_shop::inventory::{LedgerEntry, Reservation, StockItem};
use amarra_shop::notifications::Notification;
use amarra_shop::orders::Order;
use amarra_shop::payments::Payment;
use amarra_shop::provider::Truth;
use amarra_store::{Aggregate, AuditDraft, AuditRow};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::de::DeserializeOwned;
use sqlx::postgres::PgPool;
use sqlx::types::Uuid;

use super::messages::SUBSCRIPTIONS;
use super::orders::is_at_rest;
use super::{Applied, Books, Database, Emitted, Record};

/// How long reading the topics may take.
const READING: Duration = Duration::from_secs(60);

/// Where the books are.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The databases by service.
    pub(crate) databases: BTreeMap<&'static str, PgPool>,
    /// The cluster.
    pub(crate) bootstrap: String,
}

/// Names what still has to happen before the books are at rest; nothing when they are.
pub(crate) async fn unsettled(sources: &Sources) -> Result<Vec<String>, String> {
    let mut left = Vec::new();
    let mut emitted: BTreeMap<String, i64> = BTreeMap::new();
    for (name, pool) in &sources.databases {
        let timers: i64 = one(pool, "SELECT count(*) FROM timer").await?;
        if timers > 0 {
            left.push(format!("{name} has {timers} timers set"));
        }
        let sql = "SELECT topic, count(*) FROM outbox GROUP BY topic";
        let rows: Vec<(String, i64)> =
            sqlx::query_as(sql).fetch_all(pool).await.map_err(|e| e.to_string())?;
        for (topic, count) in rows {
            *emitted.entry(topic).or_default() += count;
        }
    }
    for (group, service, topics) in SUBSCRIPTIONS {
        let Some(pool) = sources.databases.get(service) else { continue };
        let sql = "SELECT topic, count(*) FROM inbox WHERE grp = $1 GROUP BY topic";
        let rows: Vec<(String, i64)> =
            sqlx::query_as(sql).bind(group).fetch_all(pool).await.map_err(|e| e.to_string())?;
        let applied: BTreeMap<String, i64> = rows.into_iter().collect();
        for topic in *topics {
            let applied = applied.get(*topic).copied().unwrap_or_default();
            let due = emitted.get(*topic).copied().unwrap_or_default();
            if applied != due {
                left.push(format!("{group} applied {applied} of {due} messages of {topic}"));
            }
        }
    }
    if let Some(pool) = sources.databases.get("orders") {
        let orders: Vec<Order> = aggregates(pool).await?;
        let open = orders.iter().filter(|order| !is_at_rest(order.status)).count();
        if open > 0 {
            left.push(format!("{open} of {} orders have not ended", orders.len()));
        }
    }
    Ok(left)
}

/// Reads everything.
///
/// # Errors
/// What could not be read.
pub(crate) async fn collect(
    sources: &Sources,
    truths: BTreeMap<OrderId, Truth>,
    told: BTreeMap<String, u32>,
) -> Result<Books, String> {
    let mut books = Books { truths, told, ..Books::default() };
    for (name, pool) in &sources.databases {
        books.databases.insert(name, common(pool).await.map_err(|e| format!("{name}: {e}"))?);
        match *name {
            "inventory" => {
                let stock: Vec<StockItem> = aggregates(pool).await?;
                books.stock = stock.into_iter().map(|item| (item.sku.clone(), item)).collect();
                for entry in aggregates::<LedgerEntry>(pool).await? {
                    let entries = books.ledger.entry(entry.sku.clone()).or_default();
                    entries.insert(entry.version, entry);
                }
                let reservations: Vec<Reservation> = aggregates(pool).await?;
                books.reservations = reservations.into_iter().map(|r| (r.order_id, r)).collect();
            }
            "payments" => {
                let payments: Vec<Payment> = aggregates(pool).await?;
                books.payments = payments.into_iter().map(|p| (p.order_id, p)).collect();
                books.journal = aggregates(pool).await?;
            }
            "orders" => {
                let orders: Vec<Order> = aggregates(pool).await?;
                books.orders = orders.into_iter().map(|o| (o.order_id, o)).collect();
                books.views = view(pool, "order_view").await?;
                books.listed = view::<serde_json::Value>(pool, "orders_by_user_view").await?.len();
            }
            "notifications" => {
                let rows = keyed::<Notification>(pool).await?;
                books.notifications = rows.into_iter().collect();
            }
            "catalog" => books.products = view(pool, "product_view").await?,
            _ => {}
        }
    }
    books.records = records(&sources.bootstrap)?;
    Ok(books)
}

async fn one<T>(pool: &PgPool, sql: &'static str) -> Result<T, String>
where
    T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'r> sqlx::Decode<'r, sqlx::Postgres>,
{
    sqlx::query_scalar(sql).fetch_one(pool).await.map_err(|e| e.to_string())
}

async fn keyed<A: Aggregate + DeserializeOwned>(pool: &PgPool) -> Result<Vec<(String, A)>, String> {
    let sql = "SELECT id, body FROM aggregate WHERE kind = $1 ORDER BY id";
    let rows: Vec<(String, Vec<u8>)> =
        sqlx::query_as(sql).bind(A::KIND).fetch_all(pool).await.map_err(|e| e.to_string())?;
    let read = |(id, body): (String, Vec<u8>)| match serde_json::from_slice(&body) {
        Ok(state) => Ok((id, state)),
        Err(e) => Err(format!("{} {id}: {e}", A::KIND)),
    };
    rows.into_iter().map(read).collect()
}

async fn aggregates<A: Aggregate + DeserializeOwned>(pool: &PgPool) -> Result<Vec<A>, String> {
    Ok(keyed(pool).await?.into_iter().map(|(_, state)| state).collect())
}

async fn view<T: DeserializeOwned>(
    pool: &PgPool,
    table: &'static str,
) -> Result<BTreeMap<String, T>, String> {
    let sql = format!("SELECT key, body FROM {table} ORDER BY key");
    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .fetch_all(pool)
        .await
        .map_err(|e| e.to_string())?;
    let read = |(key, body): (String, Vec<u8>)| match serde_json::from_slice(&body) {
        Ok(row) => Ok((key, row)),
        Err(e) => Err(format!("{table} {key}: {e}")),
    };
    rows.into_iter().map(read).collect()
}

async fn common(pool: &PgPool) -> Result<Database, String> {
    let text = |e: sqlx::Error| e.to_string();
    let sql = "SELECT kind, id, version FROM aggregate";
    let versions: Vec<(String, String, i64)> =
        sqlx::query_as(sql).fetch_all(pool).await.map_err(text)?;
    let versions = versions.into_iter().map(|(kind, id, version)| {
        (AggregateId::new(kind, id), Version::new(u64::try_from(version).unwrap_or(0)))
    });
    let sql = "SELECT topic, key, headers, payload FROM outbox ORDER BY seq";
    let rows: Vec<RawEmitted> = sqlx::query_as(sql).fetch_all(pool).await.map_err(text)?;
    let emitted: Result<Vec<Emitted>, String> = rows.into_iter().map(emitted).collect();
    let sql = "SELECT grp, message, topic, \"offset\" FROM inbox";
    let rows: Vec<(String, Uuid, String, i64)> =
        sqlx::query_as(sql).fetch_all(pool).await.map_err(text)?;
    let applied = rows.into_iter().map(|(group, event, topic, offset)| Applied {
        group: group.into(),
        event: event.into(),
        topic: topic.into(),
        offset: u64::try_from(offset).unwrap_or(0),
    });
    let parked: i64 =
        one(pool, "SELECT (SELECT count(*) FROM parked) + (SELECT count(*) FROM outbox_parked)")
            .await?;
    Ok(Database {
        versions: versions.collect(),
        audit: audit(pool).await?,
        emitted: emitted?,
        applied: applied.collect(),
        parked: u64::try_from(parked).unwrap_or(0),
    })
}

type RawEmitted = (String, Vec<u8>, Vec<u8>, Vec<u8>);

fn emitted((topic, key, headers, value): RawEmitted) -> Result<Emitted, String> {
    let headers = Headers::from_bytes(headers.into()).map_err(|e| e.to_string())?;
    let record = Wire { key: key.into(), headers, value: value.into() };
    let envelope = wire::envelope(&record).map_err(|e| e.to_string())?;
    Ok(Emitted { topic: topic.into(), envelope })
}

type RawAudit = (i64, Vec<u8>, Vec<u8>, String, String, String, String, i64, Uuid, i64, Vec<u8>);

async fn audit(pool: &PgPool) -> Result<Vec<AuditRow>, String> {
    let sql = "SELECT number, previous, hash, actor, action, kind, id, version, correlation, \
               at_micros, state_hash FROM audit ORDER BY number";
    let rows: Vec<RawAudit> =
        sqlx::query_as(sql).fetch_all(pool).await.map_err(|e| e.to_string())?;
    rows.into_iter().map(audit_row).collect()
}

fn audit_row(raw: RawAudit) -> Result<AuditRow, String> {
    let (number, previous, hash, actor, action, kind, id, version, correlation, at, state) = raw;
    let fixed = |bytes: Vec<u8>| {
        <[u8; 32]>::try_from(bytes).map_err(|_| format!("audit row {number} has a short hash"))
    };
    let entry = AuditDraft {
        actor: actor.parse().map_err(|e| format!("audit row {number}: {e}"))?,
        action: action.into(),
        aggregate: AggregateId::new(kind, id),
        version: Version::new(u64::try_from(version).unwrap_or(0)),
        correlation: correlation.into(),
        at: Timestamp::from_micros(at),
        state_hash: fixed(state)?,
    };
    let number = u64::try_from(number).unwrap_or(0);
    Ok(AuditRow { number, previous: fixed(previous)?, entry, hash: fixed(hash)? })
}

/// Reads every topic from its first record to its end, with a consumer of another make than ours.
fn records(bootstrap: &str) -> Result<Vec<Record>, String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "books")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "false")
        .set("isolation.level", "read_committed")
        .create()
        .map_err(|e| e.to_string())?;
    let mut ends: BTreeMap<(String, i32), i64> = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    for topic in topics::ALL {
        let metadata =
            consumer.fetch_metadata(Some(topic), READING).map_err(|e| format!("{topic}: {e}"))?;
        for partition in metadata.topics().iter().flat_map(|t| t.partitions()) {
            let (low, high) = consumer
                .fetch_watermarks(topic, partition.id(), READING)
                .map_err(|e| format!("{topic}: {e}"))?;
            assignment
                .add_partition_offset(topic, partition.id(), Offset::Beginning)
                .map_err(|e| e.to_string())?;
            if low < high {
                ends.insert(((*topic).to_owned(), partition.id()), high);
            }
        }
    }
    consumer.assign(&assignment).map_err(|e| e.to_string())?;
    let mut records: BTreeMap<(Arc<str>, i32, i64), Record> = BTreeMap::new();
    let give_up = Instant::now() + READING;
    while !ends.is_empty() {
        if Instant::now() > give_up {
            return Err(format!("the topics were not read in time: {ends:?} are left"));
        }
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.map_err(|e| e.to_string())?;
            let record = record(&message)?;
            records.insert((Arc::clone(&record.topic), record.partition, record.offset), record);
        }
        // The end of a transaction is a record of its own, which is never handed out: the position
        // tells that it was passed.
        for element in consumer.position().map_err(|e| e.to_string())?.elements() {
            let at = (element.topic().to_owned(), element.partition());
            let passed = matches!(element.offset(), Offset::Offset(next)
                if ends.get(&at).is_some_and(|end| next >= *end));
            if passed {
                ends.remove(&at);
            }
        }
    }
    Ok(records.into_values().collect())
}

fn record(message: &impl Message) -> Result<Record, String> {
    let (topic, offset) = (message.topic(), message.offset());
    let headers = message.headers();
    let id = headers.and_then(|all| {
        all.iter().find(|header| header.key == "ce_id").and_then(|header| header.value)
    });
    let id = id.and_then(|value| std::str::from_utf8(value).ok());
    let event = id.and_then(|id| id.parse().ok());
    Ok(Record {
        topic: topic.into(),
        partition: message.partition(),
        offset,
        event: event.ok_or_else(|| format!("{topic} at {offset} has no ce_id"))?,
    })
}
