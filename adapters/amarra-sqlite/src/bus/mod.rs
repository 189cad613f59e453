//! The bus: a durable broker for the services of one process, in one file.

mod assignor;
mod config;
mod consumer;
mod group;
mod plan;
mod request;
mod retention;
mod session;
mod state;
mod table;
mod writer;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex as StdMutex};

use amarra_core::Environment;
use amarra_messaging::{Group, Topic};
use sqlx::SqlitePool;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

pub use config::{BusConfig, MemberConfig, TopicConfig};
pub use consumer::SqliteConsumer;
pub use session::SqliteTransport;

use self::plan::Fences;
use self::request::{Reply, Request};
use self::retention::Retention;
use self::state::State;
use self::writer::{Core, Task};
use crate::clock::DatabaseClock;
use crate::error::OpenError;
use crate::file::{self, ProcessLock, Schema, Tuning, Writer};

/// `AmaB`: a bus.
const BUS: Schema = Schema {
    what: "a bus",
    application_id: 0x416d_6142,
    steps: &[include_str!("../../migrations/bus/1.sql")],
};

/// A broker for the services of one process: topics, fenced sessions and consumer groups, kept in
/// one file.
///
/// Cheap to clone: all clones are one bus. It is closed when the last handle made from it is
/// dropped, or by [`close`](Self::close); a process that is killed leaves nothing to repair.
///
/// # State
/// Records, committed offsets, subscriptions and fences are in the file. Members are in memory,
/// since they end with the process; so are the newest records, for members that keep up.
///
/// # Example
/// ```no_run
/// # async fn example(env: amarra_core::Environment) -> Result<(), Box<dyn std::error::Error>> {
/// use amarra_sqlite::{BusConfig, MemberConfig, SqliteBus, TopicConfig};
///
/// let topics = vec![TopicConfig { topic: "orders".into(), partitions: 4 }];
/// let bus = SqliteBus::open(BusConfig::new("data/amarra-bus.sqlite", topics), env).await?;
/// let transport = bus.transport("orders-outbox");
/// let consumer = bus.consumer("payments", &["orders".into()], MemberConfig::default())?;
/// # drop((transport, consumer));
/// bus.close().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct SqliteBus {
    shared: Arc<Shared>,
}

/// What every handle holds; the writer ends when all of them are gone.
#[derive(Debug)]
struct Shared {
    config: Arc<BusConfig>,
    env: Environment,
    state: Arc<StdMutex<State>>,
    requests: mpsc::Sender<Request>,
    readers: SqlitePool,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// The writer has ended.
#[derive(Debug)]
struct Gone;

impl Gone {
    const WHY: &str = "the bus is closed";
}

impl Shared {
    /// Works on the state.
    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        work(&mut writer::lock(&self.state))
    }

    /// Asks the writer for something and waits for its answer.
    ///
    /// # Cancellation
    /// What was asked for may happen.
    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}

impl SqliteBus {
    /// Opens the bus, makes its file when it is not there, brings its schema up to date and
    /// declares its topics; its writer is a task of the runtime this is called in.
    ///
    /// `env` decides about the sessions of members.
    ///
    /// # Errors
    /// [`OpenError`]; each variant says what to do.
    pub async fn open(config: BusConfig, env: Environment) -> Result<Self, OpenError> {
        config.validate()?;
        let path = file::resolve(&config.path)?;
        let lock = ProcessLock::take(&path)?;
        let (synchronous, busy_timeout) = (config.synchronous, config.busy_timeout);
        let (mut writer, options) =
            file::open(&path, &BUS, Tuning { synchronous, busy_timeout }).await?;
        let (state, fences, retention) = match load(&path, &mut writer, &config).await {
            Ok(loaded) => loaded,
            Err(refused) => {
                let _ = writer.close().await;
                return Err(refused);
            }
        };
        let (sender, requests) = mpsc::channel(config.queue_max);
        let config = Arc::new(config);
        let state = Arc::new(StdMutex::new(state));
        let clock = DatabaseClock::default();
        let task = Task {
            config: Arc::clone(&config),
            env: env.clone(),
            state: Arc::clone(&state),
            requests,
            core: Core {
                writer,
                clock,
                fences,
                retention,
                unsure: false,
                full: None,
                prune_after: None,
            },
            waiting: VecDeque::new(),
            lock,
        };
        let readers = file::readers(options, config.readers);
        let task = Mutex::new(Some(tokio::spawn(task.run())));
        let shared = Shared { config, env, state, requests: sender, readers, task };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns the path it was opened at.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.config.path
    }

    /// Declares one more topic; declaring it again with as many partitions does nothing.
    ///
    /// # Errors
    /// [`OpenError::Partitions`] when it has another number of them, [`OpenError::Config`] when the
    /// number is out of range, [`OpenError::Closed`], and those of the driver.
    pub async fn declare(&self, topic: TopicConfig) -> Result<(), OpenError> {
        topic.validate()?;
        let declared = self.shared.ask(|reply| Request::Declare { topic, reply }).await;
        declared.unwrap_or_else(|Gone| Err(self.closed()))
    }

    /// Connects a publisher of the outbox `source`, as [`OutboxLog::source`] names it: sessions of
    /// one shard of one outbox fence each other, and the newest one wins.
    ///
    /// [`OutboxLog::source`]: amarra_messaging::OutboxLog::source
    #[must_use]
    pub fn transport(&self, source: impl Into<Arc<str>>) -> SqliteTransport {
        SqliteTransport::new(Arc::clone(&self.shared), source.into())
    }

    /// Makes a member of a group; it joins at its first poll.
    ///
    /// # Errors
    /// [`OpenError::Config`] when a time is out of range, and [`OpenError::UnknownTopic`].
    pub fn consumer(
        &self,
        group: impl Into<Group>,
        topics: &[Topic],
        config: MemberConfig,
    ) -> Result<SqliteConsumer, OpenError> {
        config.validate()?;
        let unknown = self
            .shared
            .with(|state| topics.iter().find(|topic| !state.topics.contains_key(*topic)).cloned());
        if let Some(topic) = unknown {
            return Err(OpenError::UnknownTopic { path: self.path().to_owned(), topic });
        }
        Ok(SqliteConsumer::new(Arc::clone(&self.shared), group.into(), topics.into(), config))
    }

    /// Forgets a group: its offsets, and that records are kept until it has read them. A member of
    /// it that polls is to be stopped before.
    ///
    /// # Errors
    /// [`OpenError::Closed`], and those of the driver.
    pub async fn forget_group(&self, group: &Group) -> Result<(), OpenError> {
        let group = group.clone();
        let forgotten = self.shared.ask(|reply| Request::Forget { group, reply }).await;
        forgotten.unwrap_or_else(|Gone| Err(self.closed()))
    }

    /// Finishes what was asked for before, and closes the file; every later call fails. A process
    /// that drops its handles instead loses nothing.
    pub async fn close(&self) {
        self.shared.readers.close().await;
        let _ = self.shared.requests.send(Request::Close).await;
        let mut task = self.shared.task.lock().await;
        if let Some(running) = task.as_mut() {
            // It ends by itself, or has panicked: then its file is closed as well.
            let _ = running.await;
            *task = None;
        }
    }

    fn closed(&self) -> OpenError {
        OpenError::Closed { path: self.path().to_owned() }
    }
}

/// Declares the topics and reads what the file knows.
async fn load(
    path: &Path,
    writer: &mut Writer,
    config: &BusConfig,
) -> Result<(State, Fences, Retention), OpenError> {
    let failed = |source| OpenError::of(path, source);
    writer.begin().await.map_err(failed)?;
    let connection = writer.connection().map_err(failed)?;
    for topic in &config.topics {
        table::declare(connection, path, topic).await?;
    }
    writer.commit().await.map_err(failed)?;
    let mut state = State::new(config.cache_bytes);
    let mut fences = Fences::default();
    let mut retention = Retention::new(config.retention, config.file_bytes_max, config.prune_max);
    let connection = writer.connection().map_err(failed)?;
    for (id, log) in table::load_partitions(connection, &[]).await.map_err(failed)? {
        let front = table::first_at(connection, id).await.map_err(failed)?;
        retention.set_front(id, front);
        state.add(id, log);
    }
    table::load_groups(connection, &mut state, &mut fences).await.map_err(failed)?;
    retention.set_used(table::used(connection).await.map_err(failed)?);
    Ok((state, fences, retention))
}
