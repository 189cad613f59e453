//! Where rows come from: the log wherever it holds them, the table wherever it does not.

use std::time::Duration;

use amarra_core::SeededEntropy;
use amarra_messaging::OutboxLog as _;
use amarra_postgres::{PgDatabase, PgOutbox};
use amarra_postgres_wal::WalConfig;
use testbed::PgVersion;

use crate::bed::{Wal, database, wal, wal_config};
use crate::outbox_bed::{append, append_at_once, assert_read, drain, message, server};

const ALL: usize = 1000;

fn entropy() -> SeededEntropy {
    SeededEntropy::new(1, "wal")
}

/// Follows a fresh database whose first batch, which is the table's, was read.
async fn followed(version: PgVersion, change: fn(WalConfig) -> WalConfig) -> (PgDatabase, Wal) {
    let db = database(version).await;
    let wal = wal(&db, change(wal_config(&db, server(version).addr()))).await;
    assert_read(&drain(wal.log.as_ref(), 100, ALL).await, &[]);
    (db, wal)
}

async fn rows_come_out_of_the_log(version: PgVersion) {
    let (db, wal) = followed(version, |config| config).await;
    append(&db, &entropy(), "a", 1..=20).await;
    append_at_once(&db, &entropy(), "b", 1..=300).await;
    append(&db, &entropy(), "a", 21..=40).await;
    let read = drain(wal.log.as_ref(), 7, ALL).await;
    assert_read(&read, &[("a", 1..=40), ("b", 1..=300)]);
    let status = wal.log.status();
    assert_eq!((status.from_log, status.from_table), (340, 0), "{status:?}");
    assert_read(&drain(wal.log.as_ref(), 7, ALL).await, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_out_of_the_log_on_18() {
    rows_come_out_of_the_log(PgVersion::V18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_out_of_the_log_on_15() {
    rows_come_out_of_the_log(PgVersion::V15).await;
}

/// What was committed before there was a stream is read from the table, and then the log goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_from_before_the_stream_come_out_of_the_table() {
    let db = database(PgVersion::V18).await;
    append(&db, &entropy(), "a", 1..=5).await;
    let wal = wal(&db, wal_config(&db, server(PgVersion::V18).addr())).await;
    append(&db, &entropy(), "a", 6..=9).await;
    assert_read(&drain(wal.log.as_ref(), 100, ALL).await, &[("a", 1..=9)]);
    append(&db, &entropy(), "a", 10..=12).await;
    assert_read(&drain(wal.log.as_ref(), 100, ALL).await, &[("a", 10..=12)]);
    let status = wal.log.status();
    assert_eq!((status.from_log, status.from_table), (3, 9), "{status:?}");
}

/// A transaction that stays open delays its own rows, and the log serves the others meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_delays_its_own_rows_only() {
    let (db, wal) = followed(PgVersion::V18, |config| config).await;
    let mut open = db.pool().begin().await.expect("begin");
    let outbox = PgOutbox::new(db.config());
    outbox.enqueue(&mut open, &[message(&entropy(), "open", 1)]).await.expect("enqueue");
    for n in 1..=5 {
        append(&db, &entropy(), "a", n..=n).await;
        assert_read(&drain(wal.log.as_ref(), 100, ALL).await, &[("a", n..=n)]);
    }
    open.commit().await.expect("commit");
    assert_read(&drain(wal.log.as_ref(), 100, ALL).await, &[("open", 1..=1)]);
    let status = wal.log.status();
    assert_eq!((status.from_log, status.from_table), (6, 0), "{status:?}");
}

/// Whatever does not fit is read from the table, in its place, and then the log serves again.
async fn a_transaction_larger_than_the_bound_comes_out_of_the_table(version: PgVersion) {
    let small = |config| WalConfig { held_bytes_max: 64 << 10, ..config };
    let (db, wal) = followed(version, small).await;
    append(&db, &entropy(), "k", 1..=3).await;
    append_at_once(&db, &entropy(), "k", 4..=2000).await;
    append(&db, &entropy(), "k", 2001..=2003).await;
    assert_read(&drain(wal.log.as_ref(), 100, ALL).await, &[("k", 1..=2003)]);
    let status = wal.log.status();
    assert!(status.following && status.from_table > 1900, "{status:?}");
    append(&db, &entropy(), "k", 2004..=2006).await;
    assert_read(&drain(wal.log.as_ref(), 100, ALL).await, &[("k", 2004..=2006)]);
    append(&db, &entropy(), "k", 2007..=2009).await;
    assert_read(&drain(wal.log.as_ref(), 100, ALL).await, &[("k", 2007..=2009)]);
    assert!(wal.log.status().from_log >= 3, "{:?}", wal.log.status());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_larger_than_the_bound_comes_out_of_the_table_on_18() {
    a_transaction_larger_than_the_bound_comes_out_of_the_table(PgVersion::V18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_larger_than_the_bound_comes_out_of_the_table_on_15() {
    a_transaction_larger_than_the_bound_comes_out_of_the_table(PgVersion::V15).await;
}

/// Commits that are not flushed are visible before they are in the stream: none may be passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_do_not_wait_for_the_disk_are_not_passed_over() {
    let (db, wal) = followed(PgVersion::V18, |config| WalConfig {
        catch_up: Duration::from_millis(1),
        ..config
    })
    .await;
    let (entropy, outbox) = (entropy(), PgOutbox::new(db.config()));
    let mut read = Vec::new();
    for n in 1..=200 {
        let mut tx = db.pool().begin().await.expect("begin");
        sqlx::query("SET LOCAL synchronous_commit = off").execute(&mut *tx).await.expect("set");
        outbox.enqueue(&mut tx, &[message(&entropy, "k", n)]).await.expect("enqueue");
        tx.commit().await.expect("commit");
        let came = drain(wal.log.as_ref(), 100, ALL).await;
        assert_read(&came, &[("k", n..=n)]);
        read.extend(came);
    }
    assert_read(&read, &[("k", 1..=200)]);
}

/// The relay is told of rows that another process committed, of each shard that has some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_tells_of_rows_of_other_processes() {
    let (db, wal) = followed(PgVersion::V18, |config| config).await;
    wal.log.changed().await;
    let shards = db.config().shards;
    let concerned = |log: &amarra_postgres_wal::WalOutboxLog| {
        let asked = (0..shards).map(|n| log.concerns(amarra_messaging::message::Shard(n)));
        asked.filter(|concerns| *concerns).count()
    };
    concerned(&wal.log);
    for n in 1..=5 {
        append(&db, &entropy(), "k", n..=n).await;
        wal.log.changed().await;
        assert_eq!(concerned(&wal.log), 1, "one shard has a row");
        assert_read(&drain(wal.log.as_ref(), 100, ALL).await, &[("k", n..=n)]);
    }
}
