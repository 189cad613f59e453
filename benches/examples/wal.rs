//! Measures relays of one outbox side by side: told by the log, by its own process, by another one.
#![allow(
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::float_arithmetic,
    reason = "a program on a developer's machine: it prints, and computes with what it measured"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use amarra_core::envelope::{Actor, Envelope, TraceParent};
use amarra_core::id::uuid_v7;
use amarra_core::{AggregateId, PartitionKey, SeededEntropy, Timestamp, Version};
use amarra_messaging::message::Outgoing;
use amarra_messaging::outbox::Lease;
use amarra_messaging::relay::{Relay, RelayConfig};
use amarra_messaging::transport::{Publish, PublishError, Session};
use amarra_messaging::{OutboxLog, Shutdown, Topic, Transport};
use amarra_postgres::{
    BridgeConfig, Migrations, PgConfig, PgDatabase, PgLogConfig, PgOutbox, PgOutboxLog,
    PgWakeBridge, migrate,
};
use amarra_postgres_wal::{WalConfig, WalOutboxLog, publish};
use async_trait::async_trait;
use sqlx::{Connection as _, PgConnection};
use testbed::{PgOptions, PgVersion, Postgres};

const WRITERS: usize = 8;
const RATE: usize = 1000;
const SECONDS: usize = 10;
const ROWS: usize = 200_000;
const AT_ONCE: usize = 1000;

/// Whatever went wrong, in words.
type Failed = Box<dyn std::error::Error + Send + Sync>;

/// How the relay comes to know of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// The write-ahead log tells it, and holds them.
    Log,
    /// The table's relay, in the process of the writers.
    Woken,
    /// The table's relay, in another one, told by notifications.
    Bridge,
}

/// When message `n` was committed, as its writer saw it, and published.
#[derive(Debug)]
struct Times {
    committed: Vec<OnceLock<Instant>>,
    published: Vec<OnceLock<Instant>>,
    count: AtomicUsize,
}

impl Times {
    fn new(messages: usize) -> Arc<Self> {
        let empty = || (0..messages).map(|_| OnceLock::new()).collect();
        Arc::new(Self { committed: empty(), published: empty(), count: AtomicUsize::new(0) })
    }

    async fn all_published(&self) {
        while self.count.load(Ordering::Relaxed) < self.published.len() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A broker that takes note of the time.
#[derive(Debug, Clone)]
struct Clocked(Arc<Times>);

#[async_trait]
impl Transport for Clocked {
    async fn open(&self, _: &Lease) -> Result<Box<dyn Session>, PublishError> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Session for Clocked {
    async fn publish(&mut self, records: &[Publish]) -> Result<(), PublishError> {
        let now = Instant::now();
        for publish in records {
            let number = publish.record.value.first_chunk().copied().map(usize::from_be_bytes);
            let Some(place) = number.and_then(|n| self.0.published.get(n)) else { continue };
            if place.set(now).is_ok() {
                self.0.count.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

fn message(entropy: &SeededEntropy, number: usize) -> Outgoing {
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    let id = uuid_v7(now, entropy);
    let key = format!("key-{}", number % 1000);
    let mut data = vec![b'x'; 256];
    data.splice(..8, number.to_be_bytes());
    Outgoing {
        topic: Topic::from("things"),
        envelope: Envelope {
            id: id.into(),
            source: "/bench".into(),
            kind: "ThingChanged".into(),
            schema_version: 1,
            subject: AggregateId::new("thing", key.as_str()),
            subject_version: Version::new(1),
            partition_key: PartitionKey::from(key.as_str()),
            correlation: id.into(),
            causation: None,
            actor: Actor::Service("bench".into()),
            traceparent: TraceParent::root(entropy),
            time: now,
            data: data.into(),
        },
    }
}

/// A database that is relayed: what the writers use, and what stops the relay.
struct Bed {
    writers: PgDatabase,
    log: Option<Arc<WalOutboxLog>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn start(
    server: &Postgres,
    name: &str,
    case: Case,
    times: &Arc<Times>,
) -> Result<Bed, Failed> {
    server.create_database(name)?;
    let config = PgConfig::new(server.url(name));
    migrate(&config, &Migrations::default()).await?;
    let mut conn = PgConnection::connect(&config.url).await?;
    publish(&mut conn, "amarra_outbox").await?;
    let writers = PgDatabase::connect(config.clone()).await?;
    let database = match case {
        Case::Woken => writers.clone(),
        _ => PgDatabase::connect(config.clone()).await?,
    };
    let shards = database.config().shards;
    let table = PgLogConfig { connections: shards, ..PgLogConfig::new("bench") };
    let table = Arc::new(PgOutboxLog::open(&database, table).await?);
    let (mut tasks, mut log) = (Vec::new(), None);
    let mut relayed: Arc<dyn OutboxLog> = table.clone();
    if case == Case::Log {
        let url = config.url.parse()?;
        let addr = server.addr();
        let config = WalConfig {
            port: addr.port(),
            connections: u32::from(shards),
            ..WalConfig::new(addr.ip().to_string(), "app", "", name)
        };
        let opened = WalOutboxLog::open(table, url, config).await?;
        let followed = Arc::new(opened.0);
        tasks.push(tokio::spawn(opened.1.run(Shutdown::never())));
        while !followed.status().following {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (relayed, log) = (followed.clone(), Some(followed));
    }
    if case == Case::Bridge {
        let tells = PgWakeBridge::new(writers.clone(), BridgeConfig::default());
        let listens = PgWakeBridge::new(database, BridgeConfig::default());
        tasks.push(tokio::spawn(async move { tells.tell().await }));
        tasks.push(tokio::spawn(async move { listens.listen().await }));
    }
    let (env, config) = (amarra_tokio::environment(), RelayConfig::default());
    let transport = Arc::new(Clocked(Arc::clone(times)));
    let relay = Relay::new(relayed, transport, env, "bench".into(), config)?;
    tasks.push(tokio::spawn(relay.run(Shutdown::never())));
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(Bed { writers, log, tasks })
}

/// Commits messages in one transaction.
async fn commit(db: &PgDatabase, messages: &[Outgoing]) -> Result<(), Failed> {
    let mut tx = db.pool().begin().await?;
    let outbox = PgOutbox::new(db.config());
    outbox.enqueue(&mut tx, messages).await?;
    tx.commit().await?;
    db.wake().outbox_committed_to(outbox.touched(messages));
    Ok(())
}

async fn latency(server: &Postgres, name: &str, case: Case) -> Result<(), Failed> {
    let times = Times::new(RATE * SECONDS);
    let bed = start(server, name, case, &times).await?;
    let begin = Instant::now();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (db, times) = (bed.writers.clone(), Arc::clone(&times));
        writers.push(tokio::spawn(async move {
            let entropy = SeededEntropy::new(writer as u64, "bench");
            for number in (writer..RATE * SECONDS).step_by(WRITERS) {
                let due = begin + Duration::from_secs(1) * number as u32 / RATE as u32;
                tokio::time::sleep_until(due.into()).await;
                commit(&db, &[message(&entropy, number)]).await?;
                let _ = times.committed.get(number).map(|place| place.set(Instant::now()));
            }
            Ok::<_, Failed>(())
        }));
    }
    for writer in writers {
        writer.await??;
    }
    times.all_published().await;
    let pairs = times.committed.iter().zip(&times.published);
    let wait = |(c, p): (&OnceLock<Instant>, &OnceLock<Instant>)| {
        Some(p.get()?.saturating_duration_since(*c.get()?))
    };
    let mut waits: Vec<_> = pairs.filter_map(wait).collect();
    waits.sort_unstable();
    let at = |share: usize| waits.get(waits.len() * share / 1000);
    let ms = |wait: Option<&Duration>| wait.map_or(0.0, Duration::as_secs_f64) * 1000.0;
    println!(
        "{case:?} latency p50 {:.2} ms, p99 {:.2} ms{}",
        ms(at(500)),
        ms(at(990)),
        share(&bed)
    );
    Ok(())
}

async fn load(server: &Postgres, name: &str, case: Case) -> Result<(), Failed> {
    let times = Times::new(ROWS);
    let bed = start(server, name, case, &times).await?;
    let entropy = SeededEntropy::new(1, "bench");
    let messages: Vec<_> = (0..ROWS).map(|number| message(&entropy, number)).collect();
    let begin = Instant::now();
    for part in messages.chunks(AT_ONCE) {
        commit(&bed.writers, part).await?;
    }
    let written = ROWS as f64 / begin.elapsed().as_secs_f64();
    times.all_published().await;
    let relayed = ROWS as f64 / begin.elapsed().as_secs_f64();
    println!("{case:?} load written {written:.0}/s, published {relayed:.0}/s{}", share(&bed));
    Ok(())
}

fn share(bed: &Bed) -> String {
    let status = bed.log.as_ref().map(|log| log.status());
    status.map_or_else(String::new, |status| {
        format!(" ({} rows of the log, {} of the table)", status.from_log, status.from_table)
    })
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failed> {
    let options = PgOptions { fsync: true, ..PgOptions::default() };
    let server = Postgres::start(PgVersion::V18, options)?;
    for round in 0..3 {
        for case in [Case::Log, Case::Woken, Case::Bridge] {
            let name = format!("{case:?}_{round}").to_lowercase();
            latency(&server, &format!("latency_{name}"), case).await?;
            if case != Case::Bridge {
                load(&server, &format!("load_{name}"), case).await?;
            }
        }
    }
    Ok(())
}
