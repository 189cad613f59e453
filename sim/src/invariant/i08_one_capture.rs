//! I8: an order is captured at most once.

use amarra_core::InvariantId;

use super::{Finding, Invariant};
use crate::oracle::{Facts, Saved, Settled, Tx};

/// Counts captures where they happen, at the provider: at each commit of a payment, and at the end.
#[derive(Debug)]
pub(crate) struct OneCapture;

impl Invariant for OneCapture {
    fn id(&self) -> InvariantId {
        InvariantId::I8
    }

    fn committed(&mut self, tx: &Tx<'_>, facts: &Facts) -> Vec<Finding> {
        let mut found = Vec::new();
        for change in &tx.changes {
            let Saved::Payment(payment) = &change.saved else { continue };
            let truth = facts.truth(payment.order_id);
            if truth.captures > 1 || truth.captured > truth.authorized {
                found.push(twice(payment.order_id, truth.captures));
            }
        }
        found
    }

    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        let doubled = end.truths.iter().filter(|(_, truth)| truth.captures > 1);
        doubled.map(|(order, truth)| twice(*order, truth.captures)).collect()
    }
}

fn twice(order: amarra_shop::contract::OrderId, captures: u32) -> Finding {
    Finding::new(format!("order {order} was captured {captures} times at the provider"))
}
