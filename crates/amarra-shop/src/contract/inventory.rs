//! Messages and request shapes of Inventory.

use amarra_core::{Timestamp, codec::Message};
use serde::{Deserialize, Serialize};

use super::ids::{OrderId, ReservationId, Sku};

/// A quantity of one product.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StockLine {
    /// The product.
    pub sku: Sku,
    /// How many.
    pub qty: u32,
}

/// Stock is held for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockReserved {
    /// The order.
    pub order_id: OrderId,
    /// The reservation.
    pub reservation_id: ReservationId,
    /// What is held, one line a product.
    pub lines: Vec<StockLine>,
    /// When the hold ends unless it is committed, by the database of Inventory.
    pub expires_at: Timestamp,
    /// The request this answers.
    pub request: String,
}

/// Held stock left the shelf for good, unless it is restocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationCommitted {
    /// The order.
    pub order_id: OrderId,
    /// The reservation.
    pub reservation_id: ReservationId,
    /// The request this answers.
    pub request: String,
}

/// Why stock was given back, or could not be given at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompensationCause {
    /// There was not enough: nothing had been held.
    Shortage,
    /// The payment failed.
    PaymentFailed,
    /// The order was cancelled.
    OrderCancelled,
    /// The hold expired.
    Expired,
    /// Committed stock came back.
    Restock,
    /// The staff decided.
    Manual,
}

/// Stock was given back, or could not be given at all: `cause` says which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockCompensated {
    /// The order.
    pub order_id: OrderId,
    /// The reservation, none when there was none.
    pub reservation_id: Option<ReservationId>,
    /// What came back, one line a product; empty when nothing had been held.
    pub lines: Vec<StockLine>,
    /// Why.
    pub cause: CompensationCause,
    /// What was missing, when there was not enough.
    pub shortages: Vec<StockLine>,
    /// The request this answers, empty for one that nobody asked for (an expiry).
    pub request: String,
}

/// The level of one product changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockAdjusted {
    /// The product.
    pub sku: Sku,
    /// How many are on the shelf.
    pub on_hand: u32,
    /// How many of those are held.
    pub reserved: u32,
}

/// Asks Inventory to take held stock off the shelf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitReservation {
    /// The order.
    pub order_id: OrderId,
    /// The request, echoed by the answer.
    pub request: String,
}

/// Asks Inventory to give back whatever it holds or took for an order. The name is the seed's; it
/// is a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompensateInventory {
    /// The order.
    pub order_id: OrderId,
    /// Why.
    pub cause: CompensationCause,
    /// The request, echoed by the answer.
    pub request: String,
}

macro_rules! messages {
    ($($name:ident),+) => {$(
        impl Message for $name {
            const KIND: &'static str = stringify!($name);
        }
    )+};
}

messages!(
    StockReserved,
    ReservationCommitted,
    StockCompensated,
    StockAdjusted,
    CommitReservation,
    CompensateInventory
);

/// Asks to put stock on the shelf (`receive`) or to correct it by `delta` (`adjust`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdjustStock {
    /// By how many, negative to take away; what is held cannot be taken.
    pub delta: i64,
    /// Why, at most 200 characters.
    pub reason: String,
}

/// What is left of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// The product.
    pub sku: Sku,
    /// How many can be ordered.
    pub available: u32,
    /// The version of the stock item this is true of.
    pub version: u64,
}
