//! The payment against the provider's own model: tables by hand and random interleavings.
#![allow(clippy::arithmetic_side_effects, reason = "tests")]

mod interleavings;
mod table;

use amarra_core::{Actor, SeededEntropy, TraceParent};

use super::calls::Call;
use super::decide::Context;
use super::learn::Learned;
use super::*;
use crate::contract::Currency;
use crate::payments::provider_port::{Operation, OperationKind, OperationOutcome, ProviderAnswer};
use crate::provider::{Config, Provider, ProviderRequest, ProviderResponse};

const RULES: Rules = Rules { attempts_max: 3, refunds_max: 4, void_rechecks: 2 };

fn order_id() -> OrderId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
}

fn euro(minor: i64) -> Money {
    Money::new(minor, Currency::EUR)
}

fn cause() -> Cause {
    Cause {
        correlation: order_id().as_uuid().into(),
        causation: None,
        actor: Actor::Service("orders".into()),
        traceparent: TraceParent::root(&SeededEntropy::new(1, "cause")),
    }
}

fn at() -> (Timestamp, Rules) {
    (Timestamp::EPOCH, RULES)
}

/// A payment, its provider, and everything told so far.
struct World {
    payment: Payment,
    provider: Provider,
    told: Vec<Event>,
    journal: Vec<JournalEntry>,
}

impl World {
    fn new() -> Self {
        let payment_id = "01890a5d-ac96-774b-bcce-b302099a8058".parse().unwrap();
        Self {
            payment: Payment::open(order_id(), payment_id),
            provider: Provider::new(Config::default()).unwrap(),
            told: Vec::new(),
            journal: Vec::new(),
        }
    }

    /// Runs a command and returns what it told at once.
    fn command(
        &mut self,
        run: impl FnOnce(&mut Payment, Context<'_>) -> Effects,
        request: &str,
    ) -> String {
        let cause = cause();
        let ctx = Context { request, cause: &cause, rules: RULES };
        let effects = run(&mut self.payment, ctx);
        self.take(effects)
    }

    fn authorize(&mut self, request: &str, token: &str) -> String {
        self.command(|p, ctx| p.authorize(euro(100), token, ctx), request)
    }

    fn capture(&mut self, request: &str) -> String {
        self.command(|p, ctx| p.take(euro(100), ctx), request)
    }

    fn void(&mut self, request: &str) -> String {
        self.command(Payment::give_up, request)
    }

    fn refund(&mut self, request: &str, minor: i64) -> String {
        let refund_id = "01890a5d-ac96-774b-bcce-b302099a8059".parse().unwrap();
        self.command(|p, ctx| p.give_back(euro(minor), refund_id, ctx), request)
    }

    fn take(&mut self, effects: Effects) -> String {
        let summary: Vec<_> = effects.events.iter().map(|(event, _)| short(event)).collect();
        self.told.extend(effects.events.into_iter().map(|(event, _)| event));
        self.journal.extend(effects.entries);
        self.payment.check().unwrap();
        summary.join(", ")
    }

    fn learn(&mut self, fact: &Operation) -> String {
        match self.payment.learn(fact, at()).unwrap() {
            Learned::Known(effects) => self.take(effects),
            Learned::Unmatched => "unmatched".to_owned(),
        }
    }

    fn settle(&mut self) -> String {
        let record = self.provider.operations(order_id());
        let effects = self.payment.settle(&record, at()).unwrap();
        self.take(effects)
    }

    fn next(&self) -> Option<Call> {
        self.payment.next_call().map(|(call, _)| call)
    }

    /// Has the provider do `call` and returns what its answer would say.
    fn at_provider(&mut self, call: &Call) -> Option<Operation> {
        let (request, kind) = request(call)?;
        let response = self.provider.serve(&request, Timestamp::EPOCH);
        let ProviderResponse::Outcome(outcome) = response else { panic!("{response:?}") };
        let key = call.key().unwrap().to_owned();
        Some(Operation { key, order_id: order_id(), kind, outcome })
    }

    /// Makes the next call and hears its answer; returns what was told.
    fn step(&mut self) -> String {
        let call = self.next().expect("something to do");
        match self.at_provider(&call) {
            Some(fact) => self.learn(&fact),
            None => self.settle(),
        }
    }

    /// Makes the next call, which the provider carries out, and loses the answer.
    fn step_lost(&mut self) {
        let call = self.next().expect("something to do");
        self.at_provider(&call);
        self.payment.doubt(call.key().unwrap());
    }
}

fn request(call: &Call) -> Option<(ProviderRequest, OperationKind)> {
    Some(match call.clone() {
        Call::Authorize(r) => (ProviderRequest::Authorize(r), OperationKind::Authorize),
        Call::Capture(r) => (ProviderRequest::Capture(r), OperationKind::Capture),
        Call::Void(r) => (ProviderRequest::Void(r), OperationKind::Void),
        Call::Refund(r) => (ProviderRequest::Refund(r), OperationKind::Refund),
        Call::Query => return None,
    })
}

fn short(event: &Event) -> String {
    match event {
        Event::Authorized(e) => format!("authorized {}", e.request),
        Event::Succeeded(e) => format!("succeeded {}", e.request),
        Event::Failed(e) if e.retryable => format!("failed {} {} retryable", e.request, e.reason),
        Event::Failed(e) => format!("failed {} {}", e.request, e.reason),
        Event::Voided(e) => format!("voided {}", e.request),
        Event::RefundCompleted(e) => format!("refunded {}", e.request),
        Event::RefundFailed(e) => format!("refund-failed {} {}", e.request, e.reason),
    }
}
