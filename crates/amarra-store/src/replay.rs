//! Replays the parked messages of a key, in order, once what made the first one poison is mended.

use std::sync::Arc;

use amarra_core::{Class, Classify, Environment, PartitionKey};
use amarra_messaging::message::Turn;
use amarra_messaging::{Parked, Topic, TxError, wire};

use crate::handler::Handler;
use crate::processor::{handle, stand_in};
use crate::session::HandlerError;
use crate::unit::{Store, UnitOfWork};

/// Applies what is parked for one group, message by message, each in its own unit of work.
///
/// Two replays of one key at once are safe: the oldest message is locked while it is handled, and
/// it is removed in the transaction that applies it.
#[derive(Debug, Clone)]
pub struct Replayer {
    store: Arc<dyn Store>,
    handler: Arc<dyn Handler>,
    env: Environment,
    source: Arc<str>,
}

/// How far a replay came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// How many messages were applied and removed.
    pub applied: usize,
    /// Why it stopped before the key was empty, none when it is empty or `limit` was reached.
    pub stopped: Option<Stopped>,
}

/// Why a replay stopped: the message named stays first in its key's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The message's number in the parking lot, none when it could not be read.
    pub ticket: Option<u64>,
    /// What may be done about it; `Transient`, `Conflict` and `Unknown` mean: replay again.
    pub class: Class,
    /// What happened, in words for an operator.
    pub why: String,
}

impl Replayer {
    /// Puts a replayer together, of the same parts as the processor that parked.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        handler: Arc<dyn Handler>,
        env: Environment,
        source: impl Into<Arc<str>>,
    ) -> Self {
        Self { store, handler, env, source: source.into() }
    }

    /// Applies at most `limit` parked messages of a key, the oldest first; stops at the first that
    /// fails.
    ///
    /// # Cancellation
    /// The message being replayed is rolled back, or its outcome is unknown; replay again.
    pub async fn replay(&self, topic: &Topic, key: &PartitionKey, limit: usize) -> Replay {
        for applied in 0..limit {
            match self.next(topic, key).await {
                Ok(true) => {}
                Ok(false) => return Replay { applied, stopped: None },
                Err(stopped) => return Replay { applied, stopped: Some(stopped) },
            }
        }
        Replay { applied: limit, stopped: None }
    }

    async fn next(&self, topic: &Topic, key: &PartitionKey) -> Result<bool, Stopped> {
        let group = self.handler.group();
        let mut unit = self.store.begin().await.map_err(|e| stopped(None, &e))?;
        let first = unit.first_parked(group, topic, key).await.map_err(|e| stopped(None, &e))?;
        let Some(parked) = first else { return Ok(false) };
        let because = |error: &HandlerError| stopped(Some(parked.ticket), error);
        self.apply(unit.as_mut(), &parked).await.map_err(|e| because(&e))?;
        unit.commit().await.map_err(|e| because(&e.into()))?;
        Ok(true)
    }

    async fn apply(&self, unit: &mut dyn UnitOfWork, parked: &Parked) -> Result<(), HandlerError> {
        let group = self.handler.group();
        let mut message = wire::decode(&parked.delivery).map_err(|e| {
            let what = format!("parked message {}", parked.ticket);
            TxError::Corrupt { what, why: e.to_string() }
        })?;
        message.turn = Turn::Replayed;
        // Parking admitted the message, unless it did not decode then: such a one was admitted by
        // its place only, and what it says may since have been applied from another place.
        let applied_elsewhere = !unit.admit(group, &message).await?.applies()
            && !unit.admit(group, &stand_in(&parked.delivery)).await?.applies();
        if !applied_elsewhere {
            handle(self.handler.as_ref(), unit, (&self.env, &self.source), &message).await?;
        }
        unit.unpark(group, parked.ticket).await?;
        Ok(())
    }
}

fn stopped(ticket: Option<u64>, error: &(impl Classify + std::fmt::Display)) -> Stopped {
    Stopped { ticket, class: error.class(), why: error.to_string() }
}
