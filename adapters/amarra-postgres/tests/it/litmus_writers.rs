//! Who writes in the litmus: half with transactions of their own, half through the store, on the
//! same keys; that of amarra-postgres-wal has the same writers.

use std::sync::Arc;
use std::time::Duration;

use amarra_conformance::litmus::{Change, StoreWriter, Task, Writer};
use amarra_core::SeededEntropy;
use amarra_postgres::{PgDatabase, PgOutbox, PgStore};
use async_trait::async_trait;
use tokio::time::sleep;

use crate::outbox_bed::message;

/// Writes in a transaction of its caller's own, under a row lock, as a service without the store.
struct OwnWriter {
    db: PgDatabase,
    entropy: SeededEntropy,
}

impl OwnWriter {
    async fn transaction(&self, change: &Change) -> Result<Option<u64>, sqlx::Error> {
        let mut tx = self.db.pool().begin().await?;
        if let Some(pause) = change.early {
            sqlx::query("SELECT pg_current_xact_id()").execute(&mut *tx).await?;
            sleep(pause).await;
        }
        let sql = "INSERT INTO aggregate AS a (kind, id, version, body) \
                   VALUES ('thing', $1, 1, '') \
                   ON CONFLICT (kind, id) DO UPDATE SET version = a.version + 1 RETURNING version";
        let version: i64 = sqlx::query_scalar(sql).bind(&change.key).fetch_one(&mut *tx).await?;
        let version = version.cast_unsigned();
        let outgoing = message(&self.entropy, &change.key, version);
        PgOutbox::new(self.db.config()).enqueue(&mut tx, &[outgoing]).await.expect("enqueue");
        sleep(change.pause).await;
        if change.rolled_back {
            return tx.rollback().await.map(|()| None);
        }
        tx.commit().await?;
        self.db.wake().outbox_committed();
        Ok(Some(version))
    }
}

#[async_trait]
impl Writer for OwnWriter {
    async fn change(&self, change: &Change) -> Vec<(String, u64)> {
        let version = self.transaction(change).await.expect("a transaction");
        version.map(|version| (change.key.clone(), version)).into_iter().collect()
    }
}

/// Six writers; the first has transactions of its own.
pub(crate) fn writers(db: &PgDatabase) -> Vec<Arc<dyn Writer>> {
    let env = amarra_tokio::environment();
    let store: Arc<dyn Writer> =
        Arc::new(StoreWriter::new(Arc::new(PgStore::new(db.clone())), env));
    let own = |n| -> Arc<dyn Writer> {
        Arc::new(OwnWriter { db: db.clone(), entropy: SeededEntropy::new(n, "own") })
    };
    (0..3).flat_map(|n| [own(n), Arc::clone(&store)]).collect()
}

/// How long the litmus runs: `AMARRA_LITMUS_SECONDS`, 8 by default.
pub(crate) fn duration() -> Duration {
    let seconds = std::env::var("AMARRA_LITMUS_SECONDS").ok();
    Duration::from_secs(seconds.map_or(8, |s| s.parse().expect("AMARRA_LITMUS_SECONDS")))
}

/// Starts a task of the litmus on the runtime.
pub(crate) fn spawn(task: Task) -> Task {
    let handle = tokio::spawn(task);
    Box::pin(async move { handle.await.expect("a task of the litmus") })
}
