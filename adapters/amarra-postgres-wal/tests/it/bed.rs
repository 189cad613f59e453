//! Databases with an outbox and a publication, and logs that follow them, on private servers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use amarra_core::envelope::{Actor, Envelope, TraceParent};
use amarra_core::id::uuid_v7;
use amarra_core::{AggregateId, Entropy, PartitionKey, Timestamp, Version};
use amarra_messaging::message::{Outgoing, Owner, Seq};
use amarra_messaging::outbox::{Cursor, Lease};
use amarra_messaging::{OutboxLog, Shutdown, Topic};
use amarra_postgres::{
    Migrations, PgConfig, PgDatabase, PgLogConfig, PgOutbox, PgOutboxLog, migrate,
};
use amarra_postgres_wal::{WalConfig, WalOutboxLog, publish};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testbed::{PgOptions, PgVersion, Postgres};
use tokio::task::AbortHandle;

static SERVERS: [OnceLock<Postgres>; 2] = [OnceLock::new(), OnceLock::new()];
static NEXT: AtomicU64 = AtomicU64::new(0);

pub(crate) fn server(version: PgVersion) -> &'static Postgres {
    let slot = &SERVERS[usize::from(matches!(version, PgVersion::V15))];
    slot.get_or_init(|| Postgres::start(version, PgOptions::default()).expect("a server"))
}

/// Makes a database with the schema, and publishes its outbox.
pub(crate) async fn prepare(server: &Postgres, name: &str) -> PgConfig {
    tokio::task::block_in_place(|| server.create_database(name)).expect("a database");
    let config = PgConfig::new(server.url(name));
    migrate(&config, &Migrations::default()).await.expect("migrate");
    let mut conn = PgConnection::connect(&config.url).await.expect("a connection");
    publish(&mut conn, "amarra_outbox").await.expect("a publication");
    publish(&mut conn, "amarra_outbox").await.expect("the same again");
    config
}

/// A fresh database on a shared server.
pub(crate) async fn database(version: PgVersion) -> PgDatabase {
    let name = format!("wal_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let server = tokio::task::block_in_place(|| server(version));
    PgDatabase::connect(prepare(server, &name).await).await.expect("connect")
}

pub(crate) fn options(db: &PgDatabase) -> PgConnectOptions {
    db.config().url.parse().expect("a url")
}

/// How the tests follow the database, at `addr`, patient enough to find out whether rows come.
pub(crate) fn wal_config(db: &PgDatabase, addr: SocketAddr) -> WalConfig {
    let name = options(db).get_database().expect("a name").to_owned();
    WalConfig {
        port: addr.port(),
        catch_up: Duration::from_millis(500),
        ..WalConfig::new(addr.ip().to_string(), "app", "", name)
    }
}

/// A log with its stream; dropped, both end as if their process had been killed.
pub(crate) struct Wal {
    pub(crate) log: Arc<WalOutboxLog>,
    task: AbortHandle,
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn table(db: &PgDatabase) -> Arc<PgOutboxLog> {
    Arc::new(PgOutboxLog::open(db, PgLogConfig::new("test")).await.expect("a log"))
}

/// Follows a database, and waits until the stream runs.
pub(crate) async fn wal(db: &PgDatabase, config: WalConfig) -> Wal {
    let opened = WalOutboxLog::open(table(db).await, options(db), config).await;
    let (log, stream) = opened.expect("a log to follow");
    let task = tokio::spawn(stream.run(Shutdown::never())).abort_handle();
    let wal = Wal { log: Arc::new(log), task };
    wal.following().await;
    wal
}

impl Wal {
    pub(crate) async fn following(&self) {
        until(|| self.log.status().following).await;
    }
}

/// Waits for a condition that must come about.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come about");
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
            data: vec![b'x'; 256].into(),
        },
    }
}

/// Commits messages of `key` at `versions`, all in one transaction.
pub(crate) async fn append_at_once(
    db: &PgDatabase,
    entropy: &dyn Entropy,
    key: &str,
    versions: std::ops::RangeInclusive<u64>,
) {
    let messages: Vec<_> = versions.map(|version| message(entropy, key, version)).collect();
    let mut tx = db.pool().begin().await.expect("begin");
    PgOutbox::new(db.config()).enqueue(&mut tx, &messages).await.expect("enqueue");
    tx.commit().await.expect("commit");
}

/// Commits messages of `key` at `versions`, each in a transaction of its own.
pub(crate) async fn append(
    db: &PgDatabase,
    entropy: &dyn Entropy,
    key: &str,
    versions: std::ops::RangeInclusive<u64>,
) {
    for version in versions {
        append_at_once(db, entropy, key, version..=version).await;
    }
}

pub(crate) async fn leases(log: &dyn OutboxLog, owner: &str, ttl: Duration) -> Vec<Lease> {
    log.lease(&Owner::from(owner), 100, ttl).await.expect("leases")
}

/// Relays as `test` until each shard's batch ends or `chunks` were read of it: keys and versions.
pub(crate) async fn drain(log: &dyn OutboxLog, limit: usize, chunks: usize) -> Vec<(String, u64)> {
    let mut read = Vec::new();
    for lease in leases(log, "test", Duration::from_secs(60)).await {
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

/// Asserts that the versions of each key are exactly those of `expect`, in order.
#[track_caller]
pub(crate) fn assert_read(
    read: &[(String, u64)],
    expect: &[(&str, std::ops::RangeInclusive<u64>)],
) {
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
