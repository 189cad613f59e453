//! I13: an order makes only legal transitions and ends exactly once.

use std::collections::BTreeMap;

use amarra_core::InvariantId;
use amarra_shop::contract::OrderId;
use amarra_shop::contract::orders::OrderStatus;

use super::{Finding, Invariant};
use crate::oracle::{Facts, Saved, Tx};

/// Follows each order through its saves; the table is written down here once more, from the
/// domain's specification and not from the code it checks.
#[derive(Debug, Default)]
pub(crate) struct LegalTransitions {
    last: BTreeMap<OrderId, OrderStatus>,
}

fn is_legal(from: OrderStatus, to: OrderStatus) -> bool {
    use OrderStatus as S;
    match from {
        S::Pending => matches!(to, S::Pending | S::Reserved | S::Rejected | S::Compensating),
        S::Reserved => matches!(to, S::Reserved | S::Committing | S::Compensating),
        S::Committing => matches!(to, S::Committing | S::Capturing | S::Compensating),
        S::Capturing => {
            matches!(to, S::Capturing | S::Confirmed | S::Refunding | S::Compensating)
        }
        S::Compensating => {
            matches!(to, S::Compensating | S::Cancelled | S::Rejected | S::Refunding)
        }
        S::Refunding => matches!(to, S::Refunding | S::Refunded),
        S::Confirmed => matches!(to, S::Confirmed | S::Fulfilling | S::Refunding),
        S::Fulfilling => matches!(to, S::Fulfilling | S::Completed),
        // A late capture is refunded, whatever the order had come to.
        S::Cancelled | S::Rejected => matches!(to, S::Refunding),
        S::Completed | S::Refunded => false,
    }
}

impl Invariant for LegalTransitions {
    fn id(&self) -> InvariantId {
        InvariantId::I13
    }

    fn committed(&mut self, tx: &Tx<'_>, _facts: &Facts) -> Vec<Finding> {
        let mut found = Vec::new();
        for change in &tx.changes {
            let Saved::Order(order) = &change.saved else { continue };
            let to = order.status;
            match self.last.insert(order.order_id, to) {
                None if to == OrderStatus::Pending => {}
                None => {
                    found.push(Finding::new(format!("order {} began as {to:?}", order.order_id)))
                }
                Some(from) if is_legal(from, to) => {}
                Some(from) => found.push(Finding::new(format!(
                    "order {} went from {from:?} to {to:?}",
                    order.order_id
                ))),
            }
        }
        found
    }
}
