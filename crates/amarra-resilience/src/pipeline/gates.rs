//! What a try passes before it is sent.

use std::sync::Arc;

use amarra_core::{Environment, Monotonic};

use crate::adaptive::{Adaptive, Ticket};
use crate::breaker::{Outcome, Permit};
use crate::bulkhead::{Bulkhead, Slot};
use crate::limiter::Limiter;
use crate::shed::Shed;
use crate::throttle::Throttle;

/// One of them; their order here is the usual one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gate {
    Breaker,
    Shed,
    Throttle,
    Bulkhead,
    Adaptive,
    Limiter,
}

/// The gates a pipeline has, apart from its breaker.
#[derive(Debug, Clone, Default)]
pub(super) struct Gates {
    pub(super) shed: Option<Shed>,
    pub(super) throttle: Option<Arc<Throttle>>,
    pub(super) bulkhead: Option<Arc<Bulkhead>>,
    pub(super) adaptive: Option<Arc<Adaptive>>,
    pub(super) limiter: Option<Arc<Limiter>>,
}

impl Gates {
    /// Returns how full the callee is believed to be.
    pub(super) fn load(&self) -> crate::PerMille {
        match (&self.bulkhead, &self.adaptive) {
            (Some(bulkhead), _) => bulkhead.load(),
            (None, Some(adaptive)) => adaptive.load(),
            (None, None) => crate::PerMille::new(0),
        }
    }
}

/// The places one try holds; dropped, they are free.
#[derive(Debug, Default)]
pub(super) struct Entered<'a> {
    pub(super) now: Monotonic,
    pub(super) permit: Option<Permit<'a>>,
    pub(super) ticket: Option<Ticket<'a>>,
    pub(super) throttle: Option<&'a Throttle>,
    pub(super) slot: Option<Slot<'a>>,
}

impl Entered<'_> {
    /// Tells every gate that learns from answers what this one was.
    pub(super) fn finish(self, env: &Environment, outcome: Outcome) {
        if let Some(ticket) = self.ticket {
            ticket.finish(env.monotonic(), outcome);
        }
        if let Some(throttle) = self.throttle {
            throttle.record(env.monotonic(), outcome);
        }
        if let Some(permit) = self.permit {
            permit.finish(|| env.monotonic(), outcome);
        }
    }
}
