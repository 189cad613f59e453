//! The stock of one product, and the ledger whose fold it is.

use amarra_store::Aggregate;
use serde::{Deserialize, Serialize};

use crate::contract::Sku;

/// The stock of one product.
///
/// # Laws
/// - `reserved <= on_hand`, both at least zero by their type (invariant I1).
/// - The fold of its ledger gives the same numbers (invariant I2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockItem {
    /// The product.
    pub sku: Sku,
    /// How many are on the shelf.
    pub on_hand: u32,
    /// How many of those are held for orders.
    pub reserved: u32,
}

impl Aggregate for StockItem {
    const KIND: &'static str = "stock";
}

/// A change of the stock of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    /// Stock arrived.
    Receive(u32),
    /// The staff corrects the count.
    Adjust(i64),
    /// Stock is held for an order.
    Hold(u32),
    /// A hold ended before it was committed, on request.
    Release(u32),
    /// A hold ended before it was committed, by time.
    Expire(u32),
    /// Held stock leaves the shelf.
    Commit(u32),
    /// Stock that had left comes back.
    Return(u32),
}

/// Why the ledger has an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerCause {
    /// Stock arrived.
    Received,
    /// The staff corrected the count.
    Adjusted,
    /// Stock was held for an order.
    Held,
    /// A hold was given back on request.
    Released,
    /// A hold was given back by time.
    Expired,
    /// Held stock left the shelf.
    Committed,
    /// Stock that had left came back.
    Returned,
}

/// One entry of the append-only ledger of a product: an aggregate of its own, written once, with
/// the id `<sku>/<version of the stock item after it>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The product.
    pub sku: Sku,
    /// The version of the stock item after this entry.
    pub version: u64,
    /// What it did to the shelf.
    pub delta_on_hand: i64,
    /// What it did to the holds.
    pub delta_reserved: i64,
    /// Why.
    pub cause: LedgerCause,
    /// The order, or the reason the staff gave.
    pub reference: String,
}

impl Aggregate for LedgerEntry {
    const KIND: &'static str = "ledger";
}

impl LedgerEntry {
    /// Returns the id of the entry that made version `version` of a product's stock.
    #[must_use]
    pub fn id_of(sku: &Sku, version: u64) -> String {
        format!("{sku}/{version}")
    }
}

/// Why stock cannot change as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StockError {
    /// More would be held than is on the shelf.
    #[error("only {available} are available")]
    Short {
        /// How many are.
        available: u32,
    },
    /// What is held cannot be taken off the shelf by a correction.
    #[error("{reserved} are held for orders, the shelf cannot go below that")]
    BelowReserved {
        /// How many are held.
        reserved: u32,
    },
    /// Less is held than is to be released or committed: a bug of ours.
    #[error("only {reserved} are held")]
    NotHeld {
        /// How many are held.
        reserved: u32,
    },
    /// The shelf has no room for so many.
    #[error("the count would exceed {}", u32::MAX)]
    Overflow,
}

impl StockItem {
    /// Makes the item of a product that never had stock.
    #[must_use]
    pub fn empty(sku: Sku) -> Self {
        Self { sku, on_hand: 0, reserved: 0 }
    }

    /// Returns how many can be held.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.on_hand.saturating_sub(self.reserved)
    }

    /// Returns the item after a movement.
    ///
    /// # Errors
    /// [`StockError`] when a law would break; nothing changes then.
    pub fn apply(&self, movement: Movement) -> Result<Self, StockError> {
        let (on_hand, reserved) = movement.deltas();
        let next_on_hand = i64::from(self.on_hand).checked_add(on_hand);
        let next_reserved = i64::from(self.reserved).saturating_add(reserved);
        let next_reserved = match u32::try_from(next_reserved) {
            Ok(count) => count,
            Err(_) if reserved < 0 => return Err(StockError::NotHeld { reserved: self.reserved }),
            Err(_) => return Err(StockError::Short { available: self.available() }),
        };
        let next_on_hand = match next_on_hand.map(u32::try_from) {
            Some(Ok(count)) => count,
            Some(Err(_)) if on_hand < 0 => {
                return Err(StockError::BelowReserved { reserved: self.reserved });
            }
            _ => return Err(StockError::Overflow),
        };
        if next_reserved > next_on_hand {
            return Err(match movement {
                Movement::Hold(_) => StockError::Short { available: self.available() },
                _ => StockError::BelowReserved { reserved: self.reserved },
            });
        }
        Ok(Self { sku: self.sku.clone(), on_hand: next_on_hand, reserved: next_reserved })
    }

    /// Folds a whole ledger, oldest entry first.
    ///
    /// # Errors
    /// The version of the first entry that is missing or breaks a law.
    pub fn fold(sku: &Sku, entries: &[LedgerEntry]) -> Result<Self, u64> {
        let (mut on_hand, mut reserved) = (0_i64, 0_i64);
        for (version, entry) in (1_u64..).zip(entries) {
            on_hand = on_hand.saturating_add(entry.delta_on_hand);
            reserved = reserved.saturating_add(entry.delta_reserved);
            let lawful = 0 <= reserved && reserved <= on_hand;
            if entry.version != version || entry.sku != *sku || !lawful {
                return Err(version);
            }
        }
        let count = |n| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Self { sku: sku.clone(), on_hand: count(on_hand), reserved: count(reserved) })
    }
}

impl Movement {
    /// Returns what it does to the shelf and to the holds.
    #[must_use]
    pub fn deltas(self) -> (i64, i64) {
        match self {
            Self::Receive(n) | Self::Return(n) => (i64::from(n), 0),
            Self::Adjust(n) => (n, 0),
            Self::Hold(n) => (0, i64::from(n)),
            Self::Release(n) | Self::Expire(n) => (0, i64::from(n).saturating_neg()),
            Self::Commit(n) => {
                let down = i64::from(n).saturating_neg();
                (down, down)
            }
        }
    }

    /// Returns its cause in the ledger.
    #[must_use]
    pub fn cause(self) -> LedgerCause {
        match self {
            Self::Receive(_) => LedgerCause::Received,
            Self::Adjust(_) => LedgerCause::Adjusted,
            Self::Hold(_) => LedgerCause::Held,
            Self::Release(_) => LedgerCause::Released,
            Self::Expire(_) => LedgerCause::Expired,
            Self::Commit(_) => LedgerCause::Committed,
            Self::Return(_) => LedgerCause::Returned,
        }
    }

    /// Returns the imperative for the audit log.
    #[must_use]
    pub fn action(self) -> &'static str {
        match self {
            Self::Receive(_) => "receive",
            Self::Adjust(_) => "adjust",
            Self::Hold(_) => "hold",
            Self::Release(_) => "release",
            Self::Expire(_) => "expire",
            Self::Commit(_) => "commit",
            Self::Return(_) => "return",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    fn item(on_hand: u32, reserved: u32) -> StockItem {
        StockItem { sku: "A".parse().unwrap(), on_hand, reserved }
    }

    #[test]
    fn each_movement_changes_what_its_name_says() {
        let check = |movement, expect| assert_eq!(item(5, 2).apply(movement), expect);
        check(Movement::Receive(3), Ok(item(8, 2)));
        check(Movement::Adjust(-3), Ok(item(2, 2)));
        check(Movement::Adjust(-4), Err(StockError::BelowReserved { reserved: 2 }));
        check(Movement::Adjust(-6), Err(StockError::BelowReserved { reserved: 2 }));
        check(Movement::Hold(3), Ok(item(5, 5)));
        check(Movement::Hold(4), Err(StockError::Short { available: 3 }));
        check(Movement::Release(2), Ok(item(5, 0)));
        check(Movement::Release(3), Err(StockError::NotHeld { reserved: 2 }));
        check(Movement::Expire(2), Ok(item(5, 0)));
        check(Movement::Commit(2), Ok(item(3, 0)));
        check(Movement::Commit(3), Err(StockError::NotHeld { reserved: 2 }));
        check(Movement::Return(1), Ok(item(6, 2)));
        check(Movement::Receive(u32::MAX), Err(StockError::Overflow));
        check(Movement::Adjust(i64::MAX), Err(StockError::Overflow));
        check(Movement::Adjust(i64::MIN), Err(StockError::BelowReserved { reserved: 2 }));
        check(Movement::Hold(u32::MAX), Err(StockError::Short { available: 3 }));
    }

    fn movement() -> impl Strategy<Value = Movement> {
        let n = 0_u32..6;
        prop_oneof![
            n.clone().prop_map(Movement::Receive),
            (-6_i64..6).prop_map(Movement::Adjust),
            n.clone().prop_map(Movement::Hold),
            n.clone().prop_map(Movement::Release),
            n.clone().prop_map(Movement::Expire),
            n.clone().prop_map(Movement::Commit),
            n.prop_map(Movement::Return),
        ]
    }

    proptest! {
        #[test]
        fn i1_and_i2_hold_after_any_movements(moves in prop::collection::vec(movement(), 0..60)) {
            let sku: Sku = "A".parse().unwrap();
            let (mut stock, mut ledger) = (StockItem::empty(sku.clone()), Vec::new());
            for movement in moves {
                if let Ok(next) = stock.apply(movement) {
                    let (delta_on_hand, delta_reserved) = movement.deltas();
                    ledger.push(LedgerEntry {
                        sku: sku.clone(),
                        version: u64::try_from(ledger.len()).unwrap() + 1,
                        delta_on_hand,
                        delta_reserved,
                        cause: movement.cause(),
                        reference: String::new(),
                    });
                    stock = next;
                }
                prop_assert!(stock.reserved <= stock.on_hand);
            }
            prop_assert_eq!(StockItem::fold(&sku, &ledger), Ok(stock));
            if !ledger.is_empty() {
                ledger.remove(0);
                let gap = StockItem::fold(&sku, &ledger);
                prop_assert!(ledger.is_empty() || gap == Err(1));
            }
        }
    }
}
