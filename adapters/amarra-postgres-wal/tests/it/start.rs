//! What is refused at start, and what a dedicated role needs.

use amarra_messaging::OutboxLog as _;
use amarra_postgres::PgDatabase;
use amarra_postgres_wal::{WalConfig, WalError, WalOutboxLog};
use testbed::{PgAuth, PgOptions, PgVersion, Postgres};

use crate::bed::{database, options, prepare, table, wal, wal_config};
use crate::outbox_bed::{execute, server};

async fn refused(db: &PgDatabase, config: WalConfig) -> WalError {
    let opened = WalOutboxLog::open(table(db).await, options(db), config).await;
    opened.map(drop).expect_err("it was accepted")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_foreign_publication_is_refused() {
    let db = database(PgVersion::V18).await;
    let config = wal_config(&db, server(PgVersion::V18).addr());
    let missing = WalConfig { publication: "nothing".into(), ..config.clone() };
    let error = refused(&db, missing).await;
    assert!(matches!(&error, WalError::Publication { why: "is missing", .. }), "{error}");
    execute(&db, "CREATE PUBLICATION other FOR TABLE outbox").await;
    let error = refused(&db, WalConfig { publication: "other".into(), ..config.clone() }).await;
    assert!(matches!(error, WalError::Publication { .. }), "{error}");
    let error = refused(&db, WalConfig { frames_max: 0, ..config.clone() }).await;
    assert!(matches!(error, WalError::Field { field: "frames_max", .. }), "{error}");
    let error = refused(&db, WalConfig { database: "no_such".into(), ..config }).await;
    assert!(matches!(error, WalError::Refused { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_writes_too_little_is_refused() {
    let settings = vec![("wal_level".into(), "replica".into())];
    let options = PgOptions { settings, ..PgOptions::default() };
    let started = || Postgres::start(PgVersion::V15, options);
    let server = tokio::task::block_in_place(started).expect("a server");
    let db = prepare(&server, "replica").await;
    let error = refused(&db, wal_config(&db, server.addr())).await;
    assert_eq!(error, WalError::Level { found: "replica".into() });
    db.close().await;
}

/// By password, without a right to the table; without the attribute or the password it is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_of_its_own_needs_the_attribute_and_nothing_else() {
    let options = PgOptions { auth: PgAuth::Scram, ..PgOptions::default() };
    let started = || Postgres::start(PgVersion::V18, options);
    let server = tokio::task::block_in_place(started).expect("a server");
    let db = prepare(&server, "orders").await;
    execute(
        &db,
        "CREATE ROLE orders_wal LOGIN REPLICATION PASSWORD 'first'; \
         CREATE ROLE orders_plain LOGIN PASSWORD 'second'",
    )
    .await;
    let role = |role: &str, password: &str| WalConfig {
        role: role.to_owned(),
        password: password.to_owned(),
        ..wal_config(&db, server.addr())
    };
    for (name, password) in [("orders_plain", "second"), ("orders_wal", "wrong")] {
        let error = refused(&db, role(name, password)).await;
        assert!(matches!(error, WalError::Refused { .. }), "{name}: {error}");
        assert!(!error.to_string().contains(password), "{error}");
    }
    let wal = wal(&db, role("orders_wal", "first")).await;
    assert_eq!(&*wal.log.source(), &*table(&db).await.source());
    db.close().await;
}
