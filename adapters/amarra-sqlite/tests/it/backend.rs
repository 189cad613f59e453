//! One database file as the laws see it: it is dropped and opened again where a law crashes it.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use amarra_conformance::{
    Backend, CommandBackend, CommitLoss, HandlerBackend, ProcessorBackend, StoreBackend, inbox,
    ledger,
};
use amarra_core::{Environment, PartitionKey};
use amarra_messaging::message::{Owner, Seq};
use amarra_messaging::outbox::{Chunk, Cursor, Lease, LogError, ParkedRow, Resumed};
use amarra_messaging::runtime::Processor;
use amarra_messaging::{Incoming, OutboxLog, Topic, TxError};
use amarra_sqlite::{
    DatabaseConfig, SqliteDatabase, SqliteOutboxLog, SqliteReadModel, SqliteStore,
};
use amarra_store::audit::AuditRow;
use amarra_store::read_model::{Page, PageQuery, ViewRow};
use amarra_store::{
    Claim, DueQuery, Handler, ReadModel, Store, TransactionalProcessor, UnitOfWork,
};
use async_trait::async_trait;

use crate::scratch::{Scratch, runtime};
use crate::unit::{Inner, Unit};

/// What one start of the process holds.
#[derive(Debug)]
struct Life {
    _database: SqliteDatabase,
    store: Arc<SqliteStore>,
    log: Arc<SqliteOutboxLog>,
    views: Arc<SqliteReadModel>,
}

/// The file, whoever has it open, and what is to go wrong.
#[derive(Debug)]
pub(crate) struct Bed {
    folder: PathBuf,
    life: Mutex<Option<Life>>,
    units: Mutex<Vec<Weak<Inner>>>,
    losses: Mutex<BTreeMap<String, CommitLoss>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn config() -> DatabaseConfig {
    DatabaseConfig {
        shards: 2,
        message_bytes_max: 64 << 10,
        inbox: inbox::config(),
        ..DatabaseConfig::default()
    }
}

impl Bed {
    async fn open(&self) {
        let database = SqliteDatabase::open(self.folder.join("laws.sqlite"), config()).await;
        let database = database.expect("a database");
        let store = Arc::new(database.store());
        let log = Arc::new(database.outbox_log());
        let views = Arc::new(database.read_model());
        *lock(&self.life) = Some(Life { _database: database, store, log, views });
    }

    fn of<T>(&self, pick: impl FnOnce(&Life) -> T) -> T {
        lock(&self.life).as_ref().map(pick).expect("an open database")
    }

    pub(crate) fn loss(&self, client: &str) -> Option<CommitLoss> {
        lock(&self.losses).remove(client)
    }
}

/// One fresh file.
#[derive(Debug)]
pub(crate) struct Sqlite(Arc<Bed>);

impl Backend for Sqlite {
    fn run<F: Future<Output = ()>>(law: impl FnOnce(Self) -> F) {
        let scratch = Scratch::new();
        let runtime = runtime();
        runtime.block_on(async {
            let bed = Arc::new(Bed {
                folder: scratch.folder().to_owned(),
                life: Mutex::default(),
                units: Mutex::default(),
                losses: Mutex::default(),
            });
            bed.open().await;
            law(Self(bed)).await;
        });
        runtime.shutdown_background();
    }

    fn env(&self) -> Environment {
        amarra_tokio::environment()
    }
}

#[async_trait]
impl StoreBackend for Sqlite {
    fn store(&self, client: &str) -> Arc<dyn Store> {
        Arc::new(ClientStore { bed: Arc::clone(&self.0), client: client.to_owned() })
    }

    fn outbox_log(&self) -> Arc<dyn OutboxLog> {
        Arc::new(Log(Arc::clone(&self.0)))
    }

    fn read_model(&self) -> Arc<dyn ReadModel> {
        Arc::new(Views(Arc::clone(&self.0)))
    }

    fn outbox_bytes_max(&self) -> usize {
        config().message_bytes_max
    }

    /// There is no connection to lose: the unit of the test loses the call itself.
    async fn lose_commit(&self, client: &str, loss: CommitLoss) {
        lock(&self.0.losses).insert(client.to_owned(), loss);
    }

    async fn crash(&self) {
        let units: Vec<_> = std::mem::take(&mut *lock(&self.0.units));
        for unit in units.iter().filter_map(Weak::upgrade) {
            drop(unit.lock().await.take());
        }
        drop(lock(&self.0.life).take());
        self.0.open().await;
    }
}

impl ProcessorBackend for Sqlite {
    fn processor(&self, client: &str, handler: Arc<dyn Handler>) -> Arc<dyn Processor> {
        let store = self.store(client);
        Arc::new(TransactionalProcessor::new(store, handler, self.env(), "/amarra/ledger"))
    }
}

#[async_trait]
impl HandlerBackend for Sqlite {
    fn handler(&self) -> Arc<dyn Handler> {
        Arc::new(ledger::Ledger::default())
    }

    async fn message(&self) -> Incoming {
        ledger::message(&self.env(), "k")
    }
}

#[async_trait]
impl CommandBackend for Sqlite {
    type Command = ledger::Note;

    async fn command(&self) -> ledger::Note {
        ledger::Note { key: "k".into() }
    }
}

/// The store as one client reaches it, across restarts.
#[derive(Debug)]
struct ClientStore {
    bed: Arc<Bed>,
    client: String,
}

impl ClientStore {
    fn store(&self) -> Arc<SqliteStore> {
        self.bed.of(|life| Arc::clone(&life.store))
    }
}

#[async_trait]
impl Store for ClientStore {
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, TxError> {
        let unit = self.store().begin().await?;
        let now = unit.now();
        let inner = Arc::new(tokio::sync::Mutex::new(Some(unit)));
        lock(&self.bed.units).push(Arc::downgrade(&inner));
        Ok(Box::new(Unit::new(inner, now, Arc::clone(&self.bed), self.client.clone())))
    }

    async fn claim_due(&self, query: &DueQuery) -> Result<Vec<Claim>, TxError> {
        self.store().claim_due(query).await
    }

    async fn next_due(&self, kind: &str) -> Result<Option<Duration>, TxError> {
        self.store().next_due(kind).await
    }

    async fn audit_rows(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, TxError> {
        self.store().audit_rows(after, limit).await
    }

    async fn timers_changed(&self) {
        self.store().timers_changed().await;
    }
}

#[derive(Debug)]
struct Views(Arc<Bed>);

#[async_trait]
impl ReadModel for Views {
    async fn get(&self, view: &str, key: &str) -> Result<Option<ViewRow>, TxError> {
        self.0.of(|life| Arc::clone(&life.views)).get(view, key).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, TxError> {
        self.0.of(|life| Arc::clone(&life.views)).page(query).await
    }
}

#[derive(Debug)]
struct Log(Arc<Bed>);

impl Log {
    fn log(&self) -> Arc<SqliteOutboxLog> {
        self.0.of(|life| Arc::clone(&life.log))
    }
}

#[async_trait]
impl OutboxLog for Log {
    fn source(&self) -> Arc<str> {
        self.log().source()
    }

    async fn lease(
        &self,
        owner: &Owner,
        limit: usize,
        ttl: Duration,
    ) -> Result<Vec<Lease>, LogError> {
        self.log().lease(owner, limit, ttl).await
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.log().give_back(leases).await
    }

    async fn resume(&self, lease: &Lease) -> Result<Resumed, LogError> {
        self.log().resume(lease).await
    }

    async fn next_chunk(
        &self,
        lease: &Lease,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<Chunk, LogError> {
        self.log().next_chunk(lease, cursor, limit).await
    }

    async fn checkpoint(&self, lease: &Lease, cursor: &Cursor) -> Result<(), LogError> {
        self.log().checkpoint(lease, cursor).await
    }

    async fn park(&self, lease: &Lease, rows: &[ParkedRow]) -> Result<(), LogError> {
        self.log().park(lease, rows).await
    }

    async fn released(&self, lease: &Lease, limit: usize) -> Result<Vec<ParkedRow>, LogError> {
        self.log().released(lease, limit).await
    }

    async fn settle(&self, lease: &Lease, rows: &[ParkedRow]) -> Result<(), LogError> {
        self.log().settle(lease, rows).await
    }

    async fn parked(&self, after: Seq, limit: usize) -> Result<Vec<ParkedRow>, LogError> {
        self.log().parked(after, limit).await
    }

    async fn release(&self, topic: &Topic, key: &PartitionKey) -> Result<(), LogError> {
        self.log().release(topic, key).await
    }

    async fn changed(&self) {
        self.log().changed().await;
    }
}
