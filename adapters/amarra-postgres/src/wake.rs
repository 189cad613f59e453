//! Signals between the writers and the waiting readers, of one process and across processes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use amarra_messaging::signal::Signal;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use crate::database::PgDatabase;
use crate::timers::Alarm;

/// The channel of every process of one database; a database has one outbox.
const CHANNEL: &str = "amarra_outbox";

/// Shards are told apart by their numbers modulo this.
const SLOTS: usize = 32;

/// The outbox shards that a transaction appended to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Touched(u32);

impl Touched {
    /// Adds a shard.
    pub(crate) fn add(&mut self, shard: u16) {
        self.0 |= 1 << (usize::from(shard) % SLOTS);
    }

    /// Adds those of another transaction, or of another append of the same one.
    pub fn merge(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Tells whether nothing was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

/// What one process's writers tell its readers.
#[derive(Debug, Default)]
pub struct Wake {
    /// Told after a commit that appended outbox rows, here or elsewhere.
    pub(crate) outbox: Signal,
    /// How often rows may have been committed to any shard, and to some: what was told of a shard
    /// is the sum.
    any: AtomicU64,
    some: [AtomicU64; SLOTS],
    /// Told after such a commit of this process alone: what other processes must be told.
    local: Signal,
    /// Told after a commit that set a timer.
    pub(crate) timers: Alarm,
}

impl Wake {
    /// Tells the relays that outbox rows were committed; call it after the commit, never inside
    /// the transaction.
    pub fn outbox_committed(&self) {
        self.outbox_changed();
        self.local.raise();
    }

    /// Tells it to the relays of these shards alone, which spares the others a look.
    pub fn outbox_committed_to(&self, shards: Touched) {
        for (slot, count) in self.some.iter().enumerate() {
            if shards.0 & (1 << slot) != 0 {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
        self.outbox.raise();
        self.local.raise();
    }

    /// Tells the relays of this process, of whatever shard.
    pub(crate) fn outbox_changed(&self) {
        self.any.fetch_add(1, Ordering::SeqCst);
        self.outbox.raise();
    }

    /// Counts how often rows may have been committed to a shard.
    pub(crate) fn told_of(&self, shard: u16) -> u64 {
        let some = self.some.get(usize::from(shard) % SLOTS);
        let some = some.map_or(0, |count| count.load(Ordering::SeqCst));
        self.any.load(Ordering::SeqCst).wrapping_add(some)
    }
}

/// How processes of one database wake each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgeConfig {
    /// The least time between two notifications of this process, at least 1 ms. A notification
    /// takes a lock that every notifying transaction of the server shares; 5 ms keeps it free.
    pub coalesce: Duration,
    /// The wait after a failed connection, above zero. Relays poll meanwhile.
    pub retry: Duration,
}

impl Default for BridgeConfig {
    /// Five milliseconds between notifications, half a second between connections.
    fn default() -> Self {
        Self { coalesce: Duration::from_millis(5), retry: Duration::from_millis(500) }
    }
}

/// Carries wake-ups between the processes of one database, on two connections of its own.
///
/// Best effort: a lost wake-up costs a poll interval. Nothing is ever notified in a business
/// transaction, whose commit would then wait for every other one that notifies.
///
/// # Cancellation
/// Dropping a future of it closes its connection and loses nothing.
#[derive(Debug, Clone)]
pub struct PgWakeBridge {
    database: PgDatabase,
    config: BridgeConfig,
    name: String,
}

impl PgWakeBridge {
    /// Makes a bridge; the caller runs [`tell`](Self::tell) and [`listen`](Self::listen).
    #[must_use]
    pub fn new(database: PgDatabase, config: BridgeConfig) -> Self {
        let name = uuid::Uuid::from_bytes(random()).simple().to_string();
        Self { database, config, name }
    }

    /// Tells other processes of this one's commits, until dropped.
    pub async fn tell(&self) {
        let wake = self.database.wake();
        let seen = AtomicU64::new(wake.local.count());
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(self.options());
        loop {
            wake.local.changed(&seen).await;
            let sent = sqlx::query("SELECT pg_notify($1, $2)")
                .bind(CHANNEL)
                .bind(&self.name)
                .execute(&pool);
            let sent = tokio::time::timeout(self.config.retry, sent).await;
            let pause =
                if matches!(sent, Ok(Ok(_))) { self.config.coalesce } else { self.config.retry };
            tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
        }
    }

    /// Wakes this process's relays when another one tells, until dropped.
    pub async fn listen(&self) {
        loop {
            self.listen_once().await;
            // Whatever happened, something may have been missed.
            self.database.wake().outbox_changed();
            tokio::time::sleep(self.config.retry).await;
        }
    }

    async fn listen_once(&self) {
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(self.options());
        let Ok(mut listener) = PgListener::connect_with(&pool).await else { return };
        if listener.listen(CHANNEL).await.is_err() {
            return;
        }
        let wake = self.database.wake();
        wake.outbox_changed();
        loop {
            match listener.try_recv().await {
                Ok(Some(told)) if told.payload() == self.name => {}
                Ok(Some(_)) => wake.outbox_changed(),
                // The driver connects again by itself after none, but not after every error.
                Ok(None) => wake.outbox_changed(),
                Err(_) => return,
            }
        }
    }

    fn options(&self) -> PgConnectOptions {
        self.database.options().clone().application_name("amarra-wake")
    }
}

/// Tells processes apart; it need not be unpredictable.
fn random() -> [u8; 16] {
    use std::hash::{BuildHasher, RandomState};
    let draw = || RandomState::new().hash_one(std::process::id()).to_ne_bytes();
    let (a, b) = (draw(), draw());
    std::array::from_fn(|i| {
        if i < 8 { a.get(i) } else { b.get(i.saturating_sub(8)) }.copied().unwrap_or(0)
    })
}
