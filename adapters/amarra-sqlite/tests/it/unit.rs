//! A unit that a crash takes away, and whose commit can be lost on its way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use amarra_conformance::CommitLoss;
use amarra_core::{AggregateId, PartitionKey, Timestamp, Version};
use amarra_messaging::message::Delivery;
use amarra_messaging::{
    Admit, Group, Inbox, Incoming, Outbox, Outgoing, Parked, ParkingLot, Topic, TxError,
};
use amarra_store::audit::AuditDraft;
use amarra_store::read_model::{ViewName, ViewRow, ViewWrite};
use amarra_store::unit::StoredState;
use amarra_store::{Claim, IdempotencyKey, Idempotent, StoredResponse, UnitOfWork};
use async_trait::async_trait;
use bytes::Bytes;

use crate::backend::Bed;

/// The adapter's unit, none once a crash took it.
pub(crate) type Inner = tokio::sync::Mutex<Option<Box<dyn UnitOfWork>>>;

/// What a law gets instead.
pub(crate) struct Unit {
    inner: Arc<Inner>,
    now: Timestamp,
    bed: Arc<Bed>,
    client: String,
}

impl Unit {
    pub(crate) fn new(inner: Arc<Inner>, now: Timestamp, bed: Arc<Bed>, client: String) -> Self {
        Self { inner, now, bed, client }
    }
}

fn gone() -> TxError {
    TxError::Connection { why: "the process was killed".to_owned() }
}

macro_rules! delegate {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        $self.inner.lock().await.as_mut().ok_or_else(gone)?.$method($($argument),*).await
    };
}

#[async_trait]
impl Outbox for Unit {
    async fn enqueue(&mut self, messages: &[Outgoing]) -> Result<(), TxError> {
        delegate!(self.enqueue(messages))
    }
}

#[async_trait]
impl Inbox for Unit {
    async fn admit(&mut self, group: &Group, message: &Incoming) -> Result<Admit, TxError> {
        delegate!(self.admit(group, message))
    }
}

#[async_trait]
impl ParkingLot for Unit {
    async fn park(
        &mut self,
        group: &Group,
        delivery: &Delivery,
        reason: &str,
    ) -> Result<(), TxError> {
        delegate!(self.park(group, delivery, reason))
    }

    async fn parked_among(
        &mut self,
        group: &Group,
        topic: &Topic,
        keys: &BTreeSet<PartitionKey>,
    ) -> Result<BTreeSet<PartitionKey>, TxError> {
        delegate!(self.parked_among(group, topic, keys))
    }

    async fn first_parked(
        &mut self,
        group: &Group,
        topic: &Topic,
        key: &PartitionKey,
    ) -> Result<Option<Parked>, TxError> {
        delegate!(self.first_parked(group, topic, key))
    }

    async fn unpark(&mut self, group: &Group, ticket: u64) -> Result<(), TxError> {
        delegate!(self.unpark(group, ticket))
    }
}

#[async_trait]
impl UnitOfWork for Unit {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn load(&mut self, ids: &[AggregateId]) -> Result<Vec<StoredState>, TxError> {
        delegate!(self.load(ids))
    }

    async fn save(
        &mut self,
        id: &AggregateId,
        expected: Version,
        body: Bytes,
    ) -> Result<(), TxError> {
        delegate!(self.save(id, expected, body))
    }

    async fn schedule(&mut self, id: &AggregateId, after: Option<Duration>) -> Result<(), TxError> {
        delegate!(self.schedule(id, after))
    }

    async fn verify(&mut self, claim: &Claim) -> Result<(), TxError> {
        delegate!(self.verify(claim))
    }

    async fn begin_idempotent(&mut self, key: &IdempotencyKey) -> Result<Idempotent, TxError> {
        delegate!(self.begin_idempotent(key))
    }

    async fn record_response(
        &mut self,
        key: &IdempotencyKey,
        response: &StoredResponse,
    ) -> Result<(), TxError> {
        delegate!(self.record_response(key, response))
    }

    async fn audit(&mut self, entry: AuditDraft) -> Result<(), TxError> {
        delegate!(self.audit(entry))
    }

    async fn load_views(&mut self, names: &[ViewName]) -> Result<Vec<Option<ViewRow>>, TxError> {
        delegate!(self.load_views(names))
    }

    async fn write_view(&mut self, write: ViewWrite) -> Result<(), TxError> {
        delegate!(self.write_view(write))
    }

    async fn commit(self: Box<Self>) -> Result<(), TxError> {
        let unit = self.inner.lock().await.take().ok_or_else(gone)?;
        match self.bed.loss(&self.client) {
            None => unit.commit().await,
            Some(CommitLoss::BeforeSend) => Err(gone()),
            Some(CommitLoss::Request) => Err(TxError::OutcomeUnknown),
            Some(CommitLoss::Answer) => {
                unit.commit().await?;
                Err(TxError::OutcomeUnknown)
            }
        }
    }
}
