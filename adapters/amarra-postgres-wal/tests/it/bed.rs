//! Databases with an outbox and a publication, and logs that follow them, on private servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amarra_messaging::message::Owner;
use amarra_messaging::outbox::Lease;
use amarra_messaging::{OutboxLog, Shutdown};
use amarra_postgres::{Migrations, PgConfig, PgDatabase, PgOutboxLog, migrate};
use amarra_postgres_wal::{WalConfig, WalOutboxLog, publish};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use testbed::{PgVersion, Postgres};
use tokio::task::AbortHandle;

use crate::outbox_bed::{self, log};

/// Publishes the outbox of a database.
async fn published(db: PgDatabase) -> PgDatabase {
    let mut conn = PgConnection::connect(&db.config().url).await.expect("a connection");
    publish(&mut conn, "amarra_outbox").await.expect("a publication");
    publish(&mut conn, "amarra_outbox").await.expect("the same again");
    db
}

/// Makes a database with the schema on a server of the test's own, and publishes its outbox.
pub(crate) async fn prepare(server: &Postgres, name: &str) -> PgDatabase {
    tokio::task::block_in_place(|| server.create_database(name)).expect("a database");
    let config = PgConfig::new(server.url(name));
    migrate(&config, &Migrations::default()).await.expect("migrate");
    published(PgDatabase::connect(config).await.expect("connect")).await
}

/// A fresh database on a shared server, its outbox published.
pub(crate) async fn database(version: PgVersion) -> PgDatabase {
    published(outbox_bed::database(version).await).await
}

pub(crate) fn options(db: &PgDatabase) -> PgConnectOptions {
    db.config().url.parse().expect("a url")
}

/// How the tests follow the database, at `addr`, patient enough to find out whether rows come.
pub(crate) fn wal_config(db: &PgDatabase, addr: SocketAddr) -> WalConfig {
    let name = options(db).get_database().expect("a name").to_owned();
    WalConfig {
        port: addr.port(),
        catch_up: Duration::from_millis(500),
        ..WalConfig::new(addr.ip().to_string(), "app", "", name)
    }
}

/// A log with its stream; dropped, both end as if their process had been killed.
pub(crate) struct Wal {
    pub(crate) log: Arc<WalOutboxLog>,
    task: AbortHandle,
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn table(db: &PgDatabase) -> Arc<PgOutboxLog> {
    Arc::new(log(db).await)
}

/// Follows a database, and waits until the stream runs.
pub(crate) async fn wal(db: &PgDatabase, config: WalConfig) -> Wal {
    let opened = WalOutboxLog::open(table(db).await, options(db), config).await;
    let (log, stream) = opened.expect("a log to follow");
    let task = tokio::spawn(stream.run(Shutdown::never())).abort_handle();
    let wal = Wal { log: Arc::new(log), task };
    wal.following().await;
    wal
}

impl Wal {
    pub(crate) async fn following(&self) {
        until(|| self.log.status().following).await;
    }
}

/// Waits for a condition that must come about.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come about");
}

/// Leases every shard.
pub(crate) async fn leases(log: &dyn OutboxLog, owner: &str, ttl: Duration) -> Vec<Lease> {
    log.lease(&Owner::from(owner), 100, ttl).await.expect("leases")
}
