//! What a service implements to consume messages.

use std::collections::BTreeMap;
use std::fmt;

use amarra_core::AggregateId;
use amarra_messaging::{Group, Incoming, Topic};
use async_trait::async_trait;

use crate::read_model::ViewName;
use crate::session::{HandlerError, Session};
use crate::unit::StoredState;

/// Applies messages of some topics, each in the transaction that admits it.
///
/// # Laws
/// - HND-1 `handle` changes nothing but through its session: it may be run again after a rollback.
/// - HND-2 a message of a type this service does not know is `Ok`: topics gain types over time.
/// - HND-3 batches of one database lock in one order: aggregates that `touches` names, those of
///   `touches_further`, rows of views. A kind of aggregate is named by one of the first two alone,
///   by every handler and timer alike; otherwise batches can wait for each other in a circle, and
///   the database ends one of them.
#[async_trait]
pub trait Handler: Send + Sync + fmt::Debug {
    /// Names the consumer group; admissions and parking are per group.
    fn group(&self) -> &Group;

    /// Names the topics to subscribe to.
    fn topics(&self) -> &[Topic];

    /// Names the aggregates the message will load, so that a batch locks all of its aggregates in
    /// id order before the first message is handled. What is left out is locked when it is loaded.
    fn touches(&self, message: &Incoming) -> Vec<AggregateId> {
        let _ = message;
        Vec::new()
    }

    /// Names aggregates of the message that only the states of the first ones tell of, so that a
    /// batch locks these too before the first message is handled, again in id order.
    ///
    /// `states` holds what [`touches`](Self::touches) named, for all of the batch.
    fn touches_further(
        &self,
        message: &Incoming,
        states: &BTreeMap<AggregateId, StoredState>,
    ) -> Vec<AggregateId> {
        let _ = (message, states);
        Vec::new()
    }

    /// Names the rows of views the message will load, so that a batch locks all of them in the
    /// order of their names, after its aggregates.
    fn views(&self, message: &Incoming) -> Vec<ViewName> {
        let _ = message;
        Vec::new()
    }

    /// Applies one message.
    ///
    /// # Errors
    /// [`HandlerError`]: `Transient`, `Unknown` and `Conflict` run the batch again; `Rejected` and
    /// `Fatal` park the message's key.
    async fn handle(
        &self,
        session: &mut Session<'_>,
        message: &Incoming,
    ) -> Result<(), HandlerError>;
}

/// Acts on aggregates whose durable timer is due.
///
/// The implementation begins its own transactions, since it may call the outside world between
/// two: read in the first, call, then [`verify`](crate::UnitOfWork::verify) the claim and save in
/// the second, scheduling the next timer or none.
#[async_trait]
pub trait DueHandler: Send + Sync + fmt::Debug {
    /// The kind of aggregate.
    fn kind(&self) -> &str;

    /// Acts on one claimed aggregate.
    ///
    /// # Errors
    /// [`HandlerError`]; the claim is acted on again after its lease.
    async fn on_due(&self, claim: &crate::Claim) -> Result<(), HandlerError>;
}
