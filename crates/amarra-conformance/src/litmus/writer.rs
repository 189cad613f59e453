//! Writers: each changes a key that others change, and says so in the outbox.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Entropy as _, Environment, SeededEntropy};
use amarra_messaging::TxError;
use amarra_store::Store;
use async_trait::async_trait;

use super::Litmus;
use crate::check::{Must, bump, may_repeat, outgoing, thing};

const KEYS: u64 = 20;
/// How often a transaction is tried before the litmus gives up on it.
const ATTEMPTS_MAX: u32 = 50;

/// One business transaction of a writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The writer: a key that nobody else changes.
    pub writer: String,
    /// The key to change, which others change too.
    pub key: String,
    /// When set, the transaction takes its id first, and waits that long before it locks the key.
    pub early: Option<Duration>,
    /// How long the transaction stays open behind its append.
    pub pause: Duration,
    /// Whether it is rolled back in the end.
    pub rolled_back: bool,
}

/// Runs transactions on the database whose outbox is relayed.
#[async_trait]
pub trait Writer: Send + Sync {
    /// Runs one transaction: locks the key, counts its version up by one from 0, and appends a
    /// message with key and version. Returns the keys and versions that it committed.
    async fn change(&self, change: &Change) -> Vec<(String, u64)>;
}

/// Writes through the unit-of-work port; it takes a transaction's id by a change of its own key.
#[derive(Debug, Clone)]
pub struct StoreWriter {
    store: Arc<dyn Store>,
    env: Environment,
}

impl StoreWriter {
    /// Makes a writer of `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, env: Environment) -> Self {
        Self { store, env }
    }

    async fn once(&self, change: &Change) -> Result<Vec<(String, u64)>, TxError> {
        let mut unit = self.store.begin().await?;
        let early = change.early.map(|pause| (&change.writer, pause));
        let mut changed = Vec::new();
        for (key, pause) in early.into_iter().chain([(&change.key, change.pause)]) {
            let version = bump(unit.as_mut(), &thing(key), "").await?.get();
            unit.enqueue(&[outgoing(&self.env, key, version)]).await?;
            changed.push((key.clone(), version));
            self.env.sleep(pause).await;
        }
        if change.rolled_back {
            return Ok(Vec::new());
        }
        unit.commit().await?;
        Ok(changed)
    }
}

#[async_trait]
impl Writer for StoreWriter {
    async fn change(&self, change: &Change) -> Vec<(String, u64)> {
        let mut failed = String::new();
        for attempt in 1..=ATTEMPTS_MAX {
            match self.once(change).await {
                Ok(changed) => return changed,
                Err(e) => {
                    failed = e.to_string();
                    assert!(may_repeat(&e), "a unit failed for good: {e}");
                }
            }
            let pause = self.env.entropy.below(u64::from(attempt) + 1);
            self.env.sleep(Duration::from_millis(pause)).await;
        }
        None.must(&format!("a unit failed {ATTEMPTS_MAX} times, at last: {failed}"))
    }
}

impl Litmus {
    pub(super) async fn write(self: Arc<Self>, writer: Arc<dyn Writer>, n: u64) {
        let entropy = SeededEntropy::new(n, "writer");
        while self.is_writing() {
            let pause = Duration::from_micros(entropy.below(1500));
            let key = format!("key-{}", entropy.below(KEYS));
            self.change(writer.as_ref(), &entropy, (format!("writer-{n}"), key, pause)).await;
        }
    }

    /// A transaction that stays open for long, again and again, on a key of its own.
    pub(super) async fn linger(self: Arc<Self>, writer: Arc<dyn Writer>) {
        let entropy = SeededEntropy::new(99, "lingering");
        while self.is_writing() {
            let pause = Duration::from_millis(700);
            let names = ("writer-lingering".to_owned(), "lingering".to_owned());
            self.change(writer.as_ref(), &entropy, (names.0, names.1, pause)).await;
        }
    }

    async fn change(
        &self,
        by: &dyn Writer,
        entropy: &SeededEntropy,
        (writer, key, pause): (String, String, Duration),
    ) {
        let early = entropy.below(3) == 0;
        let early = early.then(|| Duration::from_micros(entropy.below(4000)));
        let rolled_back = entropy.below(10) == 0;
        let change = Change { writer, key, early, pause, rolled_back };
        for (key, version) in by.change(&change).await {
            self.world.committed(key, version);
        }
    }
}
