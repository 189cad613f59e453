//! Writers: business transactions with one outbox row each, at a steady rate, and when they ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use amarra_core::Timestamp;
use amarra_messaging::Topic;
use amarra_postgres::{PgDatabase, PgOutbox};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::child::now;
use crate::message::Maker;

/// The table of the business transaction.
pub(crate) const STOCK: &str = "CREATE TABLE stock (sku int PRIMARY KEY, n int NOT NULL); \
     INSERT INTO stock SELECT s, 1000000 FROM generate_series(0, 999) s";
const CHANGE: &str = "UPDATE stock SET n = n - 1 WHERE sku = $1";

/// What writers do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Writing {
    pub(crate) topic: String,
    /// Transactions a second, of all connections together.
    pub(crate) rate: u64,
    pub(crate) connections: u64,
    pub(crate) seconds: u64,
}

/// When transaction `n` was committed: as asked for, and as answered, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub(crate) n: u64,
    pub(crate) asked: u64,
    pub(crate) answered: u64,
}

/// Writes until the time is over.
pub(crate) async fn write(
    database: &PgDatabase,
    writing: &Writing,
) -> Result<Vec<Committed>, Failure> {
    let maker = Maker::new(&Topic::from(writing.topic.as_str()))?;
    let next = Arc::new(AtomicU64::new(0));
    let begin = tokio::time::Instant::now();
    let one = |i: u64| {
        let (maker, next) = (maker.clone(), Arc::clone(&next));
        async move {
            let gap = Duration::from_micros(1_000_000 / writing.rate.max(1));
            let step = gap * u32::try_from(writing.connections)?;
            let mut at = begin + gap * u32::try_from(i)?;
            let end = begin + Duration::from_secs(writing.seconds);
            let mut all = Vec::new();
            while at < end {
                tokio::time::sleep_until(at).await;
                let n = next.fetch_add(1, Ordering::Relaxed);
                all.push(transact(database, &maker, n).await?);
                at += step;
            }
            Ok::<_, Failure>(all)
        }
    };
    let all = futures_util::future::try_join_all((0..writing.connections).map(one)).await?;
    Ok(all.concat())
}

async fn transact(database: &PgDatabase, maker: &Maker, n: u64) -> Result<Committed, Failure> {
    let outbox = PgOutbox::new(database.config());
    let message = maker.make(n, Timestamp::from_micros(i64::try_from(now())?));
    let mut tx = database.pool().begin().await?;
    let sku = i32::try_from(n % 1000)?;
    sqlx::query(CHANGE).bind(sku).execute(&mut *tx).await?;
    let touched = outbox.touched(std::slice::from_ref(&message));
    outbox.enqueue(&mut tx, &[message]).await?;
    let asked = now();
    tx.commit().await?;
    let answered = now();
    database.wake().outbox_committed_to(touched);
    Ok(Committed { n, asked, answered })
}
