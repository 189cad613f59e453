//! Fills an outbox as fast as the server takes rows: the bytes that an append writes, by COPY.

use amarra_core::Timestamp;
use amarra_messaging::murmur2::choose;
use amarra_messaging::{Outgoing, wire};
use amarra_postgres::PgConfig;
use sqlx::{Connection as _, PgConnection};

use crate::Failure;
use crate::message::Maker;

/// Rows of one transaction: a backlog comes from many.
const TRANSACTION: u64 = 20_000;
/// Bytes sent at once.
const BUFFER: usize = 1 << 20;

const COPY: &str = "COPY outbox (shard, topic, key, ce_id, headers, payload) \
                    FROM STDIN WITH (FORMAT binary)";

/// Appends messages `0..rows`.
pub(crate) async fn load(config: &PgConfig, maker: &Maker, rows: u64) -> Result<(), Failure> {
    let mut conn = PgConnection::connect(&config.url).await?;
    let mut n = 0;
    while n < rows {
        let end = (n + TRANSACTION).min(rows);
        let mut copy = conn.copy_in_raw(COPY).await?;
        let mut buffer = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        while n < end {
            put(&mut buffer, &maker.make(n, Timestamp::from_micros(1_700_000_000_000_000)), config);
            if buffer.len() >= BUFFER {
                copy.send(std::mem::take(&mut buffer)).await?;
            }
            n += 1;
        }
        buffer.extend_from_slice(&(-1_i16).to_be_bytes());
        copy.send(buffer).await?;
        copy.finish().await?;
    }
    // What autovacuum has done long since to a backlog that grew by and by.
    sqlx::query("VACUUM (ANALYZE) outbox").execute(&mut conn).await?;
    sqlx::query("CHECKPOINT").execute(&mut conn).await?;
    conn.close().await?;
    Ok(())
}

fn put(buffer: &mut Vec<u8>, message: &Outgoing, config: &PgConfig) {
    let record = wire::encode(&message.envelope, None);
    let shard = choose(&record.key, u32::from(config.shards)).unwrap_or(0);
    buffer.extend_from_slice(&6_i16.to_be_bytes());
    field(buffer, &i16::try_from(shard).unwrap_or(0).to_be_bytes());
    field(buffer, message.topic.as_str().as_bytes());
    field(buffer, &record.key);
    field(buffer, message.envelope.id.as_uuid().as_bytes());
    field(buffer, record.headers.as_bytes());
    field(buffer, &record.value);
}

fn field(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.extend_from_slice(&i32::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
    buffer.extend_from_slice(bytes);
}
