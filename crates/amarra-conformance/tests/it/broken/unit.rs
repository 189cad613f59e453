//! A unit of work with the defect of its test.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{AggregateId, Environment, PartitionKey, Timestamp, Version};
use amarra_messaging::message::Delivery;
use amarra_messaging::{Group, Outbox, Outgoing, Parked, ParkingLot, Topic, TxError};
use amarra_store::read_model::ViewWrite;
use amarra_store::unit::StoredState;
use amarra_store::{
    AuditDraft, Claim, IdempotencyKey, Idempotent, Store, StoredResponse, UnitOfWork, ViewName,
    ViewRow,
};
use async_trait::async_trait;
use bytes::Bytes;

use super::Defect;
use super::log::Tickets;

pub struct BrokenUnit {
    pub inner: Box<dyn UnitOfWork>,
    /// A store of the same client, for what escapes the transaction.
    pub beside: Arc<dyn Store>,
    pub env: Environment,
    pub defect: Defect,
    pub tickets: Arc<Tickets>,
    pub ticket: Option<u64>,
}

impl BrokenUnit {
    fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    /// Notes that this unit wrote: transaction ids are drawn at the first write.
    fn wrote(&mut self) {
        if self.ticket.is_none() {
            self.ticket = Some(self.tickets.draw());
        }
    }

    pub async fn beside(&mut self) -> Result<Box<dyn UnitOfWork>, TxError> {
        self.beside.begin().await
    }
}

impl Drop for BrokenUnit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.tickets.end(ticket);
        }
    }
}

#[async_trait]
impl Outbox for BrokenUnit {
    async fn enqueue(&mut self, messages: &[Outgoing]) -> Result<(), TxError> {
        self.wrote();
        for message in messages {
            self.tickets.note(message.envelope.id, self.ticket.unwrap_or_default());
        }
        let mut messages = messages.to_vec();
        match self.defect {
            Defect::OutboxOutsideTheTransaction => {
                let mut beside = self.beside().await?;
                beside.enqueue(&messages).await?;
                return beside.commit().await;
            }
            Defect::OutboxReversesACall => messages.reverse(),
            Defect::OutboxCutsLargeMessages => {
                for message in &mut messages {
                    message.envelope.data.truncate(1000);
                }
            }
            _ => {}
        }
        self.inner.enqueue(&messages).await
    }
}

#[async_trait]
impl ParkingLot for BrokenUnit {
    async fn park(
        &mut self,
        group: &Group,
        delivery: &Delivery,
        reason: &str,
    ) -> Result<(), TxError> {
        let reason = if self.is(Defect::ParkingForgetsTheReason) { "" } else { reason };
        self.inner.park(group, delivery, reason).await
    }

    async fn parked_among(
        &mut self,
        group: &Group,
        topic: &Topic,
        keys: &BTreeSet<PartitionKey>,
    ) -> Result<BTreeSet<PartitionKey>, TxError> {
        if self.is(Defect::ParkingIsNotAsked) {
            return Ok(BTreeSet::new());
        }
        self.inner.parked_among(group, topic, keys).await
    }

    async fn first_parked(
        &mut self,
        group: &Group,
        topic: &Topic,
        key: &PartitionKey,
    ) -> Result<Option<Parked>, TxError> {
        let first = self.inner.first_parked(group, topic, key).await?;
        if !self.is(Defect::ParkingTakesTheNewest) {
            return Ok(first);
        }
        // Takes the oldest ones away to look at the newest, and puts them back behind it.
        let (mut all, mut next) = (Vec::new(), first);
        while let Some(parked) = next {
            self.inner.unpark(group, parked.ticket).await?;
            all.push(parked);
            next = self.inner.first_parked(group, topic, key).await?;
        }
        let newest = all.pop();
        if let Some(newest) = &newest {
            self.inner.park(group, &newest.delivery, &newest.reason).await?;
        }
        for parked in &all {
            self.inner.park(group, &parked.delivery, &parked.reason).await?;
        }
        self.inner.first_parked(group, topic, key).await
    }

    async fn unpark(&mut self, group: &Group, ticket: u64) -> Result<(), TxError> {
        self.inner.unpark(group, ticket).await
    }
}

#[async_trait]
impl UnitOfWork for BrokenUnit {
    fn now(&self) -> Timestamp {
        if self.is(Defect::NowPassesWithinAUnit) { self.env.now() } else { self.inner.now() }
    }

    async fn load(&mut self, ids: &[AggregateId]) -> Result<Vec<StoredState>, TxError> {
        match self.defect {
            Defect::LoadLocksInTheOrderAskedFor => {
                let mut states = Vec::new();
                for id in ids {
                    states.extend(self.inner.load(std::slice::from_ref(id)).await?);
                    self.env.sleep(Duration::from_micros(10)).await;
                }
                Ok(states)
            }
            Defect::LoadLocksNothing => self.beside().await?.load(ids).await,
            _ => self.inner.load(ids).await,
        }
    }

    async fn save(
        &mut self,
        id: &AggregateId,
        expected: Version,
        body: Bytes,
    ) -> Result<(), TxError> {
        self.wrote();
        if self.is(Defect::SaveIgnoresTheVersion) {
            let stored = self.inner.load(std::slice::from_ref(id)).await?;
            let version = stored.first().map_or(expected, |state| state.version);
            let saved = self.inner.save(id, version, body.clone()).await;
            if !matches!(saved, Err(TxError::Conflict { .. })) {
                return saved;
            }
            self.inner = self.beside().await?;
            return Box::pin(self.save(id, expected, body)).await;
        }
        if self.is(Defect::FailedCallIsForgotten) {
            // Looks before it saves, so that the transaction itself never fails.
            let stored = self.inner.load(std::slice::from_ref(id)).await?;
            if stored.first().is_some_and(|state| state.version != expected) {
                return Err(TxError::Conflict { id: id.clone() });
            }
        }
        self.inner.save(id, expected, body).await
    }

    async fn schedule(&mut self, id: &AggregateId, after: Option<Duration>) -> Result<(), TxError> {
        self.inner.schedule(id, after).await
    }

    async fn verify(&mut self, claim: &Claim) -> Result<(), TxError> {
        match self.defect {
            Defect::VerifyTrustsTheClaim => Ok(()),
            Defect::VerifyChecksOutsideTheTransaction => self.beside().await?.verify(claim).await,
            Defect::ScheduleKeepsTheClaim => {
                let verified = self.inner.verify(claim).await;
                let newest = self.tickets.claimed(claim) == Some(claim.epoch);
                if newest { Ok(()) } else { verified }
            }
            _ => self.inner.verify(claim).await,
        }
    }

    async fn begin_idempotent(&mut self, key: &IdempotencyKey) -> Result<Idempotent, TxError> {
        let answer = self.inner.begin_idempotent(&self.known_as(key)).await?;
        if self.is(Defect::IdempotencyIgnoresOthersInFlight) && answer == Idempotent::InFlight {
            return Ok(Idempotent::Fresh);
        }
        Ok(answer)
    }

    async fn record_response(
        &mut self,
        key: &IdempotencyKey,
        response: &StoredResponse,
    ) -> Result<(), TxError> {
        if self.is(Defect::IdempotencyRecordsNothing) {
            return Ok(());
        }
        let key = self.known_as(key);
        self.inner.record_response(&key, response).await
    }

    async fn audit(&mut self, entry: AuditDraft) -> Result<(), TxError> {
        match self.defect {
            Defect::AuditOutsideTheTransaction => {
                let mut beside = self.beside().await?;
                beside.audit(entry).await?;
                beside.commit().await
            }
            Defect::AuditDropsTheSecondRow if self.tickets.count_audits() == 2 => Ok(()),
            _ => self.inner.audit(entry).await,
        }
    }

    async fn load_views(&mut self, names: &[ViewName]) -> Result<Vec<Option<ViewRow>>, TxError> {
        if self.defect != Defect::LoadLocksInTheOrderAskedFor {
            return self.inner.load_views(names).await;
        }
        let mut rows = Vec::new();
        for name in names {
            rows.extend(self.inner.load_views(std::slice::from_ref(name)).await?);
            self.env.sleep(Duration::from_micros(10)).await;
        }
        Ok(rows)
    }

    async fn write_view(&mut self, write: ViewWrite) -> Result<(), TxError> {
        match self.defect {
            Defect::CommitSkipsTheViews => Ok(()),
            Defect::ViewsOutsideTheTransaction => {
                let mut beside = self.beside().await?;
                beside.write_view(write).await?;
                beside.commit().await?;
                self.env.sleep(Duration::from_micros(7)).await;
                Ok(())
            }
            _ => self.inner.write_view(write).await,
        }
    }

    async fn commit(mut self: Box<Self>) -> Result<(), TxError> {
        let beside = self.beside.begin().await?;
        let inner = std::mem::replace(&mut self.inner, beside);
        match (self.defect, inner.commit().await) {
            (Defect::UnknownCommitIsCalledTransient, Err(TxError::OutcomeUnknown)) => {
                Err(TxError::Connection { why: "lost".to_owned() })
            }
            (Defect::TransientCommitIsCalledUnknown, Err(TxError::Connection { .. })) => {
                Err(TxError::OutcomeUnknown)
            }
            (_, answer) => answer,
        }
    }
}

impl BrokenUnit {
    /// The idempotency key as this unit knows it.
    fn known_as(&self, key: &IdempotencyKey) -> IdempotencyKey {
        let mut key = key.clone();
        match self.defect {
            Defect::IdempotencyIgnoresTheRequest => key.request_hash = [0; 32],
            Defect::IdempotencyForgetsThePrincipal => key.principal = Arc::from("somebody"),
            _ => {}
        }
        key
    }
}
