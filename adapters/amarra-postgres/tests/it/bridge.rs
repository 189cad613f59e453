//! Wake-ups between processes: coalesced, never needed, and there again after a lost connection.

use std::time::Duration;

use amarra_core::SeededEntropy;
use amarra_messaging::OutboxLog as _;
use amarra_postgres::{BridgeConfig, PgConfig, PgDatabase, PgOutboxLog, PgWakeBridge};
use futures_util::FutureExt as _;
use sqlx::postgres::PgListener;
use testbed::{PgVersion, Proxy};
use tokio::time::timeout;

use crate::outbox_bed::{append, assert_read, database, drain, log, server};

/// Longer than a busy machine takes; nothing is asserted of it.
const PATIENCE: Duration = Duration::from_secs(60);

fn bridge(db: &PgDatabase) -> PgWakeBridge {
    let coalesce = Duration::from_millis(20);
    PgWakeBridge::new(db.clone(), BridgeConfig { coalesce, ..BridgeConfig::default() })
}

/// Waits until a session of the database listens.
async fn until_listening(db: &PgDatabase) {
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                     AND application_name = 'amarra-wake' AND query ILIKE 'listen%'";
    for _ in 0..1200 {
        let found: i64 = sqlx::query_scalar(listening).fetch_one(db.pool()).await.expect("a look");
        if found > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody listens");
}

/// Waits until nothing wakes the log any more.
async fn until_quiet(log: &PgOutboxLog) {
    while timeout(Duration::from_millis(300), log.changed()).await.is_ok() {}
}

#[tokio::test]
async fn a_commit_here_wakes_a_relay_there() {
    let here = database(PgVersion::V18).await;
    let there = PgDatabase::connect(here.config().clone()).await.expect("another process");
    let (entropy, relay) = (SeededEntropy::new(1, "bridge"), log(&there).await);
    let (teller, listener) = (bridge(&here), bridge(&there));
    let tells = tokio::spawn(async move { teller.tell().await });
    let listens = tokio::spawn(async move { listener.listen().await });
    until_listening(&here).await;
    for n in 1..=3 {
        until_quiet(&relay).await;
        append(&here, &entropy, "k", n..=n).await;
        assert_eq!(relay.changed().now_or_never(), None, "woken before it was told");
        here.wake().outbox_committed();
        timeout(PATIENCE, relay.changed()).await.expect("woken");
        assert_read(&drain(&relay, 10, 10).await, &[("k", n..=n)]);
    }
    tells.abort();
    listens.abort();
}

#[tokio::test]
async fn many_commits_are_one_notification() {
    let here = database(PgVersion::V18).await;
    let mut ear = PgListener::connect(&here.config().url).await.expect("a listener");
    ear.listen("amarra_outbox").await.expect("listen");
    let teller = bridge(&here);
    let tells = tokio::spawn(async move { teller.tell().await });
    // Only what follows the first look is told.
    tokio::task::yield_now().await;
    for _ in 0..3 {
        (0..1000).for_each(|_| here.wake().outbox_committed());
        timeout(PATIENCE, ear.recv()).await.expect("told").expect("a notification");
    }
    let end = sqlx::query("SELECT pg_notify('amarra_outbox', 'end')");
    end.execute(here.pool()).await.expect("the end");
    let next = timeout(PATIENCE, ear.recv()).await.expect("told").expect("a notification");
    assert_eq!(next.payload(), "end", "a burst of commits was told twice");
    tells.abort();
}

#[tokio::test]
async fn a_lost_notification_is_covered_by_the_poll() {
    let here = database(PgVersion::V18).await;
    let there = PgDatabase::connect(here.config().clone()).await.expect("another process");
    let (entropy, relay) = (SeededEntropy::new(2, "bridge"), log(&there).await);
    until_quiet(&relay).await;
    // Nobody tells and nobody listens.
    append(&here, &entropy, "k", 1..=3).await;
    here.wake().outbox_committed();
    assert_eq!(relay.changed().now_or_never(), None);
    assert_read(&drain(&relay, 10, 10).await, &[("k", 1..=3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_whose_connection_was_lost_looks_again() {
    let here = database(PgVersion::V18).await;
    let proxy = Proxy::start(server(PgVersion::V18).addr()).expect("a proxy");
    let name = here.config().url.rsplit('/').next().expect("a name").to_owned();
    let through = PgConfig::new(server(PgVersion::V18).url_through(&proxy, &name));
    let there = PgDatabase::connect(through).await.expect("another process");
    let (entropy, relay) = (SeededEntropy::new(3, "bridge"), log(&there).await);
    let listener = bridge(&there);
    let listens = tokio::spawn(async move { listener.listen().await });
    until_listening(&here).await;
    until_quiet(&relay).await;
    proxy.refuse(true).expect("a proxy that refuses");
    proxy.cut_now();
    // Told while nobody can hear it.
    append(&here, &entropy, "k", 1..=2).await;
    sqlx::query("SELECT pg_notify('amarra_outbox', 'x')").execute(here.pool()).await.expect("told");
    proxy.refuse(false).expect("a proxy that listens");
    timeout(PATIENCE, relay.changed()).await.expect("woken after it came back");
    assert_read(&drain(&relay, 10, 10).await, &[("k", 1..=2)]);
    listens.abort();
}
