//! Read models of Payments: payments by order and the journal, written with the change itself.

use std::sync::Arc;

use amarra_core::{Timestamp, Version};
use amarra_store::Aggregate;
use serde::{Deserialize, Serialize};

use super::journal::JournalEntry;
use super::model::{Payment, PaymentStatus};
use super::provider_port::OperationKind;
use crate::contract::{Money, OrderId, PaymentId, RefundId};

/// The view of payments, by order.
pub const PAYMENTS: &str = "payments";
/// The view of the journal, by entry id: the order, then what it records.
pub const JOURNAL: &str = "journal";

/// One refund as the staff sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundView {
    /// The refund.
    pub refund_id: RefundId,
    /// How much.
    pub amount: Money,
    /// What became of it: `pending`, `completed`, `failed`.
    pub status: String,
}

/// A payment as the staff sees it; the token is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentView {
    /// The order.
    pub order_id: OrderId,
    /// The payment.
    pub payment_id: PaymentId,
    /// Where it stands.
    pub status: PaymentStatus,
    /// The order's total, none until the order was heard of.
    pub total: Option<Money>,
    /// How much is or was set aside, in minor units.
    pub authorized: i64,
    /// How much was taken, in minor units.
    pub captured: i64,
    /// How much was given back, in minor units.
    pub refunded: i64,
    /// The refunds, oldest first.
    pub refunds: Vec<RefundView>,
    /// How many calls to the provider in a row settled nothing.
    pub unresolved: u32,
    /// The version of the payment.
    pub version: u64,
}

/// Some journal entries, and where the next page starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalPage {
    /// The entries, by id.
    pub entries: Vec<JournalEntry>,
    /// What to give as `after` for the next page, none when this is the last.
    pub next: Option<Arc<str>>,
}

/// What became of a webhook. Each is a success to the provider, which must not send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookReceipt {
    /// It was taken note of.
    Accepted,
    /// It was taken note of before.
    Duplicate,
    /// It is about nothing this service asked for.
    Unmatched,
}

/// A webhook that was taken note of: an aggregate of its own, with the provider's event id as its
/// id, so that none is taken note of twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PspEvent {
    /// The order.
    pub order_id: OrderId,
    /// What it was about.
    pub kind: OperationKind,
    /// When it was taken note of, by the database's clock.
    pub received_at: Timestamp,
}

impl Aggregate for PspEvent {
    const KIND: &'static str = "psp_event";
}

/// Returns the payment as the staff sees it.
#[must_use]
pub fn payment(state: &Payment, version: Version) -> PaymentView {
    let refunds = state.refunds.iter().map(|refund| RefundView {
        refund_id: refund.refund_id,
        amount: refund.amount,
        status: if refund.leg.is_open() {
            "pending".to_owned()
        } else if refund.leg.is_done() {
            "completed".to_owned()
        } else {
            "failed".to_owned()
        },
    });
    PaymentView {
        order_id: state.order_id,
        payment_id: state.payment_id,
        status: state.status(),
        total: state.total,
        authorized: state.authorized(),
        captured: state.captured(),
        refunded: state.refunded(),
        refunds: refunds.collect(),
        unresolved: state.unresolved,
        version: version.get(),
    }
}
