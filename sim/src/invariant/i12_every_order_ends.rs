//! I12: every order ends within a bound of fault-free time.

use amarra_core::InvariantId;

use super::{Finding, Invariant};
use crate::oracle::{Facts, Settled};

/// Looks at the orders that still need something to happen.
#[derive(Debug)]
pub(crate) struct EveryOrderEnds;

impl Invariant for EveryOrderEnds {
    fn id(&self) -> InvariantId {
        InvariantId::I12
    }

    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        let stuck = end.facts.orders.values().filter(|o| !Facts::is_at_rest(o));
        let mut found: Vec<Finding> = stuck
            .map(|o| Finding::new(format!("order {} is still {:?}", o.order_id, o.status)))
            .collect();
        if !end.in_time && found.is_empty() {
            let what = end.unsettled.join(", ");
            found.push(Finding::new(format!("the shop did not come to rest in time: {what}")));
        }
        found
    }
}
