//! Databases for the tests of the outbox, each fresh, on one private server a version.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use amarra_core::envelope::{Actor, Envelope, TraceParent};
use amarra_core::id::uuid_v7;
use amarra_core::{AggregateId, Entropy, PartitionKey, Timestamp, Version};
use amarra_messaging::Topic;
use amarra_messaging::message::Outgoing;
use amarra_postgres::{Migrations, PgConfig, PgDatabase, PgLogConfig, PgOutboxLog, migrate};
use bytes::Bytes;
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
