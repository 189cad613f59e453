//! Whether the process can do its work: what `/readyz` says.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use amarra_core::Environment;
use amarra_messaging::relay::{RelayEvent, RelayObserver, RelayStats};
use amarra_messaging::runtime::{RuntimeEvent, RuntimeObserver, RuntimeStats};
use amarra_store::Store;
use http::StatusCode;
use serde_json::{Value, json};

/// How long a database may take to answer a probe.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// The time between two looks while somebody waits for readiness.
const READY_POLL: Duration = Duration::from_millis(50);
/// For how long a failed call to a server counts: those that go on failing fail more often.
const FAILURE_COUNTS_FOR: Duration = Duration::from_secs(5);

/// What has to be in order before the process is ready.
#[derive(Debug)]
pub(crate) struct Health {
    env: Environment,
    stopping: AtomicBool,
    /// False while the process is still put together.
    open: AtomicBool,
    parts: Mutex<Vec<Part>>,
}

/// One part of the process.
#[derive(Debug, Clone)]
enum Part {
    Store(&'static str, Arc<dyn Store>),
    Relay(&'static str, Arc<RelayWatch>),
    Member(String, Arc<MemberWatch>),
}

impl Health {
    /// Starts with nothing to look at, and not ready.
    pub(crate) fn new(env: Environment) -> Self {
        Self {
            env,
            stopping: AtomicBool::new(false),
            open: AtomicBool::new(false),
            parts: Mutex::default(),
        }
    }

    /// The process is put together.
    pub(crate) fn opened(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// The process begins to stop: from now on it is not ready.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Looks at a database from now on.
    pub(crate) fn store(&self, service: &'static str, store: Arc<dyn Store>) {
        self.add(Part::Store(service, store));
    }

    /// Looks at a relay from now on, through what it returns.
    pub(crate) fn relay(&self, service: &'static str) -> Arc<RelayWatch> {
        let watch = Arc::new(RelayWatch::new(self.env.clone()));
        self.add(Part::Relay(service, Arc::clone(&watch)));
        watch
    }

    /// Looks at a group member from now on, through what it returns.
    pub(crate) fn member(&self, service: &str, group: &str) -> Arc<MemberWatch> {
        let watch = Arc::new(MemberWatch::new(self.env.clone()));
        self.add(Part::Member(format!("{service}: consumer {group}"), Arc::clone(&watch)));
        watch
    }

    fn add(&self, part: Part) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(part);
    }

    /// Says whether the process is ready, and what is missing.
    pub(crate) async fn readiness(&self) -> (StatusCode, Value) {
        let mut missing = Vec::new();
        if self.stopping.load(Ordering::Relaxed) {
            missing.push("the process is stopping".to_owned());
        } else if !self.open.load(Ordering::Relaxed) {
            missing.push("the process is starting".to_owned());
        }
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let looks = parts.iter().map(|part| self.look(part));
        missing.extend(futures_util::future::join_all(looks).await.into_iter().flatten());
        let ready = missing.is_empty();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, json!({"ready": ready, "missing": missing}))
    }

    /// Waits until the process is ready.
    pub(crate) async fn until_ready(&self, env: &Environment) {
        while self.readiness().await.0 != StatusCode::OK {
            env.sleep(READY_POLL).await;
        }
    }

    async fn look(&self, part: &Part) -> Option<String> {
        match part {
            Part::Store(service, store) => {
                // No timer is of this kind: the question only proves that there is an answer.
                let asked = self.env.timeout(PROBE_PATIENCE, store.next_due("probe")).await;
                let silent = !matches!(asked, Ok(Ok(_)));
                silent.then(|| format!("{service}: the database does not answer"))
            }
            Part::Relay(service, watch) if watch.fails() => {
                Some(format!("{service}: the relay does not reach its outbox or the broker"))
            }
            Part::Relay(service, watch) if !watch.has_begun() => {
                Some(format!("{service}: the relay has no shard yet"))
            }
            Part::Member(name, watch) if watch.fails() => {
                Some(format!("{name} does not reach the broker"))
            }
            Part::Member(name, watch) if watch.partitions() == 0 => {
                Some(format!("{name} is assigned no partition"))
            }
            Part::Relay(..) | Part::Member(..) => None,
        }
    }
}

/// The last failure of something, by monotonic time.
#[derive(Debug)]
struct Failures {
    env: Environment,
    /// Microseconds, zero for none.
    last: AtomicU64,
}

impl Failures {
    fn new(env: Environment) -> Self {
        Self { env, last: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        self.env.monotonic().as_nanos() / 1000
    }

    fn note(&self) {
        self.last.store(self.now().max(1), Ordering::Relaxed);
    }

    fn clear(&self) {
        self.last.store(0, Ordering::Relaxed);
    }

    fn lately(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let passed = Duration::from_micros(self.now().saturating_sub(last));
        last != 0 && passed < FAILURE_COUNTS_FOR
    }
}

/// Watches a relay: its counters, and whether it gets anywhere.
#[derive(Debug)]
pub(crate) struct RelayWatch {
    /// What it did.
    pub(crate) stats: RelayStats,
    begun: AtomicBool,
    failures: Failures,
}

impl RelayWatch {
    fn new(env: Environment) -> Self {
        let (stats, begun) = (RelayStats::default(), AtomicBool::new(false));
        Self { stats, begun, failures: Failures::new(env) }
    }

    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    fn fails(&self) -> bool {
        self.failures.lately()
    }
}

impl RelayObserver for RelayWatch {
    fn observe(&self, event: &RelayEvent<'_>) {
        match event {
            RelayEvent::Started(_) => self.begun.store(true, Ordering::Relaxed),
            RelayEvent::Publish(..) | RelayEvent::Log(..) => self.failures.note(),
            RelayEvent::Published { .. } => self.failures.clear(),
            _ => {}
        }
        self.stats.observe(event);
    }
}

/// Watches a group member: its counters, its partitions, and whether it gets anywhere.
#[derive(Debug)]
pub(crate) struct MemberWatch {
    /// What it did.
    pub(crate) stats: RuntimeStats,
    partitions: AtomicUsize,
    /// Microseconds.
    age: AtomicU64,
    failures: Failures,
}

impl MemberWatch {
    fn new(env: Environment) -> Self {
        let (stats, failures) = (RuntimeStats::default(), Failures::new(env));
        Self { stats, partitions: AtomicUsize::new(0), age: AtomicU64::new(0), failures }
    }

    /// A batch was applied whose first message was so old.
    pub(crate) fn applied(&self, age: Duration) {
        self.age.store(u64::try_from(age.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns how old the first message of the last batch was when it was applied.
    pub(crate) fn age(&self) -> Duration {
        Duration::from_micros(self.age.load(Ordering::Relaxed))
    }

    /// Returns how many partitions are its own.
    pub(crate) fn partitions(&self) -> usize {
        self.partitions.load(Ordering::Relaxed)
    }

    fn fails(&self) -> bool {
        self.failures.lately()
    }
}

impl RuntimeObserver for MemberWatch {
    fn observe(&self, event: &RuntimeEvent<'_>) {
        match event {
            RuntimeEvent::Assigned(partitions) => {
                self.partitions.fetch_add(partitions.len(), Ordering::Relaxed);
            }
            RuntimeEvent::Revoked(partitions) => {
                let taken = |n: usize| Some(n.saturating_sub(partitions.len()));
                let order = Ordering::Relaxed;
                let _ = self.partitions.fetch_update(order, order, taken);
            }
            RuntimeEvent::Consumer(_) => self.failures.note(),
            RuntimeEvent::Applied { .. } | RuntimeEvent::Committed(_) => self.failures.clear(),
            _ => {}
        }
        self.stats.observe(event);
    }
}
