//! I4: no reservation is held for an order that has ended.

use amarra_core::InvariantId;
use amarra_shop::inventory::ReservationStatus;

use super::{Finding, Invariant};
use crate::oracle::Settled;

/// Looks at every hold that is left at the end.
#[derive(Debug)]
pub(crate) struct NoOrphanHolds;

impl Invariant for NoOrphanHolds {
    fn id(&self) -> InvariantId {
        InvariantId::I4
    }

    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        let held = end.facts.reservations.values().filter(|r| r.status == ReservationStatus::Held);
        held.filter_map(|reservation| {
            let order = end.facts.orders.get(&reservation.order_id);
            match order {
                Some(order) if !order.status.is_terminal() => None,
                Some(order) => Some(Finding::new(format!(
                    "order {} is {:?} and stock is still held for it",
                    order.order_id, order.status
                ))),
                None => Some(Finding::new(format!(
                    "stock is held for {}, which is no order",
                    reservation.order_id
                ))),
            }
        })
        .collect()
    }
}
