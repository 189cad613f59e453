//! The laws of the relay's side, with the log followed, on both versions of the server.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use amarra_conformance::{Backend, CommitLoss, StoreBackend};
use amarra_core::Environment;
use amarra_messaging::OutboxLog;
use amarra_postgres::{PgConfig, PgDatabase, PgReadModel, PgStore};
use amarra_store::{ReadModel, Store};
use async_trait::async_trait;
use testbed::{PgOptions, PgVersion, Postgres};

use crate::bed::{Wal, prepare, wal, wal_config};

/// A server of one version, shared by the laws, one at a time: some crash it.
pub(crate) struct Server {
    postgres: Postgres,
    turn: Mutex<()>,
    next: AtomicU64,
}

impl Server {
    fn start(version: PgVersion) -> Self {
        let postgres = Postgres::start(version, PgOptions::default()).expect("a server");
        // A template is copied while nobody is connected to it.
        runtime().block_on(async { prepare(&postgres, "laws_template").await.close().await });
        Self { postgres, turn: Mutex::new(()), next: AtomicU64::new(0) }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Which server.
pub(crate) trait Version: Send + Sync + 'static {
    fn server() -> &'static Server;
}

pub(crate) struct V18;
pub(crate) struct V15;

impl Version for V18 {
    fn server() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Server::start(PgVersion::V18))
    }
}

impl Version for V15 {
    fn server() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Server::start(PgVersion::V15))
    }
}

/// One fresh database, followed.
pub(crate) struct Pg<V> {
    server: &'static Server,
    database: PgDatabase,
    wal: Wal,
    version: PhantomData<V>,
}

impl<V: Version> Backend for Pg<V> {
    fn run<F: Future<Output = ()>>(law: impl FnOnce(Self) -> F) {
        let server = V::server();
        let _turn = server.turn();
        let name = format!("law_{}", server.next.fetch_add(1, Ordering::Relaxed));
        let create = format!("CREATE DATABASE {name} TEMPLATE laws_template");
        server.postgres.execute("postgres", &create).expect("a database");
        let runtime = runtime();
        runtime.block_on(async {
            let config = PgConfig::new(server.postgres.url(&name));
            let config = PgConfig { connections_max: 40, ..config };
            let database = PgDatabase::connect(config).await.expect("connect");
            let followed = wal_config(&database, server.postgres.addr());
            let wal = wal(&database, followed).await;
            law(Self { server, database, wal, version: PhantomData }).await;
        });
        // The database stays until its server goes: the end of the stream need not be waited for.
        runtime.shutdown_background();
    }

    fn env(&self) -> Environment {
        amarra_tokio::environment()
    }
}

#[async_trait]
impl<V: Version> StoreBackend for Pg<V> {
    fn store(&self, _client: &str) -> Arc<dyn Store> {
        Arc::new(PgStore::new(self.database.clone()))
    }

    fn outbox_log(&self) -> Arc<dyn OutboxLog> {
        self.wal.log.clone()
    }

    fn read_model(&self) -> Arc<dyn ReadModel> {
        Arc::new(PgReadModel::new(self.database.clone()))
    }

    fn outbox_bytes_max(&self) -> usize {
        self.database.config().message_bytes_max
    }

    async fn lose_commit(&self, _client: &str, _loss: CommitLoss) {
        panic!("no law of the relay's side loses a commit");
    }

    async fn crash(&self) {
        tokio::task::block_in_place(|| self.server.postgres.crash()).expect("the server back");
    }

    async fn pass(&self, d: Duration) {
        self.env().sleep(d).await;
    }
}

macro_rules! laws {
    ($($module:ident: $version:ident),+) => {$(
        mod $module {
            use super::{Pg, $version};

            amarra_conformance::outbox_log_laws!(Pg<$version>);
        }
    )+};
}

laws!(pg18: V18, pg15: V15);
