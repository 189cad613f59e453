//! I10: a captured order is confirmed or fully refunded.

use amarra_core::InvariantId;
use amarra_shop::contract::orders::OrderStatus;

use super::{Finding, Invariant};
use crate::oracle::Settled;

/// Looks at the money the provider really took, and at what became of the order.
#[derive(Debug)]
pub(crate) struct CapturedIsDeliveredOrRefunded;

impl Invariant for CapturedIsDeliveredOrRefunded {
    fn id(&self) -> InvariantId {
        InvariantId::I10
    }

    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (id, truth) in end.truths.iter().filter(|(_, t)| t.captured > 0) {
            let status = end.facts.orders.get(id).map(|o| o.status);
            let delivered = matches!(
                status,
                Some(OrderStatus::Confirmed | OrderStatus::Fulfilling | OrderStatus::Completed)
            );
            let refunded = truth.refunded == truth.captured;
            if delivered == refunded {
                found.push(Finding::new(format!(
                    "order {id} is {status:?} with {} captured and {} refunded",
                    truth.captured, truth.refunded
                )));
            }
        }
        let promised = end.facts.orders.values().filter(|o| {
            matches!(
                o.status,
                OrderStatus::Confirmed | OrderStatus::Fulfilling | OrderStatus::Completed
            )
        });
        for order in promised {
            let captured = end.truths.get(&order.order_id).map_or(0, |t| t.captured);
            if captured != order.total.minor {
                found.push(Finding::new(format!(
                    "order {} is {:?} for {} and {captured} was captured",
                    order.order_id, order.status, order.total
                )));
            }
        }
        found
    }
}
