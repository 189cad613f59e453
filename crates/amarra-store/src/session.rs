//! A unit of work with types and a cause: what services write their handlers against.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::codec::Message;
use amarra_core::{
    AggregateId, Cause, Class, Classify, Codec, Envelope, Environment, EventId, PartitionKey,
    Timestamp, Version,
};
use amarra_messaging::{Outgoing, Topic, TxError};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::audit::AuditDraft;
use crate::read_model::ViewWrite;
use crate::unit::UnitOfWork;

/// A state that is stored under a kind and an id.
pub trait Aggregate: Serialize + DeserializeOwned + Send + Sync {
    /// The kind, unique within the service's database.
    const KIND: &'static str;

    /// Names the aggregate of this kind with `id`.
    fn aggregate_id(id: &str) -> AggregateId {
        AggregateId::new(Self::KIND, id)
    }
}

/// An aggregate as loaded and locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<A> {
    /// Its name.
    pub id: AggregateId,
    /// Its version, [`Version::ABSENT`] when it was never saved.
    pub version: Version,
    /// Its state, none when it was never saved.
    pub state: Option<A>,
}

/// A message about to be enqueued: the session fills in the rest of the envelope.
#[derive(Debug, Clone)]
pub struct Draft<'a, M> {
    /// Where it goes.
    pub topic: &'a str,
    /// Which messages it keeps its order among.
    pub key: PartitionKey,
    /// The aggregate it speaks of.
    pub subject: &'a AggregateId,
    /// The aggregate's version after the change.
    pub version: Version,
    /// What it says.
    pub message: &'a M,
}

/// One message's or request's part of a unit of work.
///
/// It stamps everything with the cause, audits each save, and hands out typed aggregates. Whoever
/// made the unit commits it.
pub struct Session<'u> {
    unit: &'u mut dyn UnitOfWork,
    env: &'u Environment,
    source: &'u str,
    cause: Cause,
}

impl<'u> Session<'u> {
    /// Starts a session of `unit` for one `cause`; `source` names this service in envelopes.
    pub fn new(
        unit: &'u mut dyn UnitOfWork,
        env: &'u Environment,
        source: &'u str,
        cause: Cause,
    ) -> Self {
        Self { unit, env, source, cause }
    }

    /// Returns the transaction's time by the database's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.unit.now()
    }

    /// Returns why this session changes anything.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Returns the ambient ports.
    #[must_use]
    pub fn env(&self) -> &'u Environment {
        self.env
    }

    /// Returns the unit itself, for what the session has no method for.
    pub fn unit(&mut self) -> &mut dyn UnitOfWork {
        self.unit
    }

    /// Locks and loads one aggregate.
    ///
    /// # Errors
    /// [`TxError::Corrupt`] when it does not decode, and any other [`TxError`].
    pub async fn load<A: Aggregate>(&mut self, id: &str) -> Result<Loaded<A>, TxError> {
        let id = A::aggregate_id(id);
        let mut states = self.unit.load(std::slice::from_ref(&id)).await?;
        let stored = states.pop().ok_or_else(|| corrupt(&id, "the store answered no row"))?;
        let state = match stored.version {
            Version::ABSENT => None,
            _ => Some(
                serde_json::from_slice(&stored.body).map_err(|e| corrupt(&id, &e.to_string()))?,
            ),
        };
        Ok(Loaded { id, version: stored.version, state })
    }

    /// Locks aggregates in id order, so that later loads of them cannot deadlock.
    ///
    /// # Errors
    /// Any [`TxError`].
    pub async fn lock(&mut self, ids: &[AggregateId]) -> Result<(), TxError> {
        self.unit.load(ids).await.map(drop)
    }

    /// Saves a changed state, audits the change as `action` and returns the new version.
    ///
    /// # Errors
    /// [`TxError::Conflict`] and any other [`TxError`].
    pub async fn save<A: Aggregate>(
        &mut self,
        loaded: &mut Loaded<A>,
        state: A,
        action: &str,
    ) -> Result<Version, TxError> {
        let body = serde_json::to_vec(&state).map_err(|e| corrupt(&loaded.id, &e.to_string()))?;
        let state_hash = *blake3::hash(&body).as_bytes();
        self.unit.save(&loaded.id, loaded.version, Bytes::from(body)).await?;
        loaded.version = loaded.version.next();
        loaded.state = Some(state);
        let entry = AuditDraft {
            actor: self.cause.actor.clone(),
            action: action.into(),
            aggregate: loaded.id.clone(),
            version: loaded.version,
            correlation: self.cause.correlation,
            at: self.unit.now(),
            state_hash,
        };
        self.unit.audit(entry).await?;
        Ok(loaded.version)
    }

    /// Enqueues a message caused by this session's cause and returns its id.
    ///
    /// # Errors
    /// Any [`TxError`].
    pub async fn emit<M: Message>(&mut self, draft: Draft<'_, M>) -> Result<EventId, TxError> {
        let data = Codec::encode(draft.message)
            .map_err(|e| TxError::Corrupt { what: M::KIND.to_owned(), why: e.to_string() })?;
        let id = self.env.new_id();
        let envelope = Envelope {
            id,
            source: Arc::from(self.source),
            kind: M::KIND.into(),
            schema_version: M::SCHEMA_VERSION,
            subject: draft.subject.clone(),
            subject_version: draft.version,
            partition_key: draft.key,
            correlation: self.cause.correlation,
            causation: self.cause.causation,
            actor: self.cause.actor.clone(),
            traceparent: self.cause.traceparent.child(self.env.entropy.as_ref()),
            time: self.unit.now(),
            data,
        };
        self.unit.enqueue(&[Outgoing { topic: Topic::from(draft.topic), envelope }]).await?;
        Ok(id)
    }

    /// Sets or removes an aggregate's durable timer.
    ///
    /// # Errors
    /// Any [`TxError`].
    pub async fn schedule(
        &mut self,
        id: &AggregateId,
        after: Option<Duration>,
    ) -> Result<(), TxError> {
        self.unit.schedule(id, after).await
    }

    /// Writes a row of a read model, in the unit of work of the change it shows.
    ///
    /// # Errors
    /// Any [`TxError`].
    pub async fn write_view<T: Serialize + Sync>(
        &mut self,
        (view, key): (&str, &str),
        position: Version,
        row: &T,
    ) -> Result<(), TxError> {
        let body = serde_json::to_vec(row)
            .map_err(|e| TxError::Corrupt { what: format!("{view}/{key}"), why: e.to_string() })?;
        let (view, key) = (view.into(), key.into());
        let body = Some(Bytes::from(body));
        self.unit.write_view(ViewWrite { view, key, position, body }).await
    }
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("source", &self.source).field("cause", &self.cause).finish()
    }
}

fn corrupt(id: &AggregateId, why: &str) -> TxError {
    TxError::Corrupt { what: id.to_string(), why: why.to_owned() }
}

/// Why a message could not be applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerError {
    /// The transaction failed. Its class decides.
    #[error(transparent)]
    Tx(#[from] TxError),
    /// The payload does not decode. Class `Fatal`: the key is parked.
    #[error(transparent)]
    Codec(#[from] amarra_core::CodecError),
    /// The message makes no sense to this service. Class `Rejected`: the key is parked.
    #[error("refused: {0}")]
    Refused(String),
}

impl Classify for HandlerError {
    fn class(&self) -> Class {
        match self {
            Self::Tx(e) => e.class(),
            Self::Codec(e) => e.class(),
            Self::Refused(_) => Class::Rejected,
        }
    }
}
