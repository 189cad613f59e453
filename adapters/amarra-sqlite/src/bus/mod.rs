//! The bus: a durable broker for the services of one process, in one file.

mod config;
mod consumer;
mod session;

use std::sync::Arc;

use amarra_core::Environment;
use amarra_messaging::{Group, Topic};

pub use config::{BusConfig, MemberConfig, TopicConfig};
pub use consumer::SqliteConsumer;
pub use session::SqliteTransport;

use crate::error::OpenError;

/// A broker for the services of one process: topics, fenced sessions and consumer groups, kept in
/// one file.
///
/// Cheap to clone: all clones are one bus. Members and groups live in memory; records, committed
/// offsets and fences in the file.
#[derive(Debug, Clone)]
pub struct SqliteBus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    config: BusConfig,
    #[expect(dead_code, reason = "used by the members")]
    env: Environment,
}

impl SqliteBus {
    /// Opens the bus, makes its file when it is not there, and declares its topics.
    ///
    /// # Errors
    /// [`OpenError`]; each variant says what to do.
    #[expect(clippy::unused_async, reason = "the file is opened here")]
    pub async fn open(config: BusConfig, env: Environment) -> Result<Self, OpenError> {
        config.validate()?;
        Ok(Self { shared: Arc::new(Shared { config, env }) })
    }

    /// Declares one more topic; declaring it again with as many partitions does nothing.
    ///
    /// # Errors
    /// [`OpenError::Partitions`] when it has another number of them.
    #[expect(clippy::unused_async, reason = "the file is written here")]
    pub async fn declare(&self, topic: TopicConfig) -> Result<(), OpenError> {
        Err(OpenError::UnknownTopic { path: self.shared.config.path.clone(), topic: topic.topic })
    }

    /// Returns the transport of the outbox `source`, as [`OutboxLog::source`] names it.
    ///
    /// [`OutboxLog::source`]: amarra_messaging::OutboxLog::source
    #[must_use]
    pub fn transport(&self, source: impl Into<Arc<str>>) -> SqliteTransport {
        SqliteTransport::new(Arc::clone(&self.shared), source.into())
    }

    /// Makes a member of a group; it joins at its first poll.
    ///
    /// # Errors
    /// [`OpenError::Config`] and [`OpenError::UnknownTopic`].
    pub fn consumer(
        &self,
        group: impl Into<Group>,
        topics: &[Topic],
        config: MemberConfig,
    ) -> Result<SqliteConsumer, OpenError> {
        config.validate()?;
        Ok(SqliteConsumer::new(Arc::clone(&self.shared), group.into(), topics.into(), config))
    }

    /// Forgets a group: its offsets, and that it has still to read anything.
    ///
    /// # Errors
    /// [`OpenError::Driver`].
    #[expect(clippy::unused_async, reason = "the file is written here")]
    pub async fn forget_group(&self, _group: &Group) -> Result<(), OpenError> {
        Ok(())
    }

    /// Finishes what is being written and closes the file; every later call fails.
    #[expect(clippy::unused_async, reason = "the file is closed here")]
    pub async fn close(&self) {}
}
