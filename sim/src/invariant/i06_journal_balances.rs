//! I6: the journal balances per currency; refunded <= captured <= authorized.

use std::collections::BTreeMap;

use amarra_core::InvariantId;
use amarra_shop::contract::OrderId;
use amarra_shop::payments::EntryKind;

use super::{Finding, Invariant};
use crate::oracle::{Facts, Saved, Settled, Sums, Tx};

/// Checks every entry as it is written, and its sums against the payment's own record.
#[derive(Debug, Default)]
pub(crate) struct JournalBalances {
    written: BTreeMap<OrderId, (i64, i64)>,
}

impl Invariant for JournalBalances {
    fn id(&self) -> InvariantId {
        InvariantId::I6
    }

    fn committed(&mut self, tx: &Tx<'_>, _facts: &Facts) -> Vec<Finding> {
        let mut found = Vec::new();
        for change in &tx.changes {
            match &change.saved {
                Saved::Journal(entry) => {
                    let mut sums: BTreeMap<_, i64> = BTreeMap::new();
                    for posting in &entry.postings {
                        *sums.entry(posting.amount.currency).or_default() += posting.amount.minor;
                    }
                    if sums.values().any(|sum| *sum != 0) {
                        found.push(Finding::new(format!(
                            "journal entry {} does not balance: {sums:?}",
                            entry.id
                        )));
                    }
                    let written = self.written.entry(entry.order_id).or_default();
                    match entry.kind {
                        EntryKind::Capture => written.0 += entry.amount.minor,
                        EntryKind::Refund => written.1 += entry.amount.minor,
                    }
                }
                Saved::Payment(payment) => {
                    let sums = Sums::of(payment);
                    if sums.refunded > sums.captured || sums.captured > sums.authorized {
                        found.push(Finding::new(format!(
                            "payment of {}: {} refunded, {} captured, {} authorized",
                            payment.order_id, sums.refunded, sums.captured, sums.authorized
                        )));
                    }
                }
                _ => {}
            }
        }
        found
    }

    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        let uneven = end.facts.payments.values().filter_map(|payment| {
            let sums = Sums::of(payment);
            let written = self.written.get(&payment.order_id).copied().unwrap_or_default();
            (written != (sums.captured, sums.refunded)).then(|| {
                Finding::new(format!(
                    "payment of {}: {} captured and {} refunded, but the journal has {} and {}",
                    payment.order_id, sums.captured, sums.refunded, written.0, written.1
                ))
            })
        });
        uneven.collect()
    }
}
