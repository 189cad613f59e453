//! What is held for one order: a pure state machine.

use std::time::Duration;

use amarra_core::{Cause, Timestamp};
use amarra_store::Aggregate;
use serde::{Deserialize, Serialize};

use super::model::Movement;
use crate::contract::inventory::{
    CompensationCause, ReservationCommitted, StockCompensated, StockLine, StockReserved,
};
use crate::contract::{OrderId, ReservationId, Sku};

/// Where a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReservationStatus {
    /// Stock is held until it is committed, released or expires.
    Held,
    /// The stock left the shelf.
    Committed,
    /// The hold was given back on request. Terminal.
    Released,
    /// The hold was given back by time. Terminal.
    Expired,
    /// Stock that had left came back. Terminal.
    Returned,
    /// Nothing was ever held, and nothing will be. Terminal.
    Tombstoned,
}

/// What is held for one order: at most one reservation per order, with the order's id as its own
/// (invariant I5).
///
/// # State
/// `(none) -reserve-> Held -commit-> Committed -compensate-> Returned`;
/// `Held -compensate-> Released`; `Held -time-> Expired`;
/// `(none) -shortage or compensate or commit-> Tombstoned`.
/// In every other pair a command changes nothing and is answered from the state as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The order.
    pub order_id: OrderId,
    /// The reservation, none when nothing was ever held.
    pub reservation_id: Option<ReservationId>,
    /// What is or was held, one line a product, by product.
    pub lines: Vec<StockLine>,
    /// Where it stands.
    pub status: ReservationStatus,
    /// When the hold ends by itself, by the database's clock.
    pub expires_at: Timestamp,
    /// Why nothing is held any more, none while it is or was committed.
    pub cause: Option<CompensationCause>,
    /// What was missing when there was not enough.
    pub shortages: Vec<StockLine>,
    /// What made it; its timer acts in the same correlation and trace.
    pub origin: Cause,
}

impl Aggregate for Reservation {
    const KIND: &'static str = "reservation";
}

/// What a command asks of an order's reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Hold stock, or learn that there is not enough.
    Reserve {
        /// The id of the reservation if one is made.
        reservation_id: ReservationId,
        /// What is wanted, one line a product, by product.
        lines: Vec<StockLine>,
        /// What of it is missing; all or nothing is held.
        shortages: Vec<StockLine>,
        /// For how long.
        ttl: Duration,
    },
    /// Take held stock off the shelf.
    Commit,
    /// Give back whatever is held or was taken, and hold nothing in future.
    Compensate(CompensationCause),
}

/// An event that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Stock is held.
    Reserved(StockReserved),
    /// It left the shelf.
    Committed(ReservationCommitted),
    /// It was given back, or never held.
    Compensated(StockCompensated),
}

/// What follows from a command or from the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The state to save, none when it stays as it is.
    pub next: Option<Reservation>,
    /// What to do to the stock, by product.
    pub movements: Vec<(Sku, Movement)>,
    /// What to answer.
    pub reply: Option<Reply>,
}

/// Decides on a command for the reservation of `order_id`. Total: every pair has an answer.
#[must_use]
pub fn decide(
    state: Option<&Reservation>,
    order_id: OrderId,
    ask: Ask,
    (request, origin, now): (&str, &Cause, Timestamp),
) -> Decision {
    let Some(state) = state else {
        return first(order_id, ask, (request, origin, now));
    };
    match (state.status, ask) {
        (ReservationStatus::Held, Ask::Commit) if now >= state.expires_at => {
            state.end(ReservationStatus::Expired, CompensationCause::Expired, request)
        }
        (ReservationStatus::Held, Ask::Commit) => {
            let next = Reservation { status: ReservationStatus::Committed, ..state.clone() };
            let reply = next.committed(request);
            Decision { movements: state.movements(Movement::Commit), reply, next: Some(next) }
        }
        (ReservationStatus::Held, Ask::Compensate(cause)) => {
            state.end(ReservationStatus::Released, cause, request)
        }
        (ReservationStatus::Committed, Ask::Compensate(_)) => {
            state.end(ReservationStatus::Returned, CompensationCause::Restock, request)
        }
        (ReservationStatus::Held | ReservationStatus::Committed, Ask::Reserve { .. }) => {
            Decision::answer(state.reserved(request))
        }
        (ReservationStatus::Committed, Ask::Commit) => Decision::answer(state.committed(request)),
        (ReservationStatus::Released | ReservationStatus::Tombstoned, Ask::Commit) => {
            // Whoever commits waits to hear that the hold is gone, for whatever reason it went.
            let gone = state.compensated(request, CompensationCause::Expired);
            Decision::answer(Some(gone))
        }
        (_, Ask::Reserve { .. } | Ask::Commit | Ask::Compensate(_)) => {
            let cause = state.cause.unwrap_or(CompensationCause::Manual);
            Decision::answer(Some(state.compensated(request, cause)))
        }
    }
}

/// Decides what the time does to a reservation: a hold that is due expires.
#[must_use]
pub fn expire(state: &Reservation, now: Timestamp) -> Decision {
    if state.status == ReservationStatus::Held && now >= state.expires_at {
        state.end(ReservationStatus::Expired, CompensationCause::Expired, "")
    } else {
        Decision::answer(None)
    }
}

fn first(
    order_id: OrderId,
    ask: Ask,
    (request, origin, now): (&str, &Cause, Timestamp),
) -> Decision {
    let blank = Reservation {
        order_id,
        reservation_id: None,
        lines: Vec::new(),
        status: ReservationStatus::Tombstoned,
        expires_at: now,
        cause: None,
        shortages: Vec::new(),
        origin: origin.clone(),
    };
    let tombstone = |cause, shortages| {
        let next = Reservation { cause: Some(cause), shortages, ..blank.clone() };
        let reply = Some(next.compensated(request, cause));
        Decision { next: Some(next), movements: Vec::new(), reply }
    };
    match ask {
        Ask::Reserve { reservation_id, lines, shortages, ttl } if shortages.is_empty() => {
            let next = Reservation {
                reservation_id: Some(reservation_id),
                lines,
                status: ReservationStatus::Held,
                expires_at: now.plus(ttl),
                ..blank
            };
            let (movements, reply) = (next.movements(Movement::Hold), next.reserved(request));
            Decision { next: Some(next), movements, reply }
        }
        Ask::Reserve { shortages, .. } => tombstone(CompensationCause::Shortage, shortages),
        Ask::Commit => tombstone(CompensationCause::Expired, Vec::new()),
        Ask::Compensate(cause) => tombstone(cause, Vec::new()),
    }
}

impl Decision {
    fn answer(reply: Option<Reply>) -> Self {
        Self { next: None, movements: Vec::new(), reply }
    }
}

impl Reservation {
    /// Tells whether it holds or took stock.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.status, ReservationStatus::Held | ReservationStatus::Committed)
    }

    fn end(&self, status: ReservationStatus, cause: CompensationCause, request: &str) -> Decision {
        let next = Self { status, cause: Some(cause), ..self.clone() };
        let movement = match status {
            ReservationStatus::Returned => Movement::Return,
            ReservationStatus::Expired => Movement::Expire,
            _ => Movement::Release,
        };
        let reply = Some(next.compensated(request, cause));
        Decision { next: Some(next), movements: self.movements(movement), reply }
    }

    fn movements(&self, of: fn(u32) -> Movement) -> Vec<(Sku, Movement)> {
        self.lines.iter().map(|line| (line.sku.clone(), of(line.qty))).collect()
    }

    fn reserved(&self, request: &str) -> Option<Reply> {
        Some(Reply::Reserved(StockReserved {
            order_id: self.order_id,
            reservation_id: self.reservation_id?,
            lines: self.lines.clone(),
            expires_at: self.expires_at,
            request: request.to_owned(),
        }))
    }

    fn committed(&self, request: &str) -> Option<Reply> {
        Some(Reply::Committed(ReservationCommitted {
            order_id: self.order_id,
            reservation_id: self.reservation_id?,
            request: request.to_owned(),
        }))
    }

    fn compensated(&self, request: &str, cause: CompensationCause) -> Reply {
        Reply::Compensated(StockCompensated {
            order_id: self.order_id,
            reservation_id: self.reservation_id,
            lines: self.lines.clone(),
            cause,
            shortages: self.shortages.clone(),
            request: request.to_owned(),
        })
    }
}

/// Sums lines of the same product, by product; `None` when a line asks for nothing or there is no
/// line. A sum beyond `u32` stays at its maximum, which no shelf can meet.
#[must_use]
pub fn summed(lines: impl IntoIterator<Item = (Sku, u32)>) -> Option<Vec<StockLine>> {
    let mut by_sku = std::collections::BTreeMap::<Sku, u32>::new();
    for (sku, qty) in lines {
        if qty == 0 {
            return None;
        }
        let sum = by_sku.entry(sku).or_default();
        *sum = sum.saturating_add(qty);
    }
    let lines: Vec<_> = by_sku.into_iter().map(|(sku, qty)| StockLine { sku, qty }).collect();
    (!lines.is_empty()).then_some(lines)
}

#[cfg(test)]
mod tests;
