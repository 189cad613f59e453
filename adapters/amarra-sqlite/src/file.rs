//! One SQLite file: the lock that keeps other processes out, its schema, and its connections.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{ConnectOptions, Connection as _, SqliteConnection, SqlitePool};

use crate::config::Synchronous;
use crate::error::OpenError;

/// What a file is for: its mark and every step of its schema, oldest first.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) what: &'static str,
    pub(crate) application_id: i64,
    pub(crate) steps: &'static [&'static str],
}

/// How the connections of a file behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    pub(crate) synchronous: Synchronous,
    pub(crate) busy_timeout: Duration,
}

/// Holds a path for this handle alone, until it is dropped or its process dies.
#[derive(Debug)]
pub(crate) struct ProcessLock {
    _file: File,
}

impl ProcessLock {
    /// Locks a file beside `path`, which [`resolve`] returned: SQLite's own locks would keep this
    /// process's readers out too.
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let unwritable = |source| OpenError::Unwritable { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true);
        let file = file.open(beside(path, "lock")).map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unwritable(source)),
        }
    }
}

/// Makes the file when it is not there and returns its one path, so that a link to it and a path
/// through another folder share its lock and the files beside it.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    let unwritable = |source| OpenError::Unwritable { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).read(true).write(true);
    { file }.open(path).map_err(unwritable)?;
    path.canonicalize().map_err(unwritable)
}

/// Names a file beside `path` that belongs to it.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push("-");
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens a file, makes it when it is not there, and brings its schema up to date.
pub(crate) async fn open(
    path: &Path,
    schema: &Schema,
    tuning: Tuning,
) -> Result<(Writer, SqliteConnectOptions), OpenError> {
    resolve(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(tuning.synchronous.pragma())
        .busy_timeout(tuning.busy_timeout)
        .foreign_keys(true)
        .thread_name(|n| format!("amarra-sqlite-{n}"));
    let failed = |source| {
        if crate::error::is_no_database(&source) {
            return OpenError::Foreign { path: path.to_owned(), what: schema.what };
        }
        OpenError::of(path, source)
    };
    let mut connection = options.connect().await.map_err(failed)?;
    if let Err(refused) = migrate(path, schema, &mut connection).await {
        let _ = connection.close().await;
        return Err(refused);
    }
    let writer = Writer {
        options: options.clone(),
        configured: tuning.synchronous,
        synchronous: tuning.synchronous,
        connection: Some(connection),
        open: false,
        closed: false,
    };
    Ok((writer, options))
}

/// Makes the connections that read.
pub(crate) fn readers(options: SqliteConnectOptions, count: u32) -> SqlitePool {
    let options = options.pragma("query_only", "ON");
    SqlitePoolOptions::new()
        .max_connections(count)
        .acquire_timeout(Duration::from_secs(30))
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

async fn migrate(
    path: &Path,
    schema: &Schema,
    connection: &mut SqliteConnection,
) -> Result<(), OpenError> {
    let failed = |source| OpenError::of(path, source);
    let pragma = |name| sqlx::query_scalar::<_, i64>(name);
    let mark = pragma("PRAGMA application_id").fetch_one(&mut *connection).await.map_err(failed)?;
    let found = pragma("PRAGMA user_version").fetch_one(&mut *connection).await.map_err(failed)?;
    let tables = pragma("SELECT count(*) FROM sqlite_schema");
    let tables = tables.fetch_one(&mut *connection).await.map_err(failed)?;
    let fresh = mark == 0 && found == 0 && tables == 0;
    if !fresh && mark != schema.application_id {
        return Err(OpenError::Foreign { path: path.to_owned(), what: schema.what });
    }
    let known = i64::try_from(schema.steps.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(OpenError::SchemaAhead { path: path.to_owned(), found, known });
    }
    for (version, step) in (1_i64..).zip(schema.steps).filter(|(version, _)| *version > found) {
        let script = format!(
            "BEGIN IMMEDIATE; {step}; PRAGMA application_id = {}; PRAGMA user_version = {version}; \
             COMMIT;",
            schema.application_id
        );
        let script = sqlx::raw_sql(sqlx::AssertSqlSafe(script));
        script.execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}

/// The one connection of a file that writes.
///
/// # State
/// Closed for good, or without a connection until the next call makes one, or in a transaction
/// that was begun and not ended. Whoever begins the next one ends what a dropped unit or a
/// cancelled call left behind, so that dropping needs no runtime.
#[derive(Debug)]
pub(crate) struct Writer {
    options: SqliteConnectOptions,
    /// What a new connection begins with.
    configured: Synchronous,
    /// What the connection has now.
    synchronous: Synchronous,
    connection: Option<SqliteConnection>,
    open: bool,
    closed: bool,
}

impl Writer {
    /// Begins a transaction that may write, ending the one left behind.
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.begin_as(self.configured).await
    }

    /// Begins a transaction whose commit is on the disk as soon as `synchronous` says.
    pub(crate) async fn begin_as(&mut self, synchronous: Synchronous) -> Result<(), sqlx::Error> {
        if self.closed {
            return Err(sqlx::Error::PoolClosed);
        }
        self.settle().await;
        if self.connection.is_none() {
            self.connection = Some(self.options.connect().await?);
            self.synchronous = self.configured;
        }
        if self.synchronous != synchronous {
            self.run(synchronous.statement()).await?;
            self.synchronous = synchronous;
        }
        self.open = true;
        self.run("BEGIN IMMEDIATE").await
    }

    /// Commits; after an error the transaction is to be taken as open.
    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.run("COMMIT").await?;
        self.open = false;
        Ok(())
    }

    /// Rolls back what is open, if anything is.
    pub(crate) async fn settle(&mut self) {
        if std::mem::take(&mut self.open)
            && let Err(error) = self.run("ROLLBACK").await
            && !error.to_string().contains("no transaction is active")
        {
            // Its state is not known: a new connection has none.
            self.connection = None;
        }
    }

    /// Returns the connection, inside or outside of a transaction.
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)
    }

    /// Closes it for good; the last connection of a file writes its log back into it.
    pub(crate) async fn close(&mut self) -> Result<(), sqlx::Error> {
        self.closed = true;
        self.settle().await;
        match self.connection.take() {
            Some(connection) => connection.close().await,
            None => Ok(()),
        }
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(statement).execute(self.connection()?).await.map(drop)
    }
}
