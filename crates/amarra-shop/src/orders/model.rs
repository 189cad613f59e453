//! The order as a pure state machine: one total table from (state, trigger) to what happens.

use std::fmt;

use amarra_core::Timestamp;
use amarra_store::Aggregate;
use serde::{Deserialize, Serialize};

use crate::contract::ids::{OrderId, QuoteId, UserId};
use crate::contract::inventory::CompensationCause;
use crate::contract::money::Money;
use crate::contract::orders::{EndReason, Line, OrderStatus, Policy};

/// An order as stored.
///
/// Its status changes by [`Order::decide`] alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id, also that of its saga.
    pub order_id: OrderId,
    /// Whose it is.
    pub user_id: UserId,
    /// What is ordered, at the prices quoted.
    pub lines: Vec<Line>,
    /// The sum of the lines.
    pub total: Money,
    /// The quote the prices come from.
    pub quote_id: QuoteId,
    /// The provider's token for the means of payment.
    pub payment_token: String,
    /// How it is carried out.
    pub policy: Policy,
    /// When it was placed, by the database of Orders.
    pub placed_at: Timestamp,
    /// Where it is.
    pub status: OrderStatus,
    /// Whether a cancellation waits for the capture.
    pub cancel_requested: bool,
    /// Why it is being undone, or ended without delivery.
    pub end_reason: Option<EndReason>,
    /// Whether its stock left the shelf.
    pub committed: bool,
    /// The carrier's reference, once shipped.
    pub tracking: Option<String>,
    /// The version that the newest published event carries: readers can wait for it.
    pub published: u64,
}

impl Aggregate for Order {
    const KIND: &'static str = "order";
}

/// What may happen to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// Inventory holds the stock.
    StockReserved,
    /// Inventory has not enough.
    Shortage,
    /// The money is set aside.
    PaymentAuthorized,
    /// The authorization or the capture was refused for good.
    PaymentFailed,
    /// The stock left the shelf.
    ReservationCommitted,
    /// The hold ended before it was committed.
    ReservationExpired,
    /// The money was captured.
    PaymentSucceeded,
    /// The owner or the staff wants it cancelled.
    Cancel,
    /// A step or the whole order took too long.
    Deadline,
    /// The stock is released and the money voided, or there was none.
    Compensated,
    /// The stock and the money are given back.
    RefundDone,
    /// It was handed to the carrier.
    Shipped,
    /// It arrived.
    Delivered,
}

impl Trigger {
    /// Every trigger.
    pub const ALL: [Self; 13] = [
        Self::StockReserved,
        Self::Shortage,
        Self::PaymentAuthorized,
        Self::PaymentFailed,
        Self::ReservationCommitted,
        Self::ReservationExpired,
        Self::PaymentSucceeded,
        Self::Cancel,
        Self::Deadline,
        Self::Compensated,
        Self::RefundDone,
        Self::Shipped,
        Self::Delivered,
    ];

    /// Returns the action the audit log names it by.
    #[must_use]
    pub fn action(self) -> &'static str {
        match self {
            Self::StockReserved => "note reserved stock",
            Self::Shortage => "note shortage",
            Self::PaymentAuthorized => "note authorized payment",
            Self::PaymentFailed => "note failed payment",
            Self::ReservationCommitted => "note committed reservation",
            Self::ReservationExpired => "note expired reservation",
            Self::PaymentSucceeded => "note captured payment",
            Self::Cancel => "cancel",
            Self::Deadline => "give up",
            Self::Compensated => "end compensation",
            Self::RefundDone => "end refund",
            Self::Shipped => "ship",
            Self::Delivered => "deliver",
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.action())
    }
}

/// The event a transition publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    /// `OrderConfirmed`.
    Confirmed,
    /// `OrderCancelRequested`.
    CancelRequested,
    /// `OrderCancelled`.
    Cancelled,
    /// `OrderRejected`.
    Rejected,
    /// `OrderRefunded`.
    Refunded,
    /// `OrderFulfilled`.
    Fulfilled,
    /// `OrderCompleted`.
    Completed,
}

/// What a transition makes the sagas do, beyond what their own steps do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// The order saga goes back: it voids the money and gives the stock back.
    Compensate,
    /// The refund saga starts.
    Refund,
}

/// What a trigger does to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: a duplicate, or an answer that came too late to matter.
    Ignore,
    /// The order becomes `next`.
    Move {
        /// The order afterwards.
        next: Box<Order>,
        /// What is published.
        emit: Option<Emit>,
        /// What the sagas have to do.
        duty: Option<Duty>,
    },
}

/// A trigger that makes no sense in the order's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot {trigger} an order that is {status:?}")]
pub struct IllegalTransition {
    /// The state.
    pub status: OrderStatus,
    /// The trigger.
    pub trigger: Trigger,
}

/// Where one trigger leads from one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Nothing happens.
    Ignore,
    /// It cannot be.
    Illegal,
    /// The order moves.
    To {
        /// To this state.
        status: OrderStatus,
        /// Publishing this.
        emit: Option<Emit>,
        /// And making the sagas do this.
        duty: Option<Duty>,
    },
}

/// Looks a pair up in the transition table.
///
/// # State
/// A captured payment is never lost: in every state after the capture was sent it confirms the
/// order, starts a refund, or is a duplicate. Where it could not have been sent it is illegal.
#[must_use]
pub fn entry(status: OrderStatus, cancel_requested: bool, trigger: Trigger) -> Entry {
    use OrderStatus as S;
    match trigger {
        Trigger::StockReserved => match status {
            S::Pending => to(S::Reserved, None, None),
            _ => Entry::Ignore,
        },
        Trigger::Shortage => match status {
            S::Pending => to(S::Rejected, Some(Emit::Rejected), None),
            S::Compensating | S::Cancelled | S::Rejected | S::Refunding | S::Refunded => {
                Entry::Ignore
            }
            _ => Entry::Illegal,
        },
        Trigger::PaymentAuthorized => match status {
            S::Reserved => to(S::Committing, None, None),
            S::Pending => Entry::Illegal,
            _ => Entry::Ignore,
        },
        Trigger::ReservationCommitted => match status {
            S::Committing => to(S::Capturing, None, None),
            S::Pending | S::Reserved => Entry::Illegal,
            _ => Entry::Ignore,
        },
        Trigger::ReservationExpired => match status {
            S::Reserved | S::Committing => to(S::Compensating, None, Some(Duty::Compensate)),
            S::Compensating | S::Cancelled | S::Rejected | S::Refunding | S::Refunded => {
                Entry::Ignore
            }
            _ => Entry::Illegal,
        },
        Trigger::PaymentFailed | Trigger::PaymentSucceeded => {
            payment(status, cancel_requested, trigger == Trigger::PaymentSucceeded)
        }
        Trigger::Cancel => cancel(status, cancel_requested),
        Trigger::Deadline => match status {
            S::Pending | S::Reserved | S::Committing => {
                to(S::Compensating, None, Some(Duty::Compensate))
            }
            _ => Entry::Ignore,
        },
        Trigger::Compensated | Trigger::RefundDone => undone(status, trigger),
        Trigger::Shipped => match status {
            S::Confirmed => to(S::Fulfilling, Some(Emit::Fulfilled), None),
            S::Fulfilling | S::Completed => Entry::Ignore,
            _ => Entry::Illegal,
        },
        Trigger::Delivered => match status {
            S::Fulfilling => to(S::Completed, Some(Emit::Completed), None),
            S::Completed => Entry::Ignore,
            _ => Entry::Illegal,
        },
    }
}

fn to(status: OrderStatus, emit: Option<Emit>, duty: Option<Duty>) -> Entry {
    Entry::To { status, emit, duty }
}

fn payment(status: OrderStatus, cancel_requested: bool, succeeded: bool) -> Entry {
    use OrderStatus as S;
    match (status, succeeded) {
        (S::Capturing, true) if cancel_requested => to(S::Refunding, None, Some(Duty::Refund)),
        (S::Capturing, true) => to(S::Confirmed, Some(Emit::Confirmed), None),
        // The capture was taken for failed or never sent, and the money came all the same.
        (S::Compensating | S::Cancelled | S::Rejected, true) => {
            to(S::Refunding, None, Some(Duty::Refund))
        }
        (S::Pending | S::Reserved | S::Committing, true) => Entry::Illegal,
        (_, true) => Entry::Ignore,
        (S::Reserved | S::Capturing, false) => to(S::Compensating, None, Some(Duty::Compensate)),
        (S::Compensating | S::Cancelled | S::Rejected | S::Refunding | S::Refunded, false) => {
            Entry::Ignore
        }
        (_, false) => Entry::Illegal,
    }
}

fn cancel(status: OrderStatus, cancel_requested: bool) -> Entry {
    use OrderStatus as S;
    let asked = Some(Emit::CancelRequested);
    match status {
        S::Pending | S::Reserved | S::Committing => {
            to(S::Compensating, asked, Some(Duty::Compensate))
        }
        S::Capturing if !cancel_requested => to(S::Capturing, asked, None),
        S::Confirmed => to(S::Refunding, asked, Some(Duty::Refund)),
        S::Capturing | S::Compensating | S::Refunding | S::Cancelled | S::Refunded => Entry::Ignore,
        S::Fulfilling | S::Completed | S::Rejected => Entry::Illegal,
    }
}

fn undone(status: OrderStatus, trigger: Trigger) -> Entry {
    use OrderStatus as S;
    match (status, trigger) {
        // `Order::decide` makes it Cancelled where that is why.
        (S::Compensating, Trigger::Compensated) => to(S::Rejected, Some(Emit::Rejected), None),
        // A late capture overtook the compensation: the refund decides how the order ends.
        (S::Cancelled | S::Rejected | S::Refunding | S::Refunded, Trigger::Compensated) => {
            Entry::Ignore
        }
        (S::Refunding, Trigger::RefundDone) => to(S::Refunded, Some(Emit::Refunded), None),
        (S::Refunded, Trigger::RefundDone) => Entry::Ignore,
        _ => Entry::Illegal,
    }
}

/// Who makes an order leave a state, so that none is left for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// The order saga: each of its steps has a timer.
    OrderSaga,
    /// The refund saga: each of its steps has a timer.
    RefundSaga,
    /// The staff ships and delivers; the customer has paid and stock is committed.
    Fulfilment,
    /// Nobody: the order has ended.
    Nobody,
}

impl Driver {
    /// Returns who drives an order in `status`.
    #[must_use]
    pub fn of(status: OrderStatus) -> Self {
        match status {
            OrderStatus::Pending
            | OrderStatus::Reserved
            | OrderStatus::Committing
            | OrderStatus::Capturing
            | OrderStatus::Compensating => Self::OrderSaga,
            OrderStatus::Refunding => Self::RefundSaga,
            OrderStatus::Confirmed | OrderStatus::Fulfilling => Self::Fulfilment,
            OrderStatus::Completed
            | OrderStatus::Cancelled
            | OrderStatus::Rejected
            | OrderStatus::Refunded => Self::Nobody,
        }
    }
}

impl Order {
    /// Decides what `trigger` does to this order.
    ///
    /// # Errors
    /// [`IllegalTransition`] when the trigger makes no sense in this state.
    pub fn decide(&self, trigger: Trigger) -> Result<Decision, IllegalTransition> {
        let (status, emit, duty) = match entry(self.status, self.cancel_requested, trigger) {
            Entry::Ignore => return Ok(Decision::Ignore),
            Entry::Illegal => return Err(IllegalTransition { status: self.status, trigger }),
            Entry::To { status, emit, duty } => (status, emit, duty),
        };
        let mut next = Self { status, ..self.clone() };
        match trigger {
            Trigger::ReservationCommitted => next.committed = true,
            Trigger::Cancel if status == OrderStatus::Capturing => next.cancel_requested = true,
            _ => {}
        }
        if next.end_reason.is_none() {
            next.end_reason = self.reason(trigger);
        }
        let mut emit = emit;
        if trigger == Trigger::Compensated && next.ends_cancelled() {
            (next.status, emit) = (OrderStatus::Cancelled, Some(Emit::Cancelled));
        }
        Ok(Decision::Move { next: Box::new(next), emit, duty })
    }

    fn reason(&self, trigger: Trigger) -> Option<EndReason> {
        match trigger {
            Trigger::Shortage => Some(EndReason::Shortage),
            Trigger::PaymentFailed if self.cancel_requested => Some(EndReason::Cancelled),
            Trigger::PaymentFailed => Some(EndReason::PaymentFailed),
            Trigger::ReservationExpired => Some(EndReason::ReservationExpired),
            Trigger::Cancel => Some(EndReason::Cancelled),
            Trigger::Deadline => Some(EndReason::Deadline),
            _ => None,
        }
    }

    fn ends_cancelled(&self) -> bool {
        matches!(self.end_reason, Some(EndReason::Cancelled | EndReason::Deadline))
    }

    /// Returns why its stock is to be given back.
    #[must_use]
    pub fn compensation_cause(&self) -> CompensationCause {
        match self.end_reason {
            _ if self.committed => CompensationCause::Restock,
            Some(EndReason::PaymentFailed) => CompensationCause::PaymentFailed,
            Some(EndReason::ReservationExpired) => CompensationCause::Expired,
            _ => CompensationCause::OrderCancelled,
        }
    }
}

#[cfg(test)]
mod tests;
