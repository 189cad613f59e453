//! A small service of the suite's own: it notes every message it applies, and refuses some.

use std::sync::Arc;

use amarra_core::{AggregateId, Environment, EventId, PartitionKey};
use amarra_messaging::message::Delivery;
use amarra_messaging::{Group, Incoming, Offset, Partition, Topic, wire};
use amarra_store::session::Loaded;
use amarra_store::{Aggregate, Command, Draft, Handler, HandlerError, Session};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::backend::StoreBackend;
use crate::check::{Must, envelope, incoming, jitter, transact};

/// The kind of message the ledger refuses.
pub const POISON: &str = "Poison";
/// The kind of message the ledger notes.
pub const NOTED: &str = "Changed";

/// What was applied for one key, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    /// The events.
    pub events: Vec<EventId>,
}

impl Aggregate for Notes {
    const KIND: &'static str = "notes";
}

/// A message saying that a key has one more note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteTaken {
    /// How many there are now.
    pub count: u64,
}

impl amarra_core::codec::Message for NoteTaken {
    const KIND: &'static str = "NoteTaken";
}

/// A handler that notes each event of a key, announces it, and refuses poison.
///
/// It is what the laws of [`Processor`](amarra_messaging::runtime::Processor) are checked with, and
/// an example of a [`Handler`].
#[derive(Debug)]
pub struct Ledger {
    group: Group,
    topics: Vec<Topic>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { group: Group::from("ledger"), topics: vec![Topic::from("things")] }
    }
}

#[async_trait]
impl Handler for Ledger {
    fn group(&self) -> &Group {
        &self.group
    }

    fn topics(&self) -> &[Topic] {
        &self.topics
    }

    fn touches(&self, message: &Incoming) -> Vec<AggregateId> {
        vec![Notes::aggregate_id(message.envelope.partition_key.as_str())]
    }

    async fn handle(
        &self,
        session: &mut Session<'_>,
        message: &Incoming,
    ) -> Result<(), HandlerError> {
        match message.envelope.kind.as_ref() {
            POISON => return Err(HandlerError::Refused("poison".to_owned())),
            NOTED => {}
            _ => return Ok(()),
        }
        take(session, message.envelope.partition_key.as_str(), message.envelope.id).await?;
        Ok(())
    }
}

/// Makes a message of `key` that the ledger notes.
#[must_use]
pub fn message(env: &Environment, key: &str) -> Incoming {
    incoming(env, key, 0)
}

/// A command that notes its own run for a key: the counterpart of the handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The key.
    pub key: Arc<str>,
}

#[async_trait]
impl Command for Note {
    type Output = u64;
    type Error = HandlerError;

    async fn run(&self, session: &mut Session<'_>) -> Result<u64, HandlerError> {
        let event = session.env().new_id();
        take(session, &self.key, event).await
    }
}

/// Notes an event for a key and announces how many there are now.
async fn take(session: &mut Session<'_>, key: &str, event: EventId) -> Result<u64, HandlerError> {
    jitter(session.env()).await;
    let mut notes: Loaded<Notes> = session.load(key).await?;
    jitter(session.env()).await;
    let mut next = notes.state.take().unwrap_or_default();
    next.events.push(event);
    let count = u64::try_from(next.events.len()).unwrap_or(u64::MAX);
    let version = session.save(&mut notes, next, "note").await?;
    let draft = Draft {
        topic: "notes",
        key: PartitionKey::from(key),
        subject: &notes.id,
        version,
        message: &NoteTaken { count },
    };
    session.emit(draft).await?;
    Ok(count)
}

/// Makes a delivery of partition 0 that the ledger notes, or refuses when `kind` is poison.
pub(crate) fn delivery(env: &Environment, kind: &str, key: &str, offset: u64) -> Delivery {
    let mut envelope = envelope(env, key, offset.saturating_add(1));
    envelope.kind = Arc::from(kind);
    Delivery {
        topic: Topic::from("things"),
        partition: Partition(0),
        offset: Offset(offset),
        record: wire::encode(&envelope, None),
    }
}

/// Returns the event a delivery carries.
pub(crate) fn event(delivery: &Delivery) -> EventId {
    wire::decode(delivery).must("a delivery of the suite").envelope.id
}

/// Returns the events of deliveries.
pub(crate) fn events(deliveries: &[Delivery]) -> Vec<EventId> {
    deliveries.iter().map(event).collect()
}

/// Returns what the ledger noted for a key, as committed.
pub(crate) async fn noted<B: StoreBackend>(b: &B, key: &str) -> Vec<EventId> {
    let store = b.store("observer");
    let body = transact(&b.env(), store.as_ref(), async |unit| {
        Ok(crate::check::load(unit, &Notes::aggregate_id(key)).await?.1)
    })
    .await;
    if body.is_empty() {
        return Vec::new();
    }
    serde_json::from_slice::<Notes>(&body).must("stored notes").events
}
