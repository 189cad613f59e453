//! What to ask the provider next.

use amarra_core::Cause;

use super::{Leg, Payment, Progress};
use crate::payments::provider_port::{
    AuthorizeRequest, CaptureRequest, RefundRequest, VoidRequest,
};

/// A call to the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Set money aside.
    Authorize(AuthorizeRequest),
    /// Take it.
    Capture(CaptureRequest),
    /// Give up the authorization.
    Void(VoidRequest),
    /// Give captured money back.
    Refund(RefundRequest),
    /// Ask what is on record for the order.
    Query,
}

impl Call {
    /// Returns the idempotency key, none for a query.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Authorize(request) => Some(&request.key),
            Self::Capture(request) => Some(&request.key),
            Self::Void(request) => Some(&request.key),
            Self::Refund(request) => Some(&request.key),
            Self::Query => None,
        }
    }
}

impl Payment {
    /// Returns the next call and the command it is made for, none when there is nothing to ask.
    ///
    /// A doubt comes first, and nothing but a query resolves it; then the void, so that nothing is
    /// captured that is to be given up.
    #[must_use]
    pub fn next_call(&self) -> Option<(Call, &Cause)> {
        if let Some(doubtful) = self.legs().find(|leg| leg.is_unknown()) {
            return Some((Call::Query, &doubtful.cause));
        }
        self.void_call()
            .or_else(|| self.authorize_call())
            .or_else(|| self.capture_call())
            .or_else(|| self.refund_call())
            .or_else(|| self.recheck())
    }

    /// Takes note that an operation was sent and nothing is known of its outcome.
    pub fn doubt(&mut self, key: &str) {
        let attempts = self.attempts.iter_mut().map(|attempt| &mut attempt.leg);
        let capture = self.capture.iter_mut().map(|capture| &mut capture.leg);
        let void = self.void.iter_mut().map(|void| &mut void.leg);
        let refunds = self.refunds.iter_mut().map(|refund| &mut refund.leg);
        let mut legs = attempts.chain(capture).chain(void).chain(refunds);
        if let Some(leg) = legs.find(|leg| leg.key == key) {
            leg.doubt();
        }
    }

    fn void_call(&self) -> Option<(Call, &Cause)> {
        let leg = pending(self.void.as_ref().map(|void| &void.leg))?;
        let authorization = self.authorization()?;
        let (key, order_id) = (leg.key.clone(), self.order_id);
        Some((Call::Void(VoidRequest { key, order_id, authorization }), &leg.cause))
    }

    fn authorize_call(&self) -> Option<(Call, &Cause)> {
        let attempt = self.attempts.last()?;
        let leg = pending(Some(&attempt.leg))?;
        let request = AuthorizeRequest {
            key: leg.key.clone(),
            order_id: self.order_id,
            amount: attempt.amount,
            token: attempt.token.clone(),
        };
        Some((Call::Authorize(request), &leg.cause))
    }

    fn capture_call(&self) -> Option<(Call, &Cause)> {
        let capture = self.capture.as_ref()?;
        let leg = pending(Some(&capture.leg))?;
        let request = CaptureRequest {
            key: leg.key.clone(),
            order_id: self.order_id,
            authorization: self.authorization()?,
            amount: capture.amount,
        };
        Some((Call::Capture(request), &leg.cause))
    }

    fn refund_call(&self) -> Option<(Call, &Cause)> {
        let refund = self.refunds.iter().find(|refund| pending(Some(&refund.leg)).is_some())?;
        let request = RefundRequest {
            key: refund.leg.key.clone(),
            order_id: self.order_id,
            authorization: self.authorization()?,
            amount: refund.amount,
        };
        Some((Call::Refund(request), &refund.leg.cause))
    }

    fn recheck(&self) -> Option<(Call, &Cause)> {
        let void = self.void.as_ref().filter(|void| void.rechecks_left > 0)?;
        Some((Call::Query, &void.leg.cause))
    }

    fn authorization(&self) -> Option<String> {
        self.attempts.iter().find_map(|attempt| match &attempt.leg.progress {
            Progress::Done { psp_ref } => Some(psp_ref.clone()),
            _ => None,
        })
    }
}

fn pending(leg: Option<&Leg>) -> Option<&Leg> {
    leg.filter(|leg| leg.progress == Progress::Pending)
}
