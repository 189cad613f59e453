//! The payment provider as Payments needs it, and the shapes of its API.

use std::fmt;

use amarra_core::{Class, Classify, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::contract::{Money, OrderId};

/// Asks the provider to set money aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizeRequest {
    /// The idempotency key: the same key gets the same answer, and never a second charge.
    pub key: String,
    /// The merchant's reference.
    pub order_id: OrderId,
    /// How much.
    pub amount: Money,
    /// The token of the means of payment; never a card number.
    pub token: String,
}

/// Asks the provider to take money it has set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureRequest {
    /// The idempotency key.
    pub key: String,
    /// The merchant's reference.
    pub order_id: OrderId,
    /// The provider's reference of the authorization.
    pub authorization: String,
    /// How much, at most what is set aside.
    pub amount: Money,
}

/// Asks the provider to give up an authorization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoidRequest {
    /// The idempotency key.
    pub key: String,
    /// The merchant's reference.
    pub order_id: OrderId,
    /// The provider's reference of the authorization.
    pub authorization: String,
}

/// Asks the provider to give captured money back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundRequest {
    /// The idempotency key.
    pub key: String,
    /// The merchant's reference.
    pub order_id: OrderId,
    /// The provider's reference of the authorization whose capture is refunded.
    pub authorization: String,
    /// How much, at most what was captured and not yet refunded.
    pub amount: Money,
}

/// What an operation asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Set money aside.
    Authorize,
    /// Take it.
    Capture,
    /// Give up the authorization.
    Void,
    /// Give captured money back.
    Refund,
}

impl OperationKind {
    /// Returns the name used in keys.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
        }
    }
}

/// The provider's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderAnswer {
    /// The provider's reference of the operation.
    pub psp_ref: String,
    /// How much moved.
    pub amount: Money,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationOutcome {
    /// Done.
    Approved(ProviderAnswer),
    /// Refused for good: the same key will get the same refusal.
    Rejected {
        /// Why, as a short code: `declined`, `insufficient_funds`, `authorization_expired`,
        /// `captured`, `voided`, `not_found`, `exceeds_authorized`, `exceeds_captured`,
        /// `invalid_token`, `key_reused`.
        reason: String,
        /// Whether the customer may try again by other means.
        retryable: bool,
    },
}

/// One operation as the provider has it on record.
///
/// Synchronous answers, webhooks and status queries all carry these, so that it does not matter
/// which of them comes first, or at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// The idempotency key.
    pub key: String,
    /// The merchant's reference.
    pub order_id: OrderId,
    /// What was asked for.
    pub kind: OperationKind,
    /// How it ended.
    pub outcome: OperationOutcome,
}

/// Something the provider tells on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookEvent {
    /// Unique for ever; a second delivery carries the same.
    pub event_id: String,
    /// What happened.
    pub operation: Operation,
    /// When, by the provider's clock.
    pub occurred_at: Timestamp,
}

/// The payment provider.
///
/// # Laws
/// - PSP-1 two calls with the same key have the effect of one, and every answer that arrives is
///   the same.
/// - PSP-2 `status` lists every operation of the order that took effect before it was asked; one
///   that is missing may still be on its way.
/// - PSP-3 [`ProviderError::Transient`] is answered only when the request surely had no effect.
///
/// # Cancellation
/// A dropped call has an unknown outcome.
#[async_trait]
pub trait PaymentProvider: Send + Sync + fmt::Debug {
    /// Sets money aside.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn authorize(&self, request: &AuthorizeRequest) -> Result<ProviderAnswer, ProviderError>;

    /// Takes money that is set aside.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn capture(&self, request: &CaptureRequest) -> Result<ProviderAnswer, ProviderError>;

    /// Gives up an authorization.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn void(&self, request: &VoidRequest) -> Result<ProviderAnswer, ProviderError>;

    /// Gives captured money back.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn refund(&self, request: &RefundRequest) -> Result<ProviderAnswer, ProviderError>;

    /// Lists what is on record for an order, oldest first.
    ///
    /// # Errors
    /// [`ProviderError`]; a query has no effect, whatever the class.
    async fn status(&self, order_id: OrderId) -> Result<Vec<Operation>, ProviderError>;
}

/// Why the provider did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// Refused. Class `Rejected`: final for this key.
    #[error("refused by the provider: {reason}")]
    Rejected {
        /// The provider's code.
        reason: String,
        /// Whether the customer may try again by other means.
        retryable: bool,
    },
    /// Surely not carried out: never sent, or turned away. Class `Transient`: send it again.
    #[error("provider unavailable: {why}")]
    Transient {
        /// What happened.
        why: String,
    },
    /// No answer in time. Class `Unknown`: ask for the status.
    #[error("no answer from the provider: {why}")]
    Unknown {
        /// What happened.
        why: String,
    },
}

impl Classify for ProviderError {
    fn class(&self) -> Class {
        match self {
            Self::Rejected { .. } => Class::Rejected,
            Self::Transient { .. } => Class::Transient,
            Self::Unknown { .. } => Class::Unknown,
        }
    }
}
