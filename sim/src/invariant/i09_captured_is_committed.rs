//! I9: a captured order has its stock committed, or is being refunded.

use std::collections::BTreeSet;

use amarra_core::InvariantId;
use amarra_shop::contract::OrderId;
use amarra_shop::contract::orders::OrderStatus;
use amarra_shop::inventory::ReservationStatus;

use super::{Finding, Invariant};
use crate::oracle::{Facts, Saved, Sums, Tx};

/// Looks at the order of every payment, reservation and order that is saved.
#[derive(Debug)]
pub(crate) struct CapturedIsCommitted;

impl Invariant for CapturedIsCommitted {
    fn id(&self) -> InvariantId {
        InvariantId::I9
    }

    fn committed(&mut self, tx: &Tx<'_>, facts: &Facts) -> Vec<Finding> {
        let touched: BTreeSet<OrderId> = tx
            .changes
            .iter()
            .filter_map(|c| match &c.saved {
                Saved::Payment(p) => Some(p.order_id),
                Saved::Reservation(r) => Some(r.order_id),
                Saved::Order(o) => Some(o.order_id),
                _ => None,
            })
            .collect();
        touched.into_iter().filter_map(|order| check(order, facts)).collect()
    }
}

fn check(order: OrderId, facts: &Facts) -> Option<Finding> {
    let sums = Sums::of(facts.payments.get(&order)?);
    if sums.captured <= sums.refunded {
        return None;
    }
    let reservation = facts.reservations.get(&order).map(|r| r.status);
    let status = facts.orders.get(&order).map(|o| o.status);
    let committed = reservation == Some(ReservationStatus::Committed);
    let refunding = matches!(status, Some(OrderStatus::Refunding | OrderStatus::Refunded));
    if committed || refunding {
        return None;
    }
    Some(Finding::new(format!(
        "order {order} is captured, its reservation is {reservation:?} and the order {status:?}"
    )))
}
