//! I7: our journal equals the payment provider's ledger.

use amarra_core::InvariantId;

use super::{Finding, Invariant};
use crate::oracle::{Settled, Sums};

/// Compares every order that either side knows.
#[derive(Debug)]
pub(crate) struct ProviderAgrees;

impl Invariant for ProviderAgrees {
    fn id(&self) -> InvariantId {
        InvariantId::I7
    }

    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (order, payment) in &end.facts.payments {
            let ours = Sums::of(payment);
            let truth = end.truths.get(order).copied().unwrap_or_default();
            if (ours.captured, ours.refunded) != (truth.captured, truth.refunded) {
                found.push(Finding::new(format!(
                    "order {order}: we have {} captured and {} refunded, the provider {} and {}",
                    ours.captured, ours.refunded, truth.captured, truth.refunded
                )));
            }
        }
        for (order, truth) in end.truths {
            if truth.captured > 0 && !end.facts.payments.contains_key(order) {
                found.push(Finding::new(format!(
                    "the provider captured {} for {order}, of which we know nothing",
                    truth.captured
                )));
            }
        }
        found
    }
}
