//! What an outbox row costs the transaction it belongs to: with and without, in turns.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use amarra_core::Timestamp;
use amarra_messaging::Topic;
use amarra_postgres::{PgConfig, PgDatabase, PgOutbox};
use sqlx::AssertSqlSafe;

use super::Run;
use crate::Failure;
use crate::message::Maker;
use crate::writers::STOCK;

const CHANGE: &str = "UPDATE stock SET n = n - 1 WHERE sku = $1";
/// The change of [`Way::WithChange`].
const CHANGE_WITH: &str = "UPDATE stock SET n = n - 1 WHERE sku = $7 RETURNING 1";
const CLIENTS: u64 = 8;
const TURN: Duration = Duration::from_millis(250);

/// How a transaction is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Without,
    /// The row in a statement of its own.
    Enqueue,
    /// The row in the statement of the change.
    WithChange,
    /// The same, and the statement is the transaction.
    Alone,
}

const WAYS: [Way; 4] = [Way::Without, Way::Enqueue, Way::WithChange, Way::Alone];

/// Lets eight clients write, a quarter of a second each way, over and over.
pub(super) async fn run(run: &Run<'_>) -> Result<(), Failure> {
    let config = run.servers.database("enqueue", run.options.shards, 1_000_000).await?;
    run.servers.execute("enqueue", STOCK)?;
    let database = PgDatabase::connect(PgConfig { connections_max: 8, ..config }).await?;
    let maker = Maker::new(&Topic::from("enqueue"))?;
    let rounds = if run.options.short { 1 } else { 40 };
    run.report.say(&format!("enqueue: {rounds} rounds"));
    let next = AtomicU64::new(0);
    let mut totals = [(0_u64, 0.0_f64); 4];
    // The first round only warms up.
    for round in 0..=rounds {
        for turn in 0..WAYS.len() {
            let at = (round + turn) % WAYS.len();
            let way = WAYS.get(at).copied().unwrap_or(Way::Without);
            let (count, seconds) = turn_of(&database, &maker, &next, way).await?;
            if let Some(total) = totals.get_mut(at).filter(|_| round > 0) {
                *total = (total.0 + count, total.1 + seconds);
            }
        }
    }
    let [without, enqueue, with_change, alone] =
        totals.map(|(count, seconds)| count as f64 / seconds);
    run.report.row("enqueue", "ratio", without / enqueue);
    run.report.row("enqueue", "ratio_with_change", without / with_change);
    run.report.row("enqueue", "ratio_alone", without / alone);
    run.report.row("enqueue", "tx_per_s_without", without);
    database.close().await;
    run.servers.drop_database("enqueue")
}

async fn turn_of(
    database: &PgDatabase,
    maker: &Maker,
    next: &AtomicU64,
    way: Way,
) -> Result<(u64, f64), Failure> {
    let began = Instant::now();
    let client = |_| async move {
        let mut count = 0;
        while began.elapsed() < TURN {
            transact(database, maker, next.fetch_add(1, Ordering::Relaxed), way).await?;
            count += 1;
        }
        Ok::<u64, Failure>(count)
    };
    let counts = futures_util::future::try_join_all((0..CLIENTS).map(client)).await?;
    Ok((counts.iter().sum(), began.elapsed().as_secs_f64()))
}

async fn transact(database: &PgDatabase, maker: &Maker, n: u64, way: Way) -> Result<(), Failure> {
    let sku = i32::try_from(n % 1000)?;
    let outbox = PgOutbox::new(database.config());
    if way == Way::Alone {
        let rows = outbox.encode(&[maker.make(n, Timestamp::EPOCH)])?;
        let sql = PgOutbox::with_change_of_one(CHANGE_WITH);
        let query = rows.bind_one(sqlx::query(AssertSqlSafe(sql))).bind(sku);
        query.execute(database.pool()).await?;
        database.wake().outbox_committed();
        return Ok(());
    }
    let mut tx = database.pool().begin().await?;
    match way {
        Way::Alone => {}
        Way::Without => {
            sqlx::query(CHANGE).bind(sku).execute(&mut *tx).await?;
        }
        Way::Enqueue => {
            sqlx::query(CHANGE).bind(sku).execute(&mut *tx).await?;
            outbox.enqueue(&mut tx, &[maker.make(n, Timestamp::EPOCH)]).await?;
        }
        Way::WithChange => {
            let rows = outbox.encode(&[maker.make(n, Timestamp::EPOCH)])?;
            let sql = PgOutbox::with_change_of_one(CHANGE_WITH);
            rows.bind_one(sqlx::query(AssertSqlSafe(sql))).bind(sku).execute(&mut *tx).await?;
        }
    }
    tx.commit().await?;
    if way != Way::Without {
        database.wake().outbox_committed();
    }
    Ok(())
}
