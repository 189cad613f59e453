//! I3: nothing is oversold: committed and held stock never exceed what was available.

use std::collections::BTreeMap;

use amarra_core::InvariantId;
use amarra_shop::contract::Sku;
use amarra_shop::inventory::{LedgerCause, ReservationStatus};

use super::{Finding, Invariant};
use crate::oracle::{Facts, Saved, Tx};

/// Adds up what ever came to the shelf, and what was ordered (not what the stock rows say) by the
/// orders whose reservations live.
#[derive(Debug, Default)]
pub(crate) struct NoOversell {
    available: BTreeMap<Sku, i64>,
}

impl Invariant for NoOversell {
    fn id(&self) -> InvariantId {
        InvariantId::I3
    }

    fn committed(&mut self, tx: &Tx<'_>, facts: &Facts) -> Vec<Finding> {
        let mut touched = false;
        for change in &tx.changes {
            match &change.saved {
                Saved::Ledger(entry)
                    if matches!(entry.cause, LedgerCause::Received | LedgerCause::Adjusted) =>
                {
                    *self.available.entry(entry.sku.clone()).or_default() += entry.delta_on_hand;
                }
                Saved::Reservation(_) => touched = true,
                _ => {}
            }
        }
        if !touched {
            return Vec::new();
        }
        let mut claimed: BTreeMap<&Sku, i64> = BTreeMap::new();
        let live = facts
            .reservations
            .values()
            .filter(|r| matches!(r.status, ReservationStatus::Held | ReservationStatus::Committed));
        for reservation in live {
            match facts.orders.get(&reservation.order_id) {
                Some(order) => order.lines.iter().for_each(|line| {
                    *claimed.entry(&line.sku).or_default() += i64::from(line.qty);
                }),
                None => reservation.lines.iter().for_each(|line| {
                    *claimed.entry(&line.sku).or_default() += i64::from(line.qty);
                }),
            }
        }
        let over = claimed.into_iter().filter(|(sku, claimed)| {
            *claimed > self.available.get(sku).copied().unwrap_or_default()
        });
        over.map(|(sku, claimed)| {
            Finding::new(format!(
                "{sku}: {claimed} held or committed of {} ever available",
                self.available.get(sku).copied().unwrap_or_default()
            ))
        })
        .collect()
    }
}
