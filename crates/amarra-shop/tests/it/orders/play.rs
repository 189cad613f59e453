//! The neighbours' lines: each answers one request of Orders.

use amarra_core::Timestamp;
use amarra_shop::contract::ids::{OrderId, PaymentId, RefundId, ReservationId};
use amarra_shop::contract::inventory::{
    CompensationCause, ReservationCommitted, StockCompensated, StockReserved,
};
use amarra_shop::contract::money::{Currency, Money};
use amarra_shop::contract::payments::{
    PaymentAuthorized, PaymentFailed, PaymentSucceeded, PaymentVoided, RefundCompleted,
};
use uuid::Uuid;

pub(crate) fn reserved(order_id: OrderId, request: &str) -> StockReserved {
    let reservation_id = ReservationId::from(Uuid::from_u128(3));
    let (lines, expires_at) = (Vec::new(), Timestamp::from_micros(i64::MAX));
    StockReserved { order_id, reservation_id, lines, expires_at, request: request.to_owned() }
}

pub(crate) fn committed(order_id: OrderId, request: &str) -> ReservationCommitted {
    let reservation_id = ReservationId::from(Uuid::from_u128(3));
    ReservationCommitted { order_id, reservation_id, request: request.to_owned() }
}

pub(crate) fn returned(
    order_id: OrderId,
    cause: CompensationCause,
    request: &str,
) -> StockCompensated {
    let (lines, shortages) = (Vec::new(), Vec::new());
    let reservation_id = None;
    let request = request.to_owned();
    StockCompensated { order_id, reservation_id, lines, cause, shortages, request }
}

pub(crate) fn authorized(order_id: OrderId, request: &str) -> PaymentAuthorized {
    let payment_id = PaymentId::from(Uuid::from_u128(4));
    let amount = Money::new(600, Currency::EUR);
    PaymentAuthorized { order_id, payment_id, amount, request: request.to_owned() }
}

pub(crate) fn captured(order_id: OrderId, request: &str) -> PaymentSucceeded {
    PaymentSucceeded {
        order_id,
        payment_id: PaymentId::from(Uuid::from_u128(4)),
        amount: Money::new(600, Currency::EUR),
        captured_at: Timestamp::EPOCH,
        psp_ref: "psp".to_owned(),
        request: request.to_owned(),
    }
}

pub(crate) fn declined(order_id: OrderId, request: &str) -> PaymentFailed {
    PaymentFailed {
        order_id,
        payment_id: PaymentId::from(Uuid::from_u128(4)),
        reason: "declined".to_owned(),
        retryable: false,
        request: request.to_owned(),
    }
}

pub(crate) fn voided(order_id: OrderId, request: &str) -> PaymentVoided {
    PaymentVoided { order_id, request: request.to_owned() }
}

pub(crate) fn refunded(order_id: OrderId, request: &str) -> RefundCompleted {
    let refund_id = RefundId::from(Uuid::from_u128(5));
    let amount = Money::new(600, Currency::EUR);
    RefundCompleted { order_id, refund_id, amount, request: request.to_owned() }
}
