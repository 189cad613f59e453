//! I2: stock is conserved: each row equals the fold of its ledger.

use std::collections::BTreeMap;

use amarra_core::InvariantId;
use amarra_shop::contract::Sku;

use super::{Finding, Invariant};
use crate::oracle::{Facts, Saved, Tx};

/// Folds ledger entries as they commit and compares each saved item with its fold.
#[derive(Debug, Default)]
pub(crate) struct StockConserved {
    folds: BTreeMap<Sku, (i64, i64)>,
}

impl Invariant for StockConserved {
    fn id(&self) -> InvariantId {
        InvariantId::I2
    }

    fn committed(&mut self, tx: &Tx<'_>, facts: &Facts) -> Vec<Finding> {
        for change in &tx.changes {
            if let Saved::Ledger(entry) = &change.saved {
                let fold = self.folds.entry(entry.sku.clone()).or_default();
                fold.0 += entry.delta_on_hand;
                fold.1 += entry.delta_reserved;
            }
        }
        let mut found = Vec::new();
        for change in &tx.changes {
            let Saved::Stock(saved) = &change.saved else { continue };
            // One transaction may save an item several times: the last state counts.
            let item = facts.stock.get(&saved.sku).unwrap_or(saved);
            let fold = self.folds.get(&item.sku).copied().unwrap_or_default();
            if fold != (i64::from(item.on_hand), i64::from(item.reserved)) {
                found.push(Finding::new(format!(
                    "{}: {} on hand and {} reserved, but the ledger says {} and {}",
                    item.sku, item.on_hand, item.reserved, fold.0, fold.1
                )));
            }
        }
        found
    }
}
