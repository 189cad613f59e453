//! The payment of one order: what was asked, what the provider is known to have done, and the rest.
//!
//! It is a pure state machine in three parts: [`decide`] takes commands, [`calls`] says what to ask
//! the provider next, and [`learn`] takes what the provider is known to have done, whether it was
//! heard as an answer, a webhook or a status. Facts may arrive in any order and any number of
//! times.

pub mod calls;
pub mod decide;
pub mod learn;
#[cfg(test)]
mod tests;

use amarra_core::{Cause, Timestamp};
use amarra_store::Aggregate;
use serde::{Deserialize, Serialize};

use super::journal::JournalEntry;
use crate::contract::payments::{
    PaymentAuthorized, PaymentFailed, PaymentSucceeded, PaymentVoided, RefundCompleted,
    RefundFailed,
};
use crate::contract::{Money, OrderId, PaymentId, RefundId};

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// The order is known, nothing was asked of the provider.
    Created,
    /// The provider is being asked to set the money aside.
    Authorizing,
    /// The money is set aside.
    Authorized,
    /// The provider declined.
    Declined,
    /// The provider is being asked to take the money.
    Capturing,
    /// The money was taken.
    Captured,
    /// Part of it was given back.
    PartiallyRefunded,
    /// All of it was given back. Terminal.
    Refunded,
    /// The authorization is being given up.
    Voiding,
    /// The authorization was given up, or there was none and there will be none.
    Voided,
    /// The provider may or may not have done what was asked; only its status leads out of here.
    Unknown,
}

/// What is known of one operation at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// To be sent; it may have been sent when a crash hid the answer, and the key makes that safe.
    Pending,
    /// Sent, and no answer came: ask for the status.
    Unknown,
    /// Done.
    Done {
        /// The provider's reference.
        psp_ref: String,
    },
    /// Refused for good.
    Rejected {
        /// The provider's code.
        reason: String,
        /// Whether the customer may try again by other means.
        retryable: bool,
    },
    /// Given up because of a void while the provider did not know of it.
    Abandoned,
}

/// One operation at the provider, whatever its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// The idempotency key: order, operation and first request.
    pub key: String,
    /// The requests it answers.
    pub requests: Vec<String>,
    /// What is known of it.
    pub progress: Progress,
    /// The command that asked for it; what the provider says about it has the same cause.
    pub cause: Cause,
}

/// One try to set the money aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The operation.
    pub leg: Leg,
    /// How much.
    pub amount: Money,
    /// The provider's token.
    pub token: String,
}

/// The capture; there is at most one (invariant I8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// The operation.
    pub leg: Leg,
    /// How much.
    pub amount: Money,
    /// When it was learned, by the database's clock.
    pub captured_at: Option<Timestamp>,
}

/// The wish to give the authorization up; once there, nothing is authorized or captured any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Void {
    /// The operation.
    pub leg: Leg,
    /// How often it was decided anew; part of the key.
    pub renewals: u32,
    /// How many more times to look for an authorization that arrived late.
    pub rechecks_left: u32,
}

/// One refund; there is one per request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// The operation.
    pub leg: Leg,
    /// Its id.
    pub refund_id: RefundId,
    /// How much.
    pub amount: Money,
}

/// The payment of one order, with the order's id as its own.
///
/// # Laws
/// - `refunded <= captured <= authorized` (invariant I6), at most one capture (I8), and what is
///   authorized is the order's total (I14): see [`Payment::check`].
/// - An operation in [`Progress::Unknown`] is sent again only after a status without it, and with
///   the same key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The order.
    pub order_id: OrderId,
    /// The payment.
    pub payment_id: PaymentId,
    /// The order's total, none until `OrderCreated` was heard.
    pub total: Option<Money>,
    /// The tries to set the money aside, oldest first; a further one only after a retryable
    /// decline.
    pub attempts: Vec<Attempt>,
    /// The capture.
    pub capture: Option<Capture>,
    /// The void.
    pub void: Option<Void>,
    /// The refunds, oldest first.
    pub refunds: Vec<Refund>,
    /// How many calls in a row settled nothing; the wait before the next one grows with it.
    pub unresolved: u32,
}

impl Aggregate for Payment {
    const KIND: &'static str = "payment";
}

/// Bounds of one payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// At most how many tries to set the money aside; a further one is refused.
    pub attempts_max: usize,
    /// At most how many refunds; a further one is refused.
    pub refunds_max: usize,
    /// How often to look for a late authorization after a void that found none.
    pub void_rechecks: u32,
}

/// An event that answers, or tells of something nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The money is set aside.
    Authorized(PaymentAuthorized),
    /// The money was taken.
    Succeeded(PaymentSucceeded),
    /// It was not, for good.
    Failed(PaymentFailed),
    /// The authorization was given up, or there was none.
    Voided(PaymentVoided),
    /// Money was given back.
    RefundCompleted(RefundCompleted),
    /// It was not, for good.
    RefundFailed(RefundFailed),
}

/// What follows from a command or a fact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// What to tell, and because of which command; none for the one being handled.
    pub events: Vec<(Event, Option<Cause>)>,
    /// What to write in the journal.
    pub entries: Vec<JournalEntry>,
}

impl Effects {
    fn answer(event: Event) -> Self {
        Self { events: vec![(event, None)], entries: Vec::new() }
    }

    fn tell(&mut self, event: Event, cause: &Cause) {
        self.events.push((event, Some(cause.clone())));
    }
}

/// A law of payments that a message or the provider would break; nothing is saved then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Breach {
    /// The order's total is not what is being paid.
    #[error("the order's total {total} differs from the authorized {authorized}")]
    Total {
        /// The total.
        total: Money,
        /// What is being paid.
        authorized: Money,
    },
    /// More would be captured than is authorized.
    #[error("captured {captured} would exceed authorized {authorized}")]
    Captured {
        /// Minor units captured.
        captured: i64,
        /// Minor units authorized.
        authorized: i64,
    },
    /// More would be refunded than is captured.
    #[error("refunded {refunded} would exceed captured {captured}")]
    Refunded {
        /// Minor units refunded.
        refunded: i64,
        /// Minor units captured.
        captured: i64,
    },
    /// There would be two captures or two authorizations.
    #[error("{kind} of {key} would be the second one")]
    Twice {
        /// The operation.
        kind: &'static str,
        /// Its key.
        key: String,
    },
    /// The provider says another thing than it said before, or moved another amount.
    #[error("the provider contradicts what is known of {key}")]
    Contradiction {
        /// The operation's key.
        key: String,
    },
}

impl Leg {
    fn new(key: String, request: &str, cause: &Cause) -> Self {
        let (requests, cause) = (vec![request.to_owned()], cause.clone());
        Self { key, requests, progress: Progress::Pending, cause }
    }

    /// Tells whether the provider has yet to be asked, or asked again.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.progress, Progress::Pending | Progress::Unknown)
    }

    /// Tells whether it is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.progress, Progress::Done { .. })
    }

    fn is_unknown(&self) -> bool {
        self.progress == Progress::Unknown
    }

    fn has(&self, request: &str) -> bool {
        self.requests.iter().any(|known| known == request)
    }

    fn add(&mut self, request: &str) {
        if !self.has(request) {
            self.requests.push(request.to_owned());
        }
    }

    fn doubt(&mut self) {
        if self.progress == Progress::Pending {
            self.progress = Progress::Unknown;
        }
    }

    /// Returns an unknown operation that the provider does not know to the ones to be sent.
    fn send_again(&mut self) {
        if self.is_unknown() {
            self.progress = Progress::Pending;
        }
    }
}

impl Payment {
    /// Opens the record of an order.
    #[must_use]
    pub fn open(order_id: OrderId, payment_id: PaymentId) -> Self {
        Self {
            order_id,
            payment_id,
            total: None,
            attempts: Vec::new(),
            capture: None,
            void: None,
            refunds: Vec::new(),
            unresolved: 0,
        }
    }

    /// Returns where the payment stands.
    #[must_use]
    pub fn status(&self) -> PaymentStatus {
        let capture = self.capture.as_ref().map(|capture| &capture.leg);
        if capture.is_some_and(Leg::is_done) {
            let (captured, refunded) = (self.captured(), self.refunded());
            return match refunded {
                0 => PaymentStatus::Captured,
                _ if refunded < captured => PaymentStatus::PartiallyRefunded,
                _ => PaymentStatus::Refunded,
            };
        }
        let attempt = self.attempts.last().map(|attempt| &attempt.leg);
        if [attempt, capture].into_iter().flatten().any(Leg::is_unknown) {
            return PaymentStatus::Unknown;
        }
        match self.void.as_ref().map(|void| &void.leg.progress) {
            Some(Progress::Unknown) => return PaymentStatus::Unknown,
            Some(Progress::Pending) => return PaymentStatus::Voiding,
            Some(_) => return PaymentStatus::Voided,
            None => {}
        }
        match (attempt.map(|leg| &leg.progress), capture) {
            (None, _) => PaymentStatus::Created,
            (Some(Progress::Done { .. }), Some(_)) => PaymentStatus::Capturing,
            (Some(Progress::Done { .. }), None) => PaymentStatus::Authorized,
            (Some(Progress::Pending | Progress::Unknown), _) => PaymentStatus::Authorizing,
            (Some(Progress::Rejected { .. } | Progress::Abandoned), _) => PaymentStatus::Declined,
        }
    }

    /// Returns how much is or was set aside, in minor units.
    #[must_use]
    pub fn authorized(&self) -> i64 {
        let done = self.attempts.iter().filter(|attempt| attempt.leg.is_done());
        done.fold(0, |sum, attempt| sum.saturating_add(attempt.amount.minor))
    }

    /// Returns how much was taken, in minor units.
    #[must_use]
    pub fn captured(&self) -> i64 {
        let done = self.capture.iter().filter(|capture| capture.leg.is_done());
        done.map(|capture| capture.amount.minor).sum()
    }

    /// Returns how much was given back, in minor units.
    #[must_use]
    pub fn refunded(&self) -> i64 {
        let done = self.refunds.iter().filter(|refund| refund.leg.is_done());
        done.fold(0, |sum, refund| sum.saturating_add(refund.amount.minor))
    }

    /// Checks the laws of payments.
    ///
    /// # Errors
    /// The [`Breach`].
    pub fn check(&self) -> Result<(), Breach> {
        let mut done = self.attempts.iter().filter(|attempt| attempt.leg.is_done());
        let first = done.next();
        if let Some(second) = done.next() {
            return Err(Breach::Twice { kind: "authorization", key: second.leg.key.clone() });
        }
        if let (Some(total), Some(attempt)) = (self.total, first)
            && total != attempt.amount
        {
            return Err(Breach::Total { total, authorized: attempt.amount });
        }
        let (authorized, captured) = (self.authorized(), self.captured());
        if captured > authorized {
            return Err(Breach::Captured { captured, authorized });
        }
        let refunded = self.refunded();
        if refunded > captured {
            return Err(Breach::Refunded { refunded, captured });
        }
        Ok(())
    }

    /// Tells whether some operation is neither done nor refused.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.legs().any(Leg::is_open)
    }

    /// Counts a call that was made since `before`: the wait before the next one grows while calls
    /// settle nothing.
    pub fn count_call(&mut self, before: &Self) {
        let settled = |payment: &Self| payment.legs().filter(|leg| !leg.is_open()).count();
        self.unresolved =
            if settled(self) > settled(before) { 0 } else { self.unresolved.saturating_add(1) };
    }

    fn legs(&self) -> impl Iterator<Item = &Leg> {
        let attempts = self.attempts.iter().map(|attempt| &attempt.leg);
        let capture = self.capture.iter().map(|capture| &capture.leg);
        let void = self.void.iter().map(|void| &void.leg);
        let refunds = self.refunds.iter().map(|refund| &refund.leg);
        attempts.chain(capture).chain(void).chain(refunds)
    }

    fn failed(&self, request: &str, reason: &str, retryable: bool) -> Event {
        Event::Failed(PaymentFailed {
            order_id: self.order_id,
            payment_id: self.payment_id,
            reason: reason.to_owned(),
            retryable,
            request: request.to_owned(),
        })
    }

    fn authorized_event(&self, request: &str, amount: Money) -> Event {
        Event::Authorized(PaymentAuthorized {
            order_id: self.order_id,
            payment_id: self.payment_id,
            amount,
            request: request.to_owned(),
        })
    }

    fn voided(&self, request: &str) -> Event {
        Event::Voided(PaymentVoided { order_id: self.order_id, request: request.to_owned() })
    }

    /// Returns the event of the capture, none while it is not done.
    fn succeeded(&self, request: &str) -> Option<Event> {
        let capture = self.capture.as_ref()?;
        let Progress::Done { psp_ref } = &capture.leg.progress else { return None };
        Some(Event::Succeeded(PaymentSucceeded {
            order_id: self.order_id,
            payment_id: self.payment_id,
            amount: capture.amount,
            captured_at: capture.captured_at?,
            psp_ref: psp_ref.clone(),
            request: request.to_owned(),
        }))
    }

    fn refund_event(&self, refund: &Refund, request: &str) -> Option<Event> {
        let (order_id, refund_id) = (self.order_id, refund.refund_id);
        let request = request.to_owned();
        match &refund.leg.progress {
            Progress::Done { .. } => {
                let amount = refund.amount;
                let done = RefundCompleted { order_id, refund_id, amount, request };
                Some(Event::RefundCompleted(done))
            }
            Progress::Rejected { reason, .. } => {
                let reason = reason.clone();
                let failed = RefundFailed { order_id, refund_id, reason, request };
                Some(Event::RefundFailed(failed))
            }
            Progress::Pending | Progress::Unknown | Progress::Abandoned => None,
        }
    }
}
