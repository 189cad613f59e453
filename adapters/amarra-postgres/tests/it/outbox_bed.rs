//! Databases for the tests of the outbox, each fresh, on one private server a version; the tests of
//! amarra-postgres-wal use it too.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use amarra_core::envelope::{Actor, Envelope, TraceParent};
use amarra_core::id::uuid_v7;
use amarra_core::{AggregateId, Entropy, PartitionKey, Timestamp, Version};
use amarra_messaging::message::{Outgoing, Owner, Seq};
use amarra_messaging::outbox::Cursor;
use amarra_messaging::{OutboxLog, Topic};
use amarra_postgres::{
    Migrations, PgConfig, PgDatabase, PgLogConfig, PgOutbox, PgOutboxLog, migrate,
};
use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testbed::{PgOptions, PgVersion, Postgres};

static SERVERS: [OnceLock<Postgres>; 2] = [OnceLock::new(), OnceLock::new()];
static NEXT: AtomicU64 = AtomicU64::new(0);

pub(crate) fn server(version: PgVersion) -> &'static Postgres {
    let slot = &SERVERS[usize::from(matches!(version, PgVersion::V15))];
    slot.get_or_init(|| Postgres::start(version, PgOptions::default()).expect("a server"))
}

/// Makes a database with the schema.
pub(crate) async fn database(version: PgVersion) -> PgDatabase {
    let name = format!("outbox_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let url = tokio::task::spawn_blocking(move || {
        let server = server(version);
        server.create_database(&name).expect("a database");
        server.url(&name)
    });
    let config = PgConfig::new(url.await.expect("a database"));
    migrate(&config, &Migrations::default()).await.expect("migrate");
    PgDatabase::connect(config).await.expect("connect")
}

pub(crate) async fn log(db: &PgDatabase) -> PgOutboxLog {
    PgOutboxLog::open(db, PgLogConfig::new("test")).await.expect("a log")
}

/// Makes a message of a key, at a version.
pub(crate) fn message(entropy: &dyn Entropy, key: &str, version: u64) -> Outgoing {
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    let id = uuid_v7(now, entropy);
    Outgoing {
        topic: Topic::from("things"),
        envelope: Envelope {
            id: id.into(),
            source: "/test".into(),
            kind: "ThingChanged".into(),
            schema_version: 1,
            subject: AggregateId::new("thing", key),
            subject_version: Version::new(version),
            partition_key: PartitionKey::from(key),
            correlation: id.into(),
            causation: None,
            actor: Actor::Service("test".into()),
            traceparent: TraceParent::root(entropy),
            time: now,
            data: Bytes::from_static(&[b'x'; 256]),
        },
    }
}

/// Waits until every connection of a relay is one that its server has not ended.
pub(crate) async fn reconnected(log: &dyn OutboxLog) {
    for _ in 0..600 {
        let leases = log.lease(&Owner::from("test"), 100, Duration::from_secs(60)).await;
        let mut answers = true;
        for lease in leases.iter().flatten() {
            answers &= log.resume(lease).await.is_ok();
        }
        if leases.is_ok() && answers {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the relay does not come back");
}

/// Relays as `test`, at most `chunks` chunks of `limit` rows of each shard: key and version of what
/// was read, in order.
pub(crate) async fn drain(log: &dyn OutboxLog, limit: usize, chunks: usize) -> Vec<(String, u64)> {
    let mut read = Vec::new();
    let leases = log.lease(&Owner::from("test"), 100, Duration::from_secs(60)).await;
    for lease in leases.expect("leases") {
        let mut cursor = log.resume(&lease).await.expect("resume").cursor;
        for _ in 0..chunks {
            let chunk = log.next_chunk(&lease, &cursor, limit).await.expect("a chunk");
            for row in &chunk.rows {
                let envelope = amarra_messaging::wire::envelope(&row.record).expect("a message");
                read.push((envelope.partition_key.to_string(), envelope.subject_version.get()));
                cursor = Cursor { last_seq: row.seq, pos: cursor.pos.next(), ..cursor };
            }
            cursor.cur = Some(chunk.cur.clone());
            if chunk.last {
                cursor = Cursor { prev: chunk.cur, cur: None, last_seq: Seq(0), ..cursor };
            }
            log.checkpoint(&lease, &cursor).await.expect("checkpoint");
            if chunk.last {
                break;
            }
        }
    }
    read
}

/// Commits messages of `key` at `versions`, each in a transaction of its own; no relay is woken.
pub(crate) async fn append(
    db: &PgDatabase,
    entropy: &dyn Entropy,
    key: &str,
    versions: RangeInclusive<u64>,
) {
    for version in versions {
        append_at_once(db, entropy, key, version..=version).await;
    }
}

/// Commits messages of `key` at `versions`, all in one transaction; no relay is woken.
pub(crate) async fn append_at_once(
    db: &PgDatabase,
    entropy: &dyn Entropy,
    key: &str,
    versions: RangeInclusive<u64>,
) {
    let messages: Vec<_> = versions.map(|version| message(entropy, key, version)).collect();
    let mut tx = db.pool().begin().await.expect("begin");
    PgOutbox::new(db.config()).enqueue(&mut tx, &messages).await.expect("enqueue");
    tx.commit().await.expect("commit");
}

/// Asserts that the versions of each key are exactly those of `expect`, in order.
#[track_caller]
pub(crate) fn assert_read(read: &[(String, u64)], expect: &[(&str, RangeInclusive<u64>)]) {
    let mut found: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (key, version) in read {
        found.entry(key).or_default().push(*version);
    }
    let expect: BTreeMap<_, Vec<u64>> =
        expect.iter().map(|(key, versions)| (*key, versions.clone().collect())).collect();
    assert_eq!(found, expect);
}

/// Runs SQL as the superuser, outside of every pool.
pub(crate) async fn execute(db: &PgDatabase, sql: &str) {
    let mut conn = PgConnection::connect(&db.config().url).await.expect("a connection");
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await;
    done.unwrap_or_else(|e| panic!("{sql}: {e}"));
}
