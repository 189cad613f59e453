//! The port through which the consumer runtime applies deliveries.

use std::fmt;

use amarra_core::{Class, Classify};
use async_trait::async_trait;

use crate::message::Delivery;

/// Applies deliveries, each batch in one transaction.
///
/// `amarra-store` implements it over a unit of work and a handler; anything else that can commit
/// effects and admissions together may as well.
///
/// # Laws
/// - PRC-1 after `Ok` of `apply`, every delivery of the batch was applied, found to be a duplicate,
///   or parked behind its key; after an error none of the batch left a trace, unless the class
///   is `Unknown`.
/// - PRC-2 applying a batch again is safe.
/// - PRC-3 a delivery whose key is parked is parked behind it, not applied.
#[async_trait]
pub trait Processor: Send + Sync + fmt::Debug {
    /// Applies deliveries of one partition, in order.
    ///
    /// # Errors
    /// [`ProcessError`]; its class decides between another try and parking.
    async fn apply(&self, batch: &[Delivery]) -> Result<(), ProcessError>;

    /// Parks one delivery and its key.
    ///
    /// # Errors
    /// [`ProcessError`].
    async fn park(&self, delivery: &Delivery, reason: &str) -> Result<(), ProcessError>;
}

/// Why a batch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct ProcessError {
    /// What may be done about it.
    pub class: Class,
    /// Which delivery of the batch failed, by index, when one did.
    pub culprit: Option<usize>,
    /// What happened, in words for an operator.
    pub why: String,
}

impl Classify for ProcessError {
    fn class(&self) -> Class {
        self.class
    }
}
