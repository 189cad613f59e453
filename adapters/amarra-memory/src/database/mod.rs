//! The simulated database: transactions, row locks, the outbox log and read models.

mod inbox;
mod inspect;
mod locks;
mod messaging;
mod outbox;
mod outbox_log;
mod state;
mod store;
mod tables;
mod timers;
mod transactions;
mod unit;
mod writes;

use std::sync::{Arc, Mutex, PoisonError};

use amarra_core::Environment;

pub use inspect::Inspection;
pub use outbox::{OutboxRow, ShardRow};
pub use outbox_log::MemoryOutboxLog;
pub use store::MemoryStore;
pub use timers::TimerRow;

use self::state::{Signals, State};
use crate::client::ClientId;
use crate::config::DatabaseConfig;
use crate::error::ConfigError;
use crate::faults::{Operation, Site, Verdict};
use crate::hooks::{Hooks, pause};

/// One service's database: a model of Postgres at READ COMMITTED.
///
/// Transaction ids are drawn at the first lock or write and sequence values at the insert, so both
/// orders differ from the commit order as they do in Postgres. Rows are locked until the unit ends;
/// a row that does not exist cannot be locked by `load`, so two units may both find an aggregate
/// absent, and the second to save it waits for the first and meets its row.
///
/// A commit is written ahead, flushed, made visible and acknowledged, in this order. Nothing runs
/// in the background: what a server would do by itself is done by the calls that meet it.
///
/// Cheap to clone: all clones are one database.
#[derive(Debug, Clone)]
pub struct MemoryDatabase {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) config: DatabaseConfig,
    pub(crate) env: Environment,
    hooks: Hooks,
    signals: Arc<Signals>,
    state: Mutex<State>,
}

impl Shared {
    /// Works on the state, then tells the observer what became true.
    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let (out, events) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let out = work(&mut state);
            (out, state.events.as_mut().map(std::mem::take).unwrap_or_default())
        };
        if let Some(observer) = &self.hooks.observer {
            events.iter().for_each(|tx| observer.committed(tx));
        }
        out
    }

    /// Asks the fault hook about an operation and lets the request travel.
    async fn arrive(&self, client: &ClientId, operation: Operation<'_>) -> Verdict {
        let verdict = self.hooks.at(&Site { server: &self.name, client, operation });
        pause(&self.env, verdict.delay_before).await;
        verdict
    }
}

impl MemoryDatabase {
    /// Starts an empty database; `env` is its own: its clock decides about leases and timers.
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
        let name = name.into();
        let signals = Arc::new(Signals::default());
        let observing = hooks.observer.is_some();
        let state = State::new(Arc::clone(&name), config.shards, observing, Arc::clone(&signals));
        let state = Mutex::new(state);
        Ok(Self { shared: Arc::new(Shared { name, config, env, hooks, signals, state }) })
    }

    /// Returns the database's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// Connects a client; older incarnations of its node are refused from now on.
    #[must_use]
    pub fn connect(&self, client: ClientId) -> MemoryStore {
        self.shared.with(|state| state.fence.connect(&client));
        MemoryStore::new(Arc::clone(&self.shared), client)
    }

    /// Connects a relay; older incarnations of its node are refused from now on.
    #[must_use]
    pub fn outbox_log(&self, client: ClientId) -> MemoryOutboxLog {
        self.shared.with(|state| state.fence.connect(&client));
        MemoryOutboxLog::new(Arc::clone(&self.shared), client)
    }

    /// Stops the server: open units fail with `Connection`, commits in flight are answered
    /// `OutcomeUnknown`.
    ///
    /// A commit whose record was written is found again at [`restart`](Self::restart), unless
    /// `power_loss` took it from the memory of the machine before it was flushed. What was
    /// acknowledged is never lost.
    pub fn crash(&self, power_loss: bool) {
        let gap = self.shared.config.sequence_gap_at_crash;
        self.shared.with(|state| state.crash(power_loss, gap));
    }

    /// Starts the server again and redoes the commits that were written and not lost.
    pub fn restart(&self) {
        self.shared.with(State::restart);
    }

    /// Ends the connections of a killed process: its open units are rolled back, its commits in
    /// flight are finished, and its incarnations met so far are refused for ever, so that nothing
    /// its destructors do has any effect.
    pub fn disconnect(&self, node: &str) {
        self.shared.with(|state| {
            state.disconnect(node);
            state.fence.disconnect(node);
        });
    }

    /// Breaks the connections of a node, which may connect again: open units fail with
    /// `Connection`, commits in flight are finished and answered `OutcomeUnknown`.
    pub fn reset_connections(&self, node: &str) {
        self.shared.with(|state| state.disconnect(node));
    }

    /// Looks at what is committed, whether the server runs or not.
    ///
    /// The database is locked meanwhile: `look` must not call it.
    pub fn inspect<R>(&self, look: impl FnOnce(&Inspection<'_>) -> R) -> R {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        look(&Inspection::new(&state))
    }
}
