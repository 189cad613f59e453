//! I14: an order's total equals its lines and the amount authorized.

use amarra_core::InvariantId;

use super::{Finding, Invariant};
use crate::oracle::{Facts, Saved, Sums, Tx};

/// Adds up the lines of every saved order, and compares what is set aside with the total.
#[derive(Debug)]
pub(crate) struct Totals;

impl Invariant for Totals {
    fn id(&self) -> InvariantId {
        InvariantId::I14
    }

    fn committed(&mut self, tx: &Tx<'_>, facts: &Facts) -> Vec<Finding> {
        let mut found = Vec::new();
        for change in &tx.changes {
            match &change.saved {
                Saved::Order(order) => {
                    let lines = order.lines.iter();
                    let sum: i64 = lines.map(|l| l.unit_price.minor * i64::from(l.qty)).sum();
                    if sum != order.total.minor || sum <= 0 {
                        found.push(Finding::new(format!(
                            "order {} has a total of {} and lines of {sum}",
                            order.order_id, order.total
                        )));
                    }
                }
                Saved::Payment(payment) => {
                    let authorized = Sums::of(payment).authorized;
                    let total = facts.orders.get(&payment.order_id).map(|o| o.total.minor);
                    if authorized != 0 && total.is_some_and(|t| t != authorized) {
                        found.push(Finding::new(format!(
                            "order {} has a total of {total:?} and {authorized} set aside",
                            payment.order_id
                        )));
                    }
                }
                _ => {}
            }
        }
        found
    }
}
