//! The ordering litmus of the table's relay, on both versions of the server.

use std::sync::Arc;

use amarra_conformance::litmus::Litmus;
use amarra_messaging::OutboxLog;
use testbed::PgVersion;

use crate::litmus_writers::{duration, spawn, writers};
use crate::outbox_bed::{database, log};

async fn litmus(version: PgVersion) {
    let db = database(version).await;
    let logs: [Arc<dyn OutboxLog>; 2] = [Arc::new(log(&db).await), Arc::new(log(&db).await)];
    let litmus = Litmus::new(amarra_tokio::environment(), duration());
    let figures = litmus.run(&writers(&db), &logs, &spawn).await;
    eprintln!("{version:?}: {figures}");
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
