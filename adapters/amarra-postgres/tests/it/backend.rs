//! Private servers as the laws see them: a fresh database a law, a proxy a client.

use std::collections::BTreeMap;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use amarra_conformance::{
    Backend, CommandBackend, CommitLoss, HandlerBackend, ProcessorBackend, StoreBackend, inbox,
    ledger,
};
use amarra_core::Environment;
use amarra_messaging::runtime::Processor;
use amarra_messaging::{Incoming, OutboxLog};
use amarra_postgres::{
    Migrations, PgConfig, PgDatabase, PgLogConfig, PgOutboxLog, PgReadModel, PgStore, migrate,
};
use amarra_store::{Handler, ReadModel, Store, TransactionalProcessor};
use async_trait::async_trait;
use testbed::{CutAt, Direction, PgOptions, PgVersion, Postgres, Proxy};

/// A server of one version, shared by the laws of this binary, one at a time: some crash it.
pub(crate) struct Server {
    pub(crate) postgres: Postgres,
    turn: Mutex<()>,
    next: AtomicU64,
}

impl Server {
    fn start(version: PgVersion) -> Self {
        let postgres = Postgres::start(version, PgOptions::default()).expect("a server");
        postgres.create_database("laws_template").expect("a database");
        let config = PgConfig::new(postgres.url("laws_template"));
        runtime().block_on(migrate(&config, &Migrations::default())).expect("migrate");
        Self { postgres, turn: Mutex::new(()), next: AtomicU64::new(0) }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Waits for work of the driver inside a call that cannot be awaited.
fn now<T>(work: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work))
}

/// Which server.
pub(crate) trait Version: Send + Sync + 'static {
    /// What units keep of their appends until the commit.
    const KEPT_BYTES_MAX: usize = 1 << 20;

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

/// Units that send every append at once: more orders of draws and commits come about.
pub(crate) struct AtOnce<V>(PhantomData<V>);

impl<V: Version> Version for AtOnce<V> {
    const KEPT_BYTES_MAX: usize = 0;

    fn server() -> &'static Server {
        V::server()
    }
}

/// The statement, apart from the isolation level of that name.
const COMMIT: &[u8] = b"COMMIT;";
/// How long the adapter asks what became of a commit.
const RESOLVE: Duration = Duration::from_millis(400);

/// One client: a process that reaches the server through a proxy of its own.
struct Client {
    proxy: Arc<Proxy>,
    store: Arc<PgStore>,
}

/// One fresh database.
pub(crate) struct Pg<V> {
    server: &'static Server,
    name: String,
    clients: Mutex<BTreeMap<String, Client>>,
    direct: PgDatabase,
    log: Arc<PgOutboxLog>,
    version: PhantomData<V>,
}

impl<V: Version> Pg<V> {
    fn config(url: String) -> PgConfig {
        PgConfig {
            message_bytes_max: 64 << 10,
            kept_bytes_max: V::KEPT_BYTES_MAX,
            connections_max: 12,
            resolve_timeout: RESOLVE,
            inbox: inbox::config(),
            ..PgConfig::new(url)
        }
    }
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
            let url = server.postgres.url(&name);
            let direct = PgDatabase::connect(Self::config(url)).await.expect("connect");
            let log = PgOutboxLog::open(&direct, PgLogConfig::new("laws")).await.expect("a log");
            let clients = Mutex::default();
            let (log, name) = (Arc::new(log), name.clone());
            law(Self { server, name, clients, direct, log, version: PhantomData }).await;
        });
        runtime.shutdown_background();
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        server.postgres.execute("postgres", &drop).expect("the database dropped");
    }

    fn env(&self) -> Environment {
        amarra_tokio::environment()
    }
}

#[async_trait]
impl<V: Version> StoreBackend for Pg<V> {
    fn store(&self, client: &str) -> Arc<dyn Store> {
        let mut clients = self.clients.lock().unwrap();
        let client = clients.entry(client.to_owned()).or_insert_with(|| {
            let proxy = Arc::new(Proxy::start(self.server.postgres.addr()).expect("a proxy"));
            let url = self.server.postgres.url_through(&proxy, &self.name);
            let database = now(PgDatabase::connect(Self::config(url))).expect("connect");
            Client { proxy, store: Arc::new(PgStore::new(database)) }
        });
        client.store.clone()
    }

    fn outbox_log(&self) -> Arc<dyn OutboxLog> {
        self.log.clone()
    }

    fn read_model(&self) -> Arc<dyn ReadModel> {
        Arc::new(PgReadModel::new(self.direct.clone()))
    }

    fn outbox_bytes_max(&self) -> usize {
        64 << 10
    }

    /// A request or answer is lost for as long as the adapter asks what became of it; what was lost
    /// before it was sent can be asked about at once.
    async fn lose_commit(&self, client: &str, loss: CommitLoss) {
        // One connection is there already: no new one can be made while the proxy refuses.
        let unit = self.store(client).begin().await.expect("a unit");
        unit.commit().await.expect("an empty commit");
        self.env().sleep(Duration::from_millis(50)).await;
        let clients = self.clients.lock().unwrap();
        let proxy = Arc::clone(&clients.get(client).expect("a client").proxy);
        let at = match loss {
            CommitLoss::Answer => CutAt::Answer,
            _ => CutAt::Before,
        };
        let rule = proxy.cut_when(Direction::Up, COMMIT, at);
        if loss == CommitLoss::BeforeSend {
            return;
        }
        proxy.refuse(true).expect("a proxy that refuses");
        std::thread::spawn(move || {
            // A law that never commits leaves the proxy to itself.
            if rule.wait(Duration::from_secs(5)) {
                std::thread::sleep(RESOLVE.saturating_mul(2));
            }
            proxy.refuse(false).expect("a proxy that listens");
        });
    }

    async fn crash(&self) {
        tokio::task::block_in_place(|| self.server.postgres.crash()).expect("the server back");
    }
}

impl<V: Version> ProcessorBackend for Pg<V> {
    fn processor(&self, client: &str, handler: Arc<dyn Handler>) -> Arc<dyn Processor> {
        let store = self.store(client);
        Arc::new(TransactionalProcessor::new(store, handler, self.env(), "/amarra/ledger"))
    }
}

#[async_trait]
impl<V: Version> HandlerBackend for Pg<V> {
    fn handler(&self) -> Arc<dyn Handler> {
        Arc::new(ledger::Ledger::default())
    }

    async fn message(&self) -> Incoming {
        ledger::message(&self.env(), "k")
    }
}

#[async_trait]
impl<V: Version> CommandBackend for Pg<V> {
    type Command = ledger::Note;

    async fn command(&self) -> ledger::Note {
        ledger::Note { key: "k".into() }
    }
}
