//! The least that moves an outbox to Kafka: one connection, one producer, no lease and no fence.

use std::time::Duration;

use amarra_messaging::Headers;
use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use sqlx::{Connection as _, PgConnection};

use crate::Failure;
use crate::child::{Progress, Told, now, tell};
use crate::process::cpu_micros;

/// Rows of a chunk.
const CHUNK: i64 = 4_096;

/// Reads along the primary key: every row is committed, and nobody else writes.
const READ: &str = "SELECT seq, topic, key, headers, payload FROM outbox \
                    WHERE shard = $1 AND seq > $2 ORDER BY seq LIMIT $3";
const SAVE: &str = "UPDATE probe SET seq = $2 WHERE shard = $1";

type Row = (i64, String, Vec<u8>, Vec<u8>, Vec<u8>);

/// Moves everything there is, and saves how far it has come with each chunk.
pub(crate) async fn run(url: &str, bootstrap: &str, shards: u16) -> Result<(), Failure> {
    let mut conn = PgConnection::connect(url).await?;
    sqlx::raw_sql("SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off")
        .execute(&mut conn)
        .await?;
    sqlx::raw_sql("CREATE TABLE probe AS SELECT shard, 0::bigint AS seq FROM outbox_shard")
        .execute(&mut conn)
        .await?;
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("compression.type", "lz4")
        .set("queue.buffering.max.messages", "100000")
        .create()?;
    let mut places = vec![(0_i64, 0_u64); usize::from(shards)];
    let (mut sent, mut idle) = (0_u64, 0);
    progress(&producer, sent);
    while idle < places.len() {
        for (shard, (seq, pos)) in places.iter_mut().enumerate() {
            let shard = i16::try_from(shard)?;
            let read = sqlx::query_as(READ).bind(shard).bind(*seq).bind(CHUNK);
            let rows: Vec<Row> = read.fetch_all(&mut conn).await?;
            idle = if rows.is_empty() { idle + 1 } else { 0 };
            let Some((last, ..)) = rows.last() else { continue };
            *seq = *last;
            sqlx::query(SAVE).bind(shard).bind(*last).execute(&mut conn).await?;
            for (_, topic, key, headers, payload) in rows {
                *pos += 1;
                let headers = native(&Headers::from_bytes(Bytes::from(headers))?, shard, *pos);
                send(&producer, &topic, (&key, &payload), headers)?;
                sent += 1;
            }
            progress(&producer, sent);
        }
    }
    producer.flush(Duration::from_secs(60))?;
    progress(&producer, sent);
    Ok(())
}

fn native(headers: &Headers, shard: i16, pos: u64) -> OwnedHeaders {
    let mut into = OwnedHeaders::new_with_capacity(16);
    for (key, value) in headers {
        into = into.insert(Header { key, value: Some(value) });
    }
    let (shard, pos) = (shard.to_string(), pos.to_string());
    into.insert(Header { key: "outbox-shard", value: Some(&shard) })
        .insert(Header { key: "outbox-pos", value: Some(&pos) })
}

/// Hands a record over, waiting while the queue is full.
fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    topic: &str,
    (key, payload): (&[u8], &[u8]),
    headers: OwnedHeaders,
) -> Result<(), Failure> {
    let mut record = BaseRecord::to(topic).key(key).payload(payload).headers(headers);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((e, _)) => return Err(e.into()),
        }
    }
}

fn progress(producer: &ThreadedProducer<DefaultProducerContext>, sent: u64) {
    let waiting = u64::try_from(producer.in_flight_count()).unwrap_or(0);
    let (published, cpu) = (sent.saturating_sub(waiting), cpu_micros("self"));
    let (failures, failure, shards) = (0, String::new(), 0);
    tell(&Told::Relay(Progress { at: now(), published, cpu, failures, failure, shards }));
}
