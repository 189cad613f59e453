//! What Inventory and Payments say of an order, decoded once for the saga and for the views.

use amarra_core::codec::Message;
use amarra_core::{Codec, CodecError, Envelope};
use amarra_saga::Op;

use super::steps;
use crate::contract::ids::OrderId;
use crate::contract::inventory::{
    CompensationCause, ReservationCommitted, StockCompensated, StockReserved,
};
use crate::contract::payments::{
    PaymentAuthorized, PaymentFailed, PaymentSucceeded, PaymentVoided, RefundCompleted,
    RefundFailed,
};

/// One event of Inventory or Payments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// The order it speaks of.
    pub(super) order_id: OrderId,
    /// The request it answers, empty for one nobody asked for.
    pub(super) request: String,
    /// What it says.
    pub(super) report: Report,
}

/// What such an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// `StockReserved`.
    Reserved,
    /// `ReservationCommitted`.
    Committed,
    /// `StockCompensated`, with its cause.
    Returned(CompensationCause),
    /// `PaymentAuthorized`.
    Authorized,
    /// `PaymentSucceeded`.
    Captured,
    /// `PaymentFailed`, with what the provider said.
    Declined(String),
    /// `PaymentVoided`.
    Voided,
    /// `RefundCompleted`.
    Refunded,
    /// `RefundFailed`, with what the provider said.
    RefundRefused(String),
}

impl Reply {
    /// Tells whether it answers a void by saying that the money was captured before.
    pub(super) fn is_refused_void(&self) -> bool {
        let void = format!("{}:{}:{}", self.order_id, steps::AUTHORIZE, Op::Compensation);
        self.report == Report::Captured && self.request == void
    }

    /// Decodes an event; none for a type that says nothing to Orders.
    ///
    /// # Errors
    /// [`CodecError`] for a known type that does not decode.
    pub(super) fn decode(envelope: &Envelope) -> Result<Option<Self>, CodecError> {
        let codec = Codec::new();
        let made = |order_id, request, report| Ok(Some(Self { order_id, request, report }));
        match envelope.kind.as_ref() {
            StockReserved::KIND => {
                let m: StockReserved = codec.decode(envelope)?;
                made(m.order_id, m.request, Report::Reserved)
            }
            ReservationCommitted::KIND => {
                let m: ReservationCommitted = codec.decode(envelope)?;
                made(m.order_id, m.request, Report::Committed)
            }
            StockCompensated::KIND => {
                let m: StockCompensated = codec.decode(envelope)?;
                made(m.order_id, m.request, Report::Returned(m.cause))
            }
            PaymentAuthorized::KIND => {
                let m: PaymentAuthorized = codec.decode(envelope)?;
                made(m.order_id, m.request, Report::Authorized)
            }
            PaymentSucceeded::KIND => {
                let m: PaymentSucceeded = codec.decode(envelope)?;
                made(m.order_id, m.request, Report::Captured)
            }
            PaymentFailed::KIND => {
                let m: PaymentFailed = codec.decode(envelope)?;
                made(m.order_id, m.request, Report::Declined(m.reason))
            }
            PaymentVoided::KIND => {
                let m: PaymentVoided = codec.decode(envelope)?;
                made(m.order_id, m.request, Report::Voided)
            }
            RefundCompleted::KIND => {
                let m: RefundCompleted = codec.decode(envelope)?;
                made(m.order_id, m.request, Report::Refunded)
            }
            RefundFailed::KIND => {
                let m: RefundFailed = codec.decode(envelope)?;
                made(m.order_id, m.request, Report::RefundRefused(m.reason))
            }
            _ => Ok(None),
        }
    }
}
