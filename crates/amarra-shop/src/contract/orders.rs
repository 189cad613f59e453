//! Messages and request shapes of Orders.

use std::time::Duration;

use amarra_core::{Timestamp, codec::Message};
use serde::{Deserialize, Serialize};

use super::ids::{OrderId, QuoteId, Sku, UserId};
use super::money::Money;

/// One line of an order, with the price it was quoted at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The product.
    pub sku: Sku,
    /// Its name when the order was placed.
    pub name: String,
    /// The price of one.
    pub unit_price: Money,
    /// How many, at least 1.
    pub qty: u32,
}

/// How an order is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How long stock is held for it.
    pub reserve_ttl: Duration,
    /// How long it may take before it is cancelled.
    pub deadline: Duration,
}

/// An order was placed. Inventory reserves, Payments opens a record, Notifications acknowledges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCreated {
    /// The order.
    pub order_id: OrderId,
    /// Whose it is.
    pub user_id: UserId,
    /// What is ordered.
    pub lines: Vec<Line>,
    /// The sum of the lines.
    pub total: Money,
    /// The quote its prices come from.
    pub quote_id: QuoteId,
    /// The provider's token for the means of payment; never a card number.
    pub payment_token: String,
    /// How it is carried out.
    pub policy: Policy,
    /// When it was placed, by the database of Orders.
    pub placed_at: Timestamp,
    /// The saga step that awaits the reservation; replies echo it.
    pub request: String,
}

/// Why an order ended without being delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Not enough stock.
    Shortage,
    /// The payment was declined.
    PaymentFailed,
    /// The customer or the staff cancelled it.
    Cancelled,
    /// It took too long.
    Deadline,
    /// Its stock was released before it was committed.
    ReservationExpired,
}

macro_rules! order_events {
    ($(
        $(#[$meta:meta])*
        $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty),* $(,)? }
    )+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            /// The order.
            pub order_id: OrderId,
            /// Whose it is.
            pub user_id: UserId,
            $($(#[$fmeta])* pub $field: $ty,)*
        }

        impl Message for $name {
            const KIND: &'static str = stringify!($name);
        }
    )+};
}

impl Message for OrderCreated {
    const KIND: &'static str = "OrderCreated";
}

order_events! {
    /// The order is paid and its stock is committed.
    OrderConfirmed {
        /// What was paid.
        total: Money,
    }
    /// Somebody asked to cancel the order after its capture was sent.
    OrderCancelRequested {
        /// Why.
        reason: String,
    }
    /// The order was cancelled; no money and no stock moved, net.
    OrderCancelled {
        /// Why.
        reason: EndReason,
    }
    /// The order could not be carried out; no money and no stock moved, net.
    OrderRejected {
        /// Why.
        reason: EndReason,
    }
    /// The order was paid and has been refunded in full.
    OrderRefunded {
        /// What was given back.
        amount: Money,
    }
    /// The order was handed to the carrier.
    OrderFulfilled {
        /// The carrier's reference.
        tracking: String,
    }
    /// The order arrived.
    OrderCompleted {}
}

/// Asks to place an order from a quote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceOrder {
    /// The signed quote, as Catalog gave it.
    pub quote: super::catalog::SignedQuote,
    /// The provider's token for the means of payment.
    pub payment_token: String,
}

/// Answers a placed order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The order.
    pub order_id: OrderId,
    /// Its version: a query that asks for at least this one sees the order.
    pub version: u64,
}

/// Asks to cancel an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelOrder {
    /// Why, at most 200 characters.
    pub reason: String,
}

/// The state of an order as its readers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Placed; stock is being reserved.
    Pending,
    /// Stock is held; the payment is being authorized.
    Reserved,
    /// Authorized; the reservation is being committed.
    Committing,
    /// Committed; the capture was sent. From here on the order goes forward or is refunded.
    Capturing,
    /// Being undone before any money was captured.
    Compensating,
    /// Captured and being refunded.
    Refunding,
    /// Paid and committed.
    Confirmed,
    /// Handed to the carrier.
    Fulfilling,
    /// Arrived. Terminal.
    Completed,
    /// Cancelled. Terminal.
    Cancelled,
    /// Rejected. Terminal.
    Rejected,
    /// Refunded. Terminal.
    Refunded,
}

impl OrderStatus {
    /// Tells whether no transition leads out of it.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Rejected | Self::Refunded)
    }
}

/// An order as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderView {
    /// The order.
    pub order_id: OrderId,
    /// Whose it is.
    pub user_id: UserId,
    /// Its state.
    pub status: OrderStatus,
    /// What was ordered.
    pub lines: Vec<Line>,
    /// The sum.
    pub total: Money,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// Whether a cancellation waits for the capture.
    pub cancel_requested: bool,
    /// Why it ended, when it ended without delivery.
    pub end_reason: Option<EndReason>,
    /// The version of the newest event folded in.
    pub version: u64,
}

/// One entry of an order's timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// What happened.
    pub event: String,
    /// When, by the publisher's database.
    pub at: Timestamp,
    /// On whose behalf.
    pub actor: String,
}
