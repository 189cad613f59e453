//! A relay process: the real relay on the real adapters, and what it tells whoever started it.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use amarra_kafka::config::Mode;
use amarra_kafka::{KafkaConfig, KafkaTransport};
use amarra_messaging::Shutdown;
use amarra_messaging::message::Owner;
use amarra_messaging::relay::{Relay, RelayConfig, RelayEvent, RelayObserver};
use amarra_postgres::wake::{BridgeConfig, PgWakeBridge};
use amarra_postgres::{PgConfig, PgDatabase, PgLogConfig, PgOutboxLog};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::process::cpu_micros;

/// What a relay process does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    pub(crate) url: String,
    pub(crate) shards: u16,
    pub(crate) bootstrap: String,
    pub(crate) exactly_once: bool,
    pub(crate) chunk: usize,
    pub(crate) connections: u16,
    pub(crate) lease_ms: u64,
    pub(crate) owner: String,
    /// It tells of wake-ups from other processes.
    pub(crate) bridge: bool,
    /// Properties of librdkafka, `key=value`.
    pub(crate) properties: Vec<String>,
    /// It ends after so many messages, or never.
    pub(crate) until: Option<u64>,
    /// It tells of every chunk, not only ten times a second.
    pub(crate) every: bool,
}

/// What a relay process says on a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// When, in microseconds since 1970.
    pub(crate) at: u64,
    /// Messages that the broker acknowledged so far.
    pub(crate) published: u64,
    /// Processor time used so far, in microseconds.
    pub(crate) cpu: u64,
    /// Failures so far, with the last one's words.
    pub(crate) failures: u64,
    pub(crate) failure: String,
    /// Shards held.
    pub(crate) shards: u64,
}

/// Microseconds since 1970: what processes of one machine compare.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

/// Runs a relay process until it is done or its starter is gone.
pub(crate) fn run(plan: &str) -> Result<(), Failure> {
    let plan: Plan = serde_json::from_str(plan)?;
    std::thread::spawn(|| {
        // The other end is never written to: it closes when the starter ends, however it ends.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    let telling = Arc::new(Telling { every: plan.every, ..Telling::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let teller = Arc::clone(&telling);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(100));
            teller.tell();
        }
    });
    runtime.block_on(async {
        let (stop, shutdown) = Shutdown::new();
        let (relay, database) = relay(&plan, &telling).await?;
        telling.tell();
        let bridge = PgWakeBridge::new(database, BridgeConfig::default());
        let done = async {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let published = telling.published.load(Ordering::Relaxed);
                if plan.until.is_some_and(|until| published >= until) {
                    telling.tell();
                    stop.request();
                    return;
                }
            }
        };
        let bridged = async {
            if plan.bridge {
                bridge.listen().await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let relayed = async {
            tokio::join!(relay.run(shutdown), done);
        };
        tokio::select! {
            biased;
            () = relayed => {}
            () = bridged => {}
        }
        Ok::<(), Failure>(())
    })?;
    std::process::exit(0)
}

/// Puts the relay of a plan together.
pub(crate) async fn relay(
    plan: &Plan,
    observer: &Arc<Telling>,
) -> Result<(Relay, PgDatabase), Failure> {
    let config = PgConfig { shards: plan.shards, ..PgConfig::new(plan.url.as_str()) };
    let database = PgDatabase::connect(config).await?;
    Ok((relay_on(&database, plan, observer).await?, database))
}

/// Puts the relay of a plan together on a database of this process.
pub(crate) async fn relay_on(
    database: &PgDatabase,
    plan: &Plan,
    observer: &Arc<Telling>,
) -> Result<Relay, Failure> {
    let log = PgLogConfig { connections: plan.connections, ..PgLogConfig::new("orders") };
    let log = Arc::new(PgOutboxLog::open(database, log).await?);
    let mode = if plan.exactly_once { Mode::Transactional } else { Mode::Idempotent };
    let lease = Duration::from_millis(plan.lease_ms);
    let split = |property: &String| property.split_once('=').map(|(k, v)| (k.into(), v.into()));
    let extra = plan.properties.iter().filter_map(split).collect();
    let kafka = KafkaConfig { mode, extra, ..KafkaConfig::new(&plan.bootstrap) };
    let transport = Arc::new(KafkaTransport::new(kafka, "orders")?);
    let config = RelayConfig { lease, chunk_rows_max: plan.chunk, ..RelayConfig::default() };
    let owner = Owner::from(plan.owner.as_str());
    let relay = Relay::new(log, transport, amarra_tokio::environment(), owner, config)?;
    Ok(relay.observed_by(Arc::clone(observer) as Arc<dyn RelayObserver>))
}

/// Counts, and tells on standard output.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    pub(crate) published: AtomicU64,
    failures: AtomicU64,
    failure: std::sync::Mutex<String>,
    shards: AtomicU64,
    every: bool,
}

impl Telling {
    fn tell(&self) {
        let told = Told {
            at: now(),
            published: self.published.load(Ordering::Relaxed),
            cpu: cpu_micros("self"),
            failures: self.failures.load(Ordering::Relaxed),
            failure: self.failure.lock().map(|f| f.clone()).unwrap_or_default(),
            shards: self.shards.load(Ordering::Relaxed),
        };
        let line = serde_json::to_string(&told).unwrap_or_default();
        // Nobody reads any more when this fails, and the process ends soon.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    fn failed(&self, why: String) {
        if self.failures.fetch_add(1, Ordering::Relaxed) < 20 {
            eprintln!("relay: {why}");
        }
        if let Ok(mut failure) = self.failure.lock() {
            *failure = why;
        }
    }
}

impl RelayObserver for Telling {
    fn observe(&self, event: &RelayEvent<'_>) {
        match event {
            RelayEvent::Published { rows, .. } => {
                self.published.fetch_add(*rows as u64, Ordering::Relaxed);
                if self.every {
                    self.tell();
                }
            }
            RelayEvent::Started(_) => {
                self.shards.fetch_add(1, Ordering::Relaxed);
            }
            RelayEvent::Stopped(_, why) => {
                self.shards.fetch_sub(1, Ordering::Relaxed);
                self.failed(format!("a shard stopped: {why:?}"));
            }
            RelayEvent::Publish(_, e) => self.failed(e.to_string()),
            RelayEvent::Log(_, e) => self.failed(e.to_string()),
            RelayEvent::Parked(rows) => self.failed(format!("{} rows were parked", rows.len())),
            _ => {}
        }
    }
}
