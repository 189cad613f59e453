//! The ordering litmus with a relay of each kind, the log's and the table's, and a stream that
//! breaks.

use std::sync::Arc;
use std::time::Duration;

use amarra_conformance::litmus::Litmus;
use amarra_core::{Entropy as _, SeededEntropy};
use amarra_messaging::OutboxLog;
use amarra_postgres_wal::WalConfig;
use testbed::{PgVersion, Proxy};

use crate::bed::{database, table, wal, wal_config};
use crate::litmus_writers::{duration, spawn, writers};
use crate::outbox_bed::server;

/// Breaks the stream now and then.
async fn cut(litmus: Arc<Litmus>, proxy: Arc<Proxy>) {
    let entropy = SeededEntropy::new(5, "cut");
    while litmus.is_writing() {
        tokio::time::sleep(Duration::from_millis(700 + entropy.below(1500))).await;
        proxy.cut_now();
    }
}

/// One of each kind, so that each goes on where the other was; both may fight for a shard.
async fn litmus(version: PgVersion) {
    let db = database(version).await;
    let proxy = Arc::new(Proxy::start(server(version).addr()).expect("a proxy"));
    let short = Duration::from_millis(20);
    let config = WalConfig { catch_up: short, ..wal_config(&db, proxy.addr()) };
    let wal = wal(&db, config).await;
    let logs: [Arc<dyn OutboxLog>; 2] = [wal.log.clone(), table(&db).await];
    let litmus = Litmus::new(amarra_tokio::environment(), duration());
    let cuts = tokio::spawn(cut(Arc::clone(&litmus), proxy));
    let figures = litmus.run(&writers(&db), &logs, &spawn).await;
    cuts.await.expect("the one who cuts");
    let status = wal.log.status();
    let (streams, rows) = (status.streams, status.from_log);
    eprintln!("{version:?}, {streams} streams, {rows} rows of the log: {figures}");
    assert!(streams > 1 && rows > 0, "{status:?}");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_reordered_on_18() {
    litmus(PgVersion::V18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_reordered_on_15() {
    litmus(PgVersion::V15).await;
}
