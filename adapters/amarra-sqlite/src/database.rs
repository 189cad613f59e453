//! The database: its two files, the permit to write, and what its handles share.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use amarra_messaging::TxError;
use amarra_messaging::signal::Signal;
use sqlx::SqlitePool;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::clock::DatabaseClock;
use crate::config::DatabaseConfig;
use crate::error::{self, OpenError};
use crate::file::{self, ProcessLock, Schema, Tuning, Writer};
use crate::outbox_log::SqliteOutboxLog;
use crate::pairing::pair;
use crate::read_model::SqliteReadModel;
use crate::store::SqliteStore;

/// `AmaS`: a database.
const STORE: Schema = Schema {
    what: "a database",
    application_id: 0x416d_6153,
    steps: &[include_str!("../migrations/store/1.sql"), include_str!("../migrations/store/2.sql")],
};

/// `AmaR`: the relay's file.
const RELAY: Schema = Schema {
    what: "a relay file",
    application_id: 0x416d_6152,
    steps: &[include_str!("../migrations/relay/1.sql")],
};

/// One service's database, for this process alone.
///
/// Cheap to clone: all clones are one database. It is closed when the last handle made from it is
/// dropped, or by [`close`](Self::close); a process that is killed leaves nothing to repair.
///
/// # State
/// Two files. `PATH` holds everything a unit of work changes. `PATH-relay` holds what the relay
/// changes (leases, cursors, parked rows), so that saving a cursor never waits for a unit that is
/// open. They belong to each other, and are backed up together.
#[derive(Debug, Clone)]
pub struct SqliteDatabase {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) name: Arc<str>,
    pub(crate) config: DatabaseConfig,
    pub(crate) clock: DatabaseClock,
    pub(crate) outbox_changed: Signal,
    pub(crate) timers_changed: Signal,
    /// Reads of the database; a reader sees the last commit and waits for nobody.
    pub(crate) readers: SqlitePool,
    /// The permit to write, handed on in order of arrival, with its connection.
    pub(crate) writer: Arc<Mutex<Writer>>,
    /// The connection of the relay's file.
    pub(crate) relay: Mutex<Writer>,
    /// None once it is closed.
    lock: StdMutex<Option<ProcessLock>>,
}

impl Shared {
    /// Waits for the permit to write and begins a transaction.
    pub(crate) async fn write(&self) -> Result<OwnedMutexGuard<Writer>, TxError> {
        let permit = Arc::clone(&self.writer).lock_owned();
        let Ok(mut writer) = tokio::time::timeout(self.config.writer_wait, permit).await else {
            return Err(TxError::Serialization);
        };
        writer.begin().await.map_err(|error| error::tx(&error))?;
        Ok(writer)
    }
}

impl SqliteDatabase {
    /// Opens the database at `path`, makes it when it is not there, and brings its schema up to
    /// date.
    ///
    /// Whoever held a lease or claim before is dead, since the process lock was free: all of them
    /// are ended, so that a restart waits for none. Their epochs stay, and their successors' are
    /// higher.
    ///
    /// # Errors
    /// [`OpenError`]; each variant says what to do.
    pub async fn open(path: impl AsRef<Path>, config: DatabaseConfig) -> Result<Self, OpenError> {
        config.validate()?;
        let path = file::resolve(path.as_ref())?;
        let path = path.as_path();
        let lock = ProcessLock::take(path)?;
        let (synchronous, busy_timeout) = (config.synchronous, config.busy_timeout);
        let tuning = Tuning { synchronous, busy_timeout };
        let (mut writer, options) = file::open(path, &STORE, tuning).await?;
        let relay_path = file::beside(path, "relay");
        let (mut relay, _) = file::open(&relay_path, &RELAY, tuning).await?;
        let shards = config.shards;
        let name = match join(path, &relay_path, (&mut writer, &mut relay), shards).await {
            Ok(name) => name,
            Err(refused) => {
                // Neither leaves a log behind that a restored file would be read with.
                let _ = relay.close().await;
                let _ = writer.close().await;
                return Err(refused);
            }
        };
        let shared = Shared {
            path: path.to_owned(),
            name: name.into(),
            readers: file::readers(options, config.readers),
            config,
            clock: DatabaseClock::default(),
            outbox_changed: Signal::default(),
            timers_changed: Signal::default(),
            writer: Arc::new(Mutex::new(writer)),
            relay: Mutex::new(relay),
            lock: StdMutex::new(Some(lock)),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns the path of its file, without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> SqliteStore {
        SqliteStore::new(Arc::clone(&self.shared))
    }

    /// Returns the relay's side of the outbox.
    #[must_use]
    pub fn outbox_log(&self) -> SqliteOutboxLog {
        SqliteOutboxLog::new(Arc::clone(&self.shared))
    }

    /// Returns the read side.
    #[must_use]
    pub fn read_model(&self) -> SqliteReadModel {
        SqliteReadModel::new(Arc::clone(&self.shared))
    }

    /// Asks the database a trivial question, for a readiness probe.
    ///
    /// # Errors
    /// [`TxError::Connection`].
    pub async fn ping(&self) -> Result<(), TxError> {
        let answer = sqlx::query("SELECT 1").fetch_one(&self.shared.readers).await;
        answer.map(drop).map_err(|error| error::tx(&error))
    }

    /// Waits for the unit that writes, rolls nothing back that was committed, and closes both
    /// files; every later call fails, and the path may be opened again. A process that drops its
    /// handles instead loses nothing.
    pub async fn close(&self) {
        self.shared.readers.close().await;
        // What cannot be written back now is found in the log at the next start.
        let _ = self.shared.writer.lock().await.close().await;
        let _ = self.shared.relay.lock().await.close().await;
        drop(self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Checks both files and makes them one database; returns its name.
async fn join(
    path: &Path,
    relay_path: &Path,
    (writer, relay): (&mut Writer, &mut Writer),
    shards: u16,
) -> Result<String, OpenError> {
    let name = identify(path, writer, shards).await?;
    pair(relay_path, writer, relay, (&name, shards)).await?;
    Ok(name)
}

/// Reads or draws the database's identity, and checks what never changes.
async fn identify(path: &Path, writer: &mut Writer, shards: u16) -> Result<String, OpenError> {
    let failed = |source| OpenError::of(path, source);
    writer.begin().await.map_err(failed)?;
    let connection = writer.connection().map_err(failed)?;
    for (name, value) in [
        // Drawn by SQLite's own generator, which it seeds from the operating system.
        ("id", "SELECT lower(hex(randomblob(16)))".to_owned()),
        ("shards", format!("SELECT '{shards}'")),
    ] {
        let insert =
            format!("INSERT OR IGNORE INTO meta (name, value) VALUES ('{name}', ({value}))");
        let insert = sqlx::query(sqlx::AssertSqlSafe(insert));
        insert.execute(&mut *connection).await.map_err(failed)?;
    }
    let meta = "SELECT value FROM meta WHERE name = ?";
    let existing: String = sqlx::query_scalar(meta)
        .bind("shards")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let id: String =
        sqlx::query_scalar(meta).bind("id").fetch_one(&mut *connection).await.map_err(failed)?;
    // Nobody who held a claim is alive.
    sqlx::query("UPDATE timers SET claimable = due WHERE claimable > due")
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    writer.commit().await.map_err(failed)?;
    let existing = existing.parse().unwrap_or(0);
    if existing != shards {
        let path = path.to_owned();
        return Err(OpenError::Shards { path, existing, configured: shards });
    }
    Ok(id)
}

/// Returns the sequence value that the next message gets: all below it are decided.
pub(crate) async fn next_seq(executor: impl sqlx::SqliteExecutor<'_>) -> Result<u64, sqlx::Error> {
    let last: Option<i64> =
        sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
            .fetch_optional(executor)
            .await?;
    Ok(crate::clock::nat(last.unwrap_or(0)).saturating_add(1))
}
