//! Messages and request shapes of Payments, and of the provider behind it.

use amarra_core::{Timestamp, codec::Message};
use serde::{Deserialize, Serialize};

use super::ids::{OrderId, PaymentId, RefundId};
use super::money::Money;

/// Asks Payments to authorize an order's total.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizePayment {
    /// The order.
    pub order_id: OrderId,
    /// How much.
    pub amount: Money,
    /// The provider's token.
    pub payment_token: String,
    /// The request, echoed by the answer.
    pub request: String,
}

/// Asks Payments to capture what it authorized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturePayment {
    /// The order.
    pub order_id: OrderId,
    /// How much, at most what is authorized.
    pub amount: Money,
    /// The request, echoed by the answer.
    pub request: String,
}

/// Asks Payments to give up an authorization, known or unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoidPayment {
    /// The order.
    pub order_id: OrderId,
    /// The request, echoed by the answer.
    pub request: String,
}

/// Asks Payments to give captured money back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundPayment {
    /// The order.
    pub order_id: OrderId,
    /// How much; refunds of one order never exceed what was captured.
    pub amount: Money,
    /// The request, echoed by the answer; one refund per request.
    pub request: String,
}

/// The money is set aside at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentAuthorized {
    /// The order.
    pub order_id: OrderId,
    /// The payment.
    pub payment_id: PaymentId,
    /// How much.
    pub amount: Money,
    /// The request this answers.
    pub request: String,
}

/// The money was captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentSucceeded {
    /// The order.
    pub order_id: OrderId,
    /// The payment.
    pub payment_id: PaymentId,
    /// How much.
    pub amount: Money,
    /// When, by the database of Payments.
    pub captured_at: Timestamp,
    /// The provider's reference.
    pub psp_ref: String,
    /// The request this answers.
    pub request: String,
}

/// An authorization or capture was refused for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentFailed {
    /// The order.
    pub order_id: OrderId,
    /// The payment.
    pub payment_id: PaymentId,
    /// What the provider said.
    pub reason: String,
    /// Whether the customer may try again with another token.
    pub retryable: bool,
    /// The request this answers.
    pub request: String,
}

/// The authorization was given up, or there was none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentVoided {
    /// The order.
    pub order_id: OrderId,
    /// The request this answers.
    pub request: String,
}

/// The money was given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundCompleted {
    /// The order.
    pub order_id: OrderId,
    /// The refund.
    pub refund_id: RefundId,
    /// How much.
    pub amount: Money,
    /// The request this answers.
    pub request: String,
}

/// The provider refused a refund for good; the staff has to look at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundFailed {
    /// The order.
    pub order_id: OrderId,
    /// The refund.
    pub refund_id: RefundId,
    /// What the provider said.
    pub reason: String,
    /// The request this answers.
    pub request: String,
}

macro_rules! messages {
    ($($name:ident),+) => {$(
        impl Message for $name {
            const KIND: &'static str = stringify!($name);
        }
    )+};
}

messages!(
    AuthorizePayment,
    CapturePayment,
    VoidPayment,
    RefundPayment,
    PaymentAuthorized,
    PaymentSucceeded,
    PaymentFailed,
    PaymentVoided,
    RefundCompleted,
    RefundFailed
);
