//! Commands: what each one does to a payment in every state.

use amarra_core::Cause;

use super::{
    Attempt, Breach, Capture, Effects, Event, Leg, Payment, Progress, Refund, Rules, Void,
};
use crate::contract::payments::RefundFailed;
use crate::contract::{Money, RefundId};
use crate::payments::provider_port::OperationKind;

/// What a command is handled with.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The request to echo.
    pub request: &'a str,
    /// The command itself.
    pub cause: &'a Cause,
    /// The bounds.
    pub rules: Rules,
}

impl Payment {
    /// Takes note of the order's total.
    ///
    /// # Errors
    /// [`Breach::Total`] when something else is being paid already.
    pub fn expect_total(&mut self, total: Money) -> Result<(), Breach> {
        let paying = self.attempts.iter().find(|attempt| attempt.amount != total);
        if let Some(attempt) = paying {
            return Err(Breach::Total { total, authorized: attempt.amount });
        }
        self.total = Some(total);
        Ok(())
    }

    /// Sets the money aside, unless a void came first; a repeated request is answered again.
    #[must_use]
    pub fn authorize(&mut self, amount: Money, token: &str, ctx: Context<'_>) -> Effects {
        let refuse =
            |payment: &Self, reason| Effects::answer(payment.failed(ctx.request, reason, false));
        if self.void.is_some() {
            return refuse(self, "voided");
        }
        if !amount.is_positive() {
            return refuse(self, "invalid_amount");
        }
        if self.total.is_some_and(|total| total != amount) {
            return refuse(self, "amount_differs");
        }
        let known = self.attempts.iter().position(|attempt| attempt.leg.has(ctx.request));
        let newest = self.attempts.len().checked_sub(1);
        let Some(index) = known.or(newest) else {
            return self.attempt(amount, token, ctx);
        };
        let Some(attempt) = self.attempts.get_mut(index) else { return Effects::default() };
        if attempt.leg.is_open() && attempt.amount == amount {
            attempt.leg.add(ctx.request);
            return Effects::default();
        }
        match &attempt.leg.progress {
            Progress::Rejected { retryable: true, .. } if known.is_none() => {
                self.attempt(amount, token, ctx)
            }
            Progress::Rejected { reason, retryable } => {
                let (reason, retryable) = (reason.clone(), *retryable);
                Effects::answer(self.failed(ctx.request, &reason, retryable))
            }
            Progress::Done { .. } if attempt.amount == amount => {
                Effects::answer(self.authorized_event(ctx.request, amount))
            }
            Progress::Abandoned => refuse(self, "voided"),
            Progress::Done { .. } | Progress::Pending | Progress::Unknown => {
                refuse(self, "amount_differs")
            }
        }
    }

    /// Takes the money that is set aside, once.
    #[must_use]
    pub fn take(&mut self, amount: Money, ctx: Context<'_>) -> Effects {
        if let Some(capture) = &mut self.capture {
            let refusal = match &capture.leg.progress {
                Progress::Pending | Progress::Unknown => {
                    capture.leg.add(ctx.request);
                    return Effects::default();
                }
                Progress::Rejected { reason, retryable } => Some((reason.clone(), *retryable)),
                Progress::Abandoned => Some(("voided".to_owned(), false)),
                Progress::Done { .. } => None,
            };
            let event = match refusal {
                Some((reason, retryable)) => Some(self.failed(ctx.request, &reason, retryable)),
                None => self.succeeded(ctx.request),
            };
            return event.map_or_else(Effects::default, Effects::answer);
        }
        let refuse = |reason| Effects::answer(self.failed(ctx.request, reason, false));
        if self.void.is_some() {
            return refuse("voided");
        }
        let Some(attempt) = self.attempts.last().filter(|attempt| attempt.leg.is_done()) else {
            return refuse("not_authorized");
        };
        let within = attempt.amount.minus(amount).is_ok_and(|left| left.minor >= 0);
        if !within || !amount.is_positive() {
            return refuse("exceeds_authorized");
        }
        let leg = self.leg(OperationKind::Capture, ctx);
        self.capture = Some(Capture { leg, amount, captured_at: None });
        self.unresolved = 0;
        Effects::default()
    }

    /// Gives up the authorization, known or unknown; with none, there will be none. Captured money
    /// cannot be voided: the answer is then that it was captured.
    #[must_use]
    pub fn give_up(&mut self, ctx: Context<'_>) -> Effects {
        if let Some(event) = self.succeeded(ctx.request) {
            return Effects::answer(event);
        }
        if let Some(void) = &mut self.void {
            if void.leg.is_open() {
                void.leg.add(ctx.request);
                return Effects::default();
            }
            return Effects::answer(self.voided(ctx.request));
        }
        let refused = |attempt: &Attempt| matches!(attempt.leg.progress, Progress::Rejected { .. });
        let none = self.attempts.iter().all(refused);
        let mut leg = self.leg(OperationKind::Void, ctx);
        if none {
            leg.progress = Progress::Done { psp_ref: String::new() };
        }
        self.void = Some(Void { leg, renewals: 0, rechecks_left: 0 });
        self.unresolved = 0;
        if none {
            return Effects::answer(self.voided(ctx.request));
        }
        // What is on its way may have arrived: the provider's status decides before the void.
        let attempt = self.attempts.last_mut().map(|attempt| &mut attempt.leg);
        let capture = self.capture.as_mut().map(|capture| &mut capture.leg);
        attempt.into_iter().chain(capture).for_each(Leg::doubt);
        Effects::default()
    }

    /// Gives captured money back, at most as much as is left of it.
    #[must_use]
    pub fn give_back(&mut self, amount: Money, refund_id: RefundId, ctx: Context<'_>) -> Effects {
        if let Some(refund) = self.refunds.iter().find(|refund| refund.leg.has(ctx.request)) {
            let event = self.refund_event(refund, ctx.request);
            return event.map_or_else(Effects::default, Effects::answer);
        }
        let refuse = |reason: &str| {
            Effects::answer(Event::RefundFailed(RefundFailed {
                order_id: self.order_id,
                refund_id,
                reason: reason.to_owned(),
                request: ctx.request.to_owned(),
            }))
        };
        let Some(capture) = self.capture.as_ref().filter(|capture| capture.leg.is_done()) else {
            return refuse("not_captured");
        };
        let live = |refund: &&Refund| !matches!(refund.leg.progress, Progress::Rejected { .. });
        let left = self
            .refunds
            .iter()
            .filter(live)
            .try_fold(capture.amount, |left, refund| left.minus(refund.amount))
            .and_then(|left| left.minus(amount));
        if !left.is_ok_and(|left| left.minor >= 0) || !amount.is_positive() {
            return refuse("exceeds_captured");
        }
        if self.refunds.len() >= ctx.rules.refunds_max {
            return refuse("too_many_refunds");
        }
        let leg = self.leg(OperationKind::Refund, ctx);
        self.refunds.push(Refund { leg, refund_id, amount });
        self.unresolved = 0;
        Effects::default()
    }

    fn attempt(&mut self, amount: Money, token: &str, ctx: Context<'_>) -> Effects {
        if self.attempts.len() >= ctx.rules.attempts_max {
            return Effects::answer(self.failed(ctx.request, "too_many_attempts", false));
        }
        let leg = self.leg(OperationKind::Authorize, ctx);
        self.attempts.push(Attempt { leg, amount, token: token.to_owned() });
        self.unresolved = 0;
        Effects::default()
    }

    fn leg(&self, kind: OperationKind, ctx: Context<'_>) -> Leg {
        let key = format!("{}:{}:{}", self.order_id, kind.as_str(), ctx.request);
        Leg::new(key, ctx.request, ctx.cause)
    }
}
