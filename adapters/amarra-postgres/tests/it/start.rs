//! What is wrong with a server, said within the configured time and without a secret.

use std::net::TcpListener;
use std::time::Duration;

use amarra_core::{Class, Classify as _};
use amarra_messaging::TxError;
use amarra_postgres::{
    BridgeConfig, Migrations, PgConfig, PgDatabase, PgError, PgLogConfig, PgOutboxLog, PgReadModel,
    PgStore, PgWakeBridge, migrate, provision,
};
use amarra_store::Store as _;
use testbed::{CutAt, Direction, Proxy};
use tokio::time::timeout;

use crate::roles::{set_up, start, wanted};

/// Far more than every bound configured here.
const PATIENCE: Duration = Duration::from_secs(60);

fn hurried(url: String) -> PgConfig {
    PgConfig {
        acquire_timeout: Duration::from_secs(2),
        statement_timeout: Duration::from_secs(2),
        lock_timeout: Duration::from_secs(2),
        call_timeout: Duration::from_secs(3),
        resolve_timeout: Duration::from_millis(100),
        ..PgConfig::new(url)
    }
}

#[track_caller]
fn no_secret(shown: &str) {
    for secret in ["orders-pw", "hunter2", "it's a", "it%27s"] {
        assert!(!shown.contains(secret), "{secret} is shown: {shown}");
    }
}

/// Returns the error of a start, which must come within the bounds and show no secret.
async fn refused<T: std::fmt::Debug>(start: impl Future<Output = Result<T, PgError>>) -> PgError {
    let answer = timeout(PATIENCE, start).await.expect("an answer within the bounds");
    let error = answer.expect_err("a start that must fail");
    no_secret(&format!("{error} {error:?}"));
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_start_says_what_is_wrong() {
    let server = start();
    set_up(&server, "orders").await;
    let none = Migrations::default();
    let wrong = || hurried(server.url_as("orders", "hunter2", "orders"));
    let missing = || hurried(server.url_as("orders", "orders-pw", "nowhere"));
    for config in [wrong(), missing()] {
        let at_connect = refused(PgDatabase::connect(config.clone())).await;
        assert!(matches!(at_connect, PgError::Refused { .. }), "{at_connect}");
        assert_eq!(at_connect.class(), Class::Fatal);
        let at_migrate = refused(migrate(&config, &none)).await;
        assert!(matches!(at_migrate, PgError::Refused { .. }), "{at_migrate}");
        let at_provision = refused(provision(&config, &wanted("orders"))).await;
        assert!(matches!(at_provision, PgError::Refused { .. }), "{at_provision}");
    }
    // Not a superuser: what the server says of a statement with a password is not passed on.
    let weak = hurried(server.url_as("orders", "orders-pw", "orders"));
    refused(provision(&weak, &wanted("payments"))).await;

    // A port that takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("postgres://orders:hunter2@{}/orders", silent.local_addr().expect("addr"));
    let mute = refused(PgDatabase::connect(hurried(url.clone()))).await;
    assert!(matches!(mute, PgError::Unreachable { .. }), "{mute}");
    assert_eq!(mute.class(), Class::Transient);
    let mute = refused(migrate(&hurried(url), &none)).await;
    assert!(matches!(mute, PgError::Unreachable { .. }), "{mute}");

    // A server that lets one in and then is gone.
    let proxy = Proxy::start(server.addr()).expect("a proxy");
    let url = format!("postgres://orders:orders-pw@{}/orders", proxy.addr());
    let rule = proxy.cut_when(Direction::Up, b"server_version_num", CutAt::Before);
    // Not in a hurry: it has to get as far as the cut, however busy the machine is.
    let gone = refused(PgDatabase::connect(PgConfig::new(url))).await;
    assert!(rule.hit(), "the connection was not cut: {gone}");
    assert_eq!(gone.class(), Class::Transient);

    // A newer release has been here.
    let ahead = "INSERT INTO _sqlx_migrations \
                 SELECT 900, description, installed_on, success, checksum, execution_time \
                 FROM _sqlx_migrations WHERE version = 1";
    server.execute("orders", ahead).expect("a newer schema");
    let owner = server.url_as("orders_owner", "it%27s%20a%20%5C%20secret", "orders");
    let newer = refused(migrate(&PgConfig::new(owner), &none)).await;
    assert!(matches!(newer, PgError::SchemaAhead { found: 900 }), "{newer}");
    assert!(newer.to_string().contains("newer"), "{newer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_answering_is_a_lost_connection() {
    let server = start();
    set_up(&server, "orders").await;
    let proxy = Proxy::start(server.addr()).expect("a proxy");
    let url = format!("postgres://orders:orders-pw@{}/orders", proxy.addr());
    let database = PgDatabase::connect(hurried(url.clone())).await.expect("connect");
    let store = PgStore::new(database.clone());
    store.begin().await.expect("a unit").commit().await.expect("an empty commit");

    proxy.stall(Direction::Down, true);
    let lost = timeout(PATIENCE, store.begin()).await.expect("an answer");
    let lost = lost.map(drop).expect_err("a unit");
    assert!(matches!(lost, TxError::Connection { .. }), "{lost}");
    no_secret(&lost.to_string());
    let rows = timeout(PATIENCE, store.audit_rows(0, 1)).await.expect("an answer");
    assert_eq!(rows.expect_err("rows").class(), Class::Transient);
    refused(PgDatabase::connect(hurried(url))).await;
    proxy.stall(Direction::Down, false);
    proxy.refuse(true).expect("a proxy that refuses");
    proxy.cut_now();
    let lost = timeout(PATIENCE, store.begin()).await.expect("an answer");
    let lost = lost.map(drop).expect_err("a unit");
    assert_eq!(lost.class(), Class::Transient, "{lost}");
    no_secret(&format!("{lost} {lost:?}"));
    proxy.refuse(false).expect("a proxy that listens");
    store.begin().await.expect("a unit again").commit().await.expect("an empty commit");
}

#[tokio::test]
async fn nothing_that_holds_a_login_shows_it() {
    let server = start();
    set_up(&server, "orders").await;
    let url = server.url_as("orders", "orders-pw", "orders");
    let database = PgDatabase::connect(PgConfig::new(url)).await.expect("connect");
    // As the service's role: it may relay without being more than it is.
    let log = PgOutboxLog::open(&database, PgLogConfig::new("orders")).await.expect("a log");
    let unit = PgStore::new(database.clone()).begin().await.expect("a unit");
    no_secret(&format!("{unit:?}", unit = unit.now()));
    no_secret(&format!("{database:?}"));
    no_secret(&format!("{log:?}"));
    no_secret(&format!("{:?}", PgStore::new(database.clone())));
    no_secret(&format!("{:?}", PgReadModel::new(database.clone())));
    no_secret(&format!("{:?}", PgWakeBridge::new(database, BridgeConfig::default())));
}
