//! I5: an order has at most one live reservation.

use std::collections::BTreeMap;

use amarra_core::InvariantId;
use amarra_shop::inventory::ReservationStatus;

use super::{Finding, Invariant};
use crate::oracle::{Facts, Saved, Tx};

/// What is reserved of a product must be what the one reservation of each order holds: a second
/// hold for an order shows as stock that no reservation accounts for.
#[derive(Debug)]
pub(crate) struct OneReservation;

impl Invariant for OneReservation {
    fn id(&self) -> InvariantId {
        InvariantId::I5
    }

    fn committed(&mut self, tx: &Tx<'_>, facts: &Facts) -> Vec<Finding> {
        let touched = tx.changes.iter().any(|c| matches!(c.saved, Saved::Stock(_)));
        if !touched {
            return Vec::new();
        }
        let mut held: BTreeMap<_, u32> = BTreeMap::new();
        for reservation in facts.reservations.values() {
            if reservation.status == ReservationStatus::Held {
                for line in &reservation.lines {
                    let sum = held.entry(&line.sku).or_default();
                    *sum = sum.saturating_add(line.qty);
                }
            }
        }
        let uneven = facts
            .stock
            .values()
            .filter(|item| held.get(&item.sku).copied().unwrap_or_default() != item.reserved);
        uneven
            .map(|item| {
                Finding::new(format!(
                    "{}: {} reserved, but the orders' reservations hold {}",
                    item.sku,
                    item.reserved,
                    held.get(&item.sku).copied().unwrap_or_default()
                ))
            })
            .collect()
    }
}
