//! I1: stock is never negative and never reserved beyond what is on hand.

use amarra_core::InvariantId;

use super::{Finding, Invariant};
use crate::oracle::{Facts, Saved, Tx};

/// Looks at every saved stock item; its type excludes negative numbers.
#[derive(Debug)]
pub(crate) struct StockBounds;

impl Invariant for StockBounds {
    fn id(&self) -> InvariantId {
        InvariantId::I1
    }

    fn committed(&mut self, tx: &Tx<'_>, _facts: &Facts) -> Vec<Finding> {
        let items = tx.changes.iter().filter_map(|c| match &c.saved {
            Saved::Stock(item) => Some(item),
            _ => None,
        });
        let beyond = items.filter(|item| item.reserved > item.on_hand);
        beyond
            .map(|item| {
                Finding::new(format!(
                    "{}: {} reserved of {} on hand",
                    item.sku, item.reserved, item.on_hand
                ))
            })
            .collect()
    }
}
