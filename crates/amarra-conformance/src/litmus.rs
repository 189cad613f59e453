//! The ordering litmus: writers that contend, relays that fight and crash, and nothing may be lost,
//! doubled or reordered.

mod relay;
mod world;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use amarra_core::Environment;
use amarra_messaging::OutboxLog;
use futures_util::future::{BoxFuture, join, join_all};

use self::world::World;

pub use self::world::Figures;
pub use self::writer::{Change, StoreWriter, Writer};

/// How long the last rows are waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A writer or a relay.
pub type Task = BoxFuture<'static, ()>;

/// Starts a task and returns its end; a panic of the task goes through.
pub type Spawn<'a> = &'a (dyn Fn(Task) -> Task + Sync);

/// Writers of one database, relays of its outbox, and a broker that refuses old epochs.
///
/// Every writer changes keys that all of them change, under the database's own locks, and appends
/// what it changed; one more holds its transaction open for long. Relays take each other's leases,
/// crash before and after they publish, and sleep through a lease as zombies do.
///
/// # Laws
/// What OBX-1 to OBX-3 and OBL-1 to OBL-6 promise together: every committed row is stored once, at
/// a position of its own, positions are dense, a re-publish is equal to the first one, and the rows
/// of a key are stored in the order of their commits.
#[derive(Debug)]
pub struct Litmus {
    env: Environment,
    duration: Duration,
    world: World,
    writing: AtomicBool,
    stopped: AtomicBool,
    crashes: AtomicU64,
}

impl Litmus {
    /// Makes a litmus whose writers write for `duration`.
    #[must_use]
    pub fn new(env: Environment, duration: Duration) -> Arc<Self> {
        Arc::new(Self {
            env,
            duration,
            world: World::default(),
            writing: AtomicBool::new(true),
            stopped: AtomicBool::new(false),
            crashes: AtomicU64::new(0),
        })
    }

    /// Tells whether the writers still write: for whoever breaks things beside them.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.writing.load(Ordering::Acquire)
    }

    /// Runs it to its end, once, and asserts its claims: a relay for each of `logs`, and for each
    /// of `writers` one that writes. The first also keeps a transaction open for long, again and
    /// again.
    ///
    /// # Panics
    /// When a claim does not hold, or a port fails in another way than by a superseded epoch.
    pub async fn run(
        self: &Arc<Self>,
        writers: &[Arc<dyn Writer>],
        logs: &[Arc<dyn OutboxLog>],
        spawn: Spawn<'_>,
    ) -> Figures {
        let numbered = writers.iter().cloned().zip(0..);
        let mut tasks: Vec<_> = numbered
            .map(|(writer, n)| spawn(Box::pin(Arc::clone(self).write(writer, n))))
            .collect();
        let first = writers.first().cloned();
        tasks.extend(first.map(|first| spawn(Box::pin(Arc::clone(self).linger(first)))));
        let logs = logs.iter().cloned().zip(0..);
        let relays = logs.map(|(log, n)| spawn(Box::pin(Arc::clone(self).relay(log, n))));
        let relays: Vec<_> = relays.collect();
        let writing = async {
            join(self.end_writing(), join_all(tasks)).await;
            self.settle().await;
        };
        join(writing, join_all(relays)).await;
        self.world.verify(self.crashes.load(Ordering::Relaxed))
    }

    async fn end_writing(&self) {
        self.env.sleep(self.duration).await;
        self.writing.store(false, Ordering::Release);
    }

    /// Waits for the last rows, and for whatever would be published twice.
    async fn settle(&self) {
        let patience = self.env.monotonic().plus(PATIENCE);
        while !self.world.is_complete() && self.env.monotonic() < patience {
            self.env.sleep(Duration::from_millis(50)).await;
        }
        // What is published again under another position would come about now.
        self.env.sleep(relay::LEASE * 2).await;
        self.stopped.store(true, Ordering::Release);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} committed, {} published, {} repeated at their position, {} crashes, {} fenced by \
             the broker",
            self.committed, self.published, self.repeated, self.crashes, self.fenced
        )
    }
}
