//! A process of a run: the real relay on the real adapters, or writers, or both.

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
use crate::probe;
use crate::process::{cpu_micros, cpu_micros_of_threads};
use crate::writers::{Committed, Writing, write};

/// The thread whose work is the writers', not the relay's.
const WRITERS: &str = "writers";

/// What a process does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    pub(crate) url: String,
    pub(crate) shards: u16,
    /// None when it does not relay.
    pub(crate) relaying: Option<Relaying>,
    /// None when it does not write.
    pub(crate) writing: Option<Writing>,
    /// The broker that it moves everything to, as the bare probe does; none when it does not.
    pub(crate) probing: Option<String>,
    /// Wakes and is woken by other processes.
    pub(crate) bridge: bool,
}

/// How a process relays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Relaying {
    pub(crate) bootstrap: String,
    pub(crate) exactly_once: bool,
    pub(crate) chunk: usize,
    /// How long a lease lasts; a publish may take a third of it.
    pub(crate) lease_ms: u64,
    pub(crate) connections: u16,
    pub(crate) owner: String,
    /// The name of the outbox.
    pub(crate) source: String,
    /// Properties of librdkafka, `key=value`.
    pub(crate) properties: Vec<String>,
    /// The process ends after so many messages.
    pub(crate) until: Option<u64>,
    /// It tells of every chunk, not only ten times a second.
    pub(crate) every: bool,
}

/// What a process says on a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Told {
    /// How its relay goes.
    Relay(Progress),
    /// What its writers wrote: they have ended.
    Written {
        committed: Vec<Committed>,
        /// Processor time that was not theirs, meanwhile, in microseconds.
        cpu: u64,
    },
}

/// How a relay goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
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

/// Runs a process until it is done or its starter is gone.
pub(crate) fn run(plan: &str) -> Result<(), Failure> {
    let plan: Plan = serde_json::from_str(plan)?;
    std::thread::spawn(|| {
        // The other end is never written to: it closes when the starter ends, however it ends.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(go(plan))?;
    std::process::exit(0)
}

async fn go(plan: Plan) -> Result<(), Failure> {
    if let Some(bootstrap) = &plan.probing {
        return probe::run(&plan.url, bootstrap, plan.shards).await;
    }
    let config = PgConfig { shards: plan.shards, ..PgConfig::new(plan.url.as_str()) };
    let database = PgDatabase::connect(config).await?;
    let bridge = plan.bridge.then(|| PgWakeBridge::new(database.clone(), BridgeConfig::default()));
    let bridged = async {
        match &bridge {
            Some(bridge) => drop(tokio::join!(bridge.tell(), bridge.listen())),
            None => std::future::pending().await,
        }
    };
    let work = async {
        let writers = plan.writing.clone().map(|writing| start_writers(&database, writing));
        match &plan.relaying {
            Some(relaying) => relay(&database, relaying).await?,
            None => drop(tokio::task::spawn_blocking(|| writers.map(|w| w.join().is_ok())).await),
        }
        Ok::<(), Failure>(())
    };
    tokio::select! {
        biased;
        done = work => done,
        () = bridged => Ok(()),
    }
}

/// Writes on a thread of its own, so that its processor time is told apart.
fn start_writers(database: &PgDatabase, writing: Writing) -> std::thread::JoinHandle<()> {
    let database = database.clone();
    let work = move || {
        let written = || -> Result<(), Failure> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let before = cpu_micros_of_threads(&[WRITERS]);
            let committed = runtime.block_on(write(&database, &writing))?;
            let cpu = cpu_micros_of_threads(&[WRITERS]).saturating_sub(before);
            tell(&Told::Written { committed, cpu });
            Ok(())
        };
        if let Err(e) = written() {
            eprintln!("writers: {e}");
            std::process::exit(2);
        }
    };
    let thread = std::thread::Builder::new().name(WRITERS.to_owned()).spawn(work);
    thread.unwrap_or_else(|e| {
        eprintln!("writers: {e}");
        std::process::exit(2)
    })
}

/// Relays until enough is published.
async fn relay(database: &PgDatabase, plan: &Relaying) -> Result<(), Failure> {
    let telling = Arc::new(Telling { every: plan.every, ..Telling::default() });
    let teller = Arc::clone(&telling);
    let (stop, shutdown) = Shutdown::new();
    let log =
        PgLogConfig { connections: plan.connections, ..PgLogConfig::new(plan.source.as_str()) };
    let log = Arc::new(PgOutboxLog::open(database, log).await?);
    let mode = if plan.exactly_once { Mode::Transactional } else { Mode::Idempotent };
    let split = |property: &String| property.split_once('=').map(|(k, v)| (k.into(), v.into()));
    let extra = plan.properties.iter().filter_map(split).collect();
    let kafka = KafkaConfig { mode, extra, ..KafkaConfig::new(&plan.bootstrap) };
    let transport = Arc::new(KafkaTransport::new(kafka, &plan.source)?);
    let lease = Duration::from_millis(plan.lease_ms);
    let (chunk_rows_max, publish_timeout) = (plan.chunk, lease / 3);
    let config = RelayConfig { lease, publish_timeout, chunk_rows_max, ..RelayConfig::default() };
    let owner = Owner::from(plan.owner.as_str());
    let relay = Relay::new(log, transport, amarra_tokio::environment(), owner, config)?;
    let relay = relay.observed_by(Arc::clone(&telling) as Arc<dyn RelayObserver>);
    telling.tell();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(50));
            teller.tell();
        }
    });
    let done = async {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let published = telling.published.load(Ordering::Relaxed);
            // Some may have been published twice: only what is read to its end is all of it.
            if plan.until.is_some_and(|until| published >= until) && telling.is_idle() {
                return stop.request();
            }
            if plan.until.is_none() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::join!(relay.run(shutdown), done);
    Ok(())
}

/// Says something on standard output.
pub(crate) fn tell(told: &Told) {
    let line = serde_json::to_string(told).unwrap_or_default();
    // Nobody reads any more when this fails, and the process ends soon.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Counts, and tells on standard output.
#[derive(Debug, Default)]
struct Telling {
    published: AtomicU64,
    failures: AtomicU64,
    failure: std::sync::Mutex<String>,
    shards: AtomicU64,
    /// What each shard's last read found.
    read: std::sync::Mutex<std::collections::BTreeMap<u16, usize>>,
    every: bool,
}

impl Telling {
    fn is_idle(&self) -> bool {
        self.read.lock().is_ok_and(|read| read.values().all(|rows| *rows == 0))
    }

    fn tell(&self) {
        tell(&Told::Relay(Progress {
            at: now(),
            published: self.published.load(Ordering::Relaxed),
            cpu: cpu_micros("self"),
            failures: self.failures.load(Ordering::Relaxed),
            failure: self.failure.lock().map(|f| f.clone()).unwrap_or_default(),
            shards: self.shards.load(Ordering::Relaxed),
        }));
    }

    fn failed(&self, why: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
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
            RelayEvent::Read { shard, rows, .. } => {
                if let Ok(mut read) = self.read.lock() {
                    read.insert(shard.0, *rows);
                }
            }
            RelayEvent::Started(_) => {
                self.shards.fetch_add(1, Ordering::Relaxed);
            }
            RelayEvent::Stopped(..) => {
                self.shards.fetch_sub(1, Ordering::Relaxed);
            }
            RelayEvent::Publish(_, e) => self.failed(e.to_string()),
            RelayEvent::Log(_, e) => self.failed(e.to_string()),
            RelayEvent::Parked(rows) => self.failed(format!("{} rows were parked", rows.len())),
            _ => {}
        }
    }
}
