//! The outbox and parking-lot ports of a unit.

use std::collections::BTreeSet;
use std::sync::Arc;

use amarra_core::PartitionKey;
use amarra_messaging::message::{Delivery, Outgoing};
use amarra_messaging::{Group, Outbox, Parked, ParkingLot, Topic, TxError};
use async_trait::async_trait;

use super::locks::LockKey;
use super::state::State;
use super::tables::ParkedKey;
use super::unit::MemoryUnit;
use super::writes::WriteSet;
use crate::faults::Operation;

#[async_trait]
impl Outbox for MemoryUnit {
    async fn enqueue(&mut self, messages: &[Outgoing]) -> Result<(), TxError> {
        let verdict = self.arrive(Operation::Enqueue { messages }).await?;
        let (id, bound) = (self.id, self.shared.config.message_bytes_max);
        self.attempt(|state, writes| {
            if messages.iter().any(|message| message.envelope.data.len() > bound) {
                let bound = u64::try_from(bound).unwrap_or(u64::MAX);
                return Err(TxError::TooLarge { what: "message (message_bytes_max)", bound });
            }
            if !messages.is_empty() {
                state.xid(id)?;
            }
            let drawn = messages.iter().map(|m| (state.tables.outbox.draw(), m.clone()));
            writes.messages.extend(drawn);
            Ok(())
        })?;
        self.answer(verdict, ()).await
    }
}

#[async_trait]
impl ParkingLot for MemoryUnit {
    async fn park(
        &mut self,
        group: &Group,
        delivery: &Delivery,
        reason: &str,
    ) -> Result<(), TxError> {
        let verdict = self.arrive(Operation::Park { group }).await?;
        // The key is locked before the ticket is drawn, or tickets of a key could commit in
        // another order than they were drawn in.
        let (topic, key) = (delivery.topic.clone(), delivery.key());
        self.lock(LockKey::Parking(group.clone(), topic, key)).await?;
        let at = self.now;
        self.attempt(|state, writes| {
            let ticket = state.next_ticket;
            state.next_ticket = ticket.saturating_add(1);
            let reason = Arc::from(reason);
            let parked = Parked { ticket, delivery: delivery.clone(), reason, at };
            writes.parked.push((group.clone(), parked));
            Ok(())
        })?;
        self.answer(verdict, ()).await
    }

    async fn parked_among(
        &mut self,
        group: &Group,
        topic: &Topic,
        keys: &BTreeSet<PartitionKey>,
    ) -> Result<BTreeSet<PartitionKey>, TxError> {
        let verdict = self.arrive(Operation::Park { group }).await?;
        let parked = self.attempt(|state, writes| {
            let is_parked = |key: &&PartitionKey| {
                let name = (group.clone(), topic.clone(), (*key).clone());
                oldest(state, writes, &name).is_some()
            };
            Ok(keys.iter().filter(is_parked).cloned().collect())
        })?;
        self.answer(verdict, parked).await
    }

    async fn first_parked(
        &mut self,
        group: &Group,
        topic: &Topic,
        key: &PartitionKey,
    ) -> Result<Option<Parked>, TxError> {
        let verdict = self.arrive(Operation::Park { group }).await?;
        let name = (group.clone(), topic.clone(), key.clone());
        self.lock(LockKey::Parking(group.clone(), topic.clone(), key.clone())).await?;
        let first = self.attempt(|state, writes| Ok(oldest(state, writes, &name)))?;
        self.answer(verdict, first).await
    }

    async fn unpark(&mut self, group: &Group, ticket: u64) -> Result<(), TxError> {
        let verdict = self.arrive(Operation::Park { group }).await?;
        let name = (group.clone(), ticket);
        let found = self.attempt(|state, writes| {
            let own = || writes.parked.iter().find(|(g, p)| (g, p.ticket) == (group, ticket));
            let parked = state.tables.parked.get(&name).or_else(|| own().map(|(_, p)| p));
            Ok(parked.map(|p| (p.delivery.topic.clone(), p.delivery.key())))
        })?;
        if let Some((topic, key)) = found {
            self.lock(LockKey::Parking(group.clone(), topic, key)).await?;
            self.attempt(|_, writes| {
                writes.unparked.insert(name);
                Ok(())
            })?;
        }
        self.answer(verdict, ()).await
    }
}

/// Returns the oldest parked message of a key, as a unit with these writes sees it.
fn oldest(state: &State, writes: &WriteSet, name: &ParkedKey) -> Option<Parked> {
    let (group, topic, key) = name;
    let gone = |ticket: u64| {
        !writes.unparked.is_empty() && writes.unparked.contains(&(group.clone(), ticket))
    };
    let committed = state.tables.tickets(name).find(|&ticket| !gone(ticket));
    if let Some(ticket) = committed {
        return state.tables.parked.get(&(group.clone(), ticket)).cloned();
    }
    let own = |(g, parked): &&(Group, Parked)| {
        let delivery = &parked.delivery;
        g == group && delivery.topic == *topic && delivery.key() == *key && !gone(parked.ticket)
    };
    writes.parked.iter().find(own).map(|(_, parked)| parked.clone())
}
