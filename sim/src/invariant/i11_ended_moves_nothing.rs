//! I11: a cancelled or rejected order moved no net money and no net stock.

use amarra_core::InvariantId;
use amarra_shop::contract::orders::OrderStatus;
use amarra_shop::inventory::ReservationStatus;

use super::{Finding, Invariant};
use crate::oracle::Settled;

/// Looks at the provider's ledger and the reservation of every order that was undone.
#[derive(Debug)]
pub(crate) struct EndedMovesNothing;

impl Invariant for EndedMovesNothing {
    fn id(&self) -> InvariantId {
        InvariantId::I11
    }

    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        let undone = end.facts.orders.values().filter(|o| {
            matches!(
                o.status,
                OrderStatus::Cancelled | OrderStatus::Rejected | OrderStatus::Refunded
            )
        });
        let mut found = Vec::new();
        for order in undone {
            let truth = end.truths.get(&order.order_id).copied().unwrap_or_default();
            let reservation = end.facts.reservations.get(&order.order_id).map(|r| r.status);
            let stock =
                matches!(reservation, Some(ReservationStatus::Held | ReservationStatus::Committed));
            if truth.captured != truth.refunded || truth.open != 0 || stock {
                found.push(Finding::new(format!(
                    "order {} is {:?} with {} captured, {} refunded, {} still set aside and its \
                     reservation {reservation:?}",
                    order.order_id, order.status, truth.captured, truth.refunded, truth.open
                )));
            }
        }
        found
    }
}
