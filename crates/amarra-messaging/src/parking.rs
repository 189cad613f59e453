//! Parks the key of a poison message, so that its followers wait and everything else flows.

use std::collections::BTreeSet;
use std::sync::Arc;

use amarra_core::{PartitionKey, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::TxError;
use crate::message::{Delivery, Group, Topic};

/// A message set aside, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Its number in the parking lot, ascending in the order of parking.
    pub ticket: u64,
    /// The delivery, untouched.
    pub delivery: Delivery,
    /// Why, in words for an operator: the poison's error, or that it queues behind one.
    pub reason: Arc<str>,
    /// When, by the database's clock.
    pub at: Timestamp,
}

/// Holds parked messages per (group, topic, key), inside the caller's transaction.
///
/// # Laws
/// - PRK-1 messages of a key leave in the order they were parked.
/// - PRK-2 a key is parked while a message of it is.
/// - PRK-3 parking and removal become visible with the transaction's commit, never before.
#[async_trait]
pub trait ParkingLot: Send {
    /// Sets a message aside and parks its key.
    ///
    /// # Errors
    /// Any [`TxError`].
    async fn park(
        &mut self,
        group: &Group,
        delivery: &Delivery,
        reason: &str,
    ) -> Result<(), TxError>;

    /// Returns which of `keys` are parked.
    ///
    /// # Errors
    /// Any [`TxError`].
    async fn parked_among(
        &mut self,
        group: &Group,
        topic: &Topic,
        keys: &BTreeSet<PartitionKey>,
    ) -> Result<BTreeSet<PartitionKey>, TxError>;

    /// Returns the oldest parked message of a key, locked until the transaction ends.
    ///
    /// # Errors
    /// Any [`TxError`].
    async fn first_parked(
        &mut self,
        group: &Group,
        topic: &Topic,
        key: &PartitionKey,
    ) -> Result<Option<Parked>, TxError>;

    /// Removes a message from the lot.
    ///
    /// # Errors
    /// Any [`TxError`].
    async fn unpark(&mut self, group: &Group, ticket: u64) -> Result<(), TxError>;
}
