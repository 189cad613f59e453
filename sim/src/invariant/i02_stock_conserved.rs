//! I2: stock is conserved: each row equals the fold of its ledger, and nothing came or went
//! without a delivery or an order.

use std::collections::BTreeMap;

use amarra_core::InvariantId;
use amarra_shop::contract::Sku;
use amarra_shop::inventory::{LedgerCause, ReservationStatus};

use super::{Finding, Invariant};
use crate::oracle::{Facts, Saved, Tx};

/// Folds ledger entries as they commit and compares each saved item with its fold, and with what
/// was received less what the orders' reservations took.
#[derive(Debug, Default)]
pub(crate) struct StockConserved {
    folds: BTreeMap<Sku, (i64, i64)>,
    received: BTreeMap<Sku, i64>,
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
                if matches!(entry.cause, LedgerCause::Received | LedgerCause::Adjusted) {
                    *self.received.entry(entry.sku.clone()).or_default() += entry.delta_on_hand;
                }
            }
        }
        if !tx.changes.iter().any(|c| matches!(c.saved, Saved::Stock(_))) {
            return Vec::new();
        }
        let taken = taken(facts);
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
            let received = self.received.get(&item.sku).copied().unwrap_or_default();
            let taken = taken.get(&item.sku).copied().unwrap_or_default();
            if received - taken != i64::from(item.on_hand) {
                found.push(Finding::new(format!(
                    "{}: {received} received, {taken} taken for orders and not returned, but {} \
                     on hand",
                    item.sku, item.on_hand
                )));
            }
        }
        found
    }
}

/// What left the shelf for orders and did not come back.
fn taken(facts: &Facts) -> BTreeMap<&Sku, i64> {
    let mut taken: BTreeMap<&Sku, i64> = BTreeMap::new();
    let committed =
        facts.reservations.values().filter(|r| r.status == ReservationStatus::Committed);
    for line in committed.flat_map(|r| &r.lines) {
        *taken.entry(&line.sku).or_default() += i64::from(line.qty);
    }
    taken
}
