//! What changes payments: commands of Orders, answers of the provider, and its webhooks.

use std::time::Duration;

use amarra_core::codec::Message;
use amarra_core::{Cause, Class, Classify, PartitionKey, Version};
use amarra_store::{Aggregate, Claim, Command, Draft, HandlerError, Loaded, Session, TxError};
use async_trait::async_trait;

use super::config::Config;
use super::model::decide::Context;
use super::model::learn::Learned;
use super::model::{Breach, Effects, Event, Payment};
use super::outgoing::Heard;
use super::provider_port::WebhookEvent;
use super::service::Payments;
use super::view::{self, PspEvent, WebhookReceipt};
use crate::contract::orders::OrderCreated;
use crate::contract::payments::{AuthorizePayment, CapturePayment, RefundPayment, VoidPayment};
use crate::contract::{ApiError, OrderId, topics};

/// A payment as loaded, as it was and as it is to be.
struct Change {
    loaded: Loaded<Payment>,
    before: Option<Payment>,
    after: Payment,
}

/// When the payment's timer is set after a change.
#[derive(Clone, Copy)]
enum Timing {
    /// By the worker that made a call: always.
    Owner,
    /// By anybody else: only where there was no work and now is, or the other way round, so that
    /// a call in progress keeps its claim and its answer is heard.
    Bystander,
}

async fn load(session: &mut Session<'_>, order_id: OrderId) -> Result<Change, HandlerError> {
    let loaded = session.load::<Payment>(&order_id.to_string()).await?;
    let before = loaded.state.clone();
    let open = || Payment::open(order_id, session.env().new_id());
    let after = before.clone().unwrap_or_else(open);
    Ok(Change { loaded, before, after })
}

/// Opens the record of a new order.
pub(super) async fn open(
    session: &mut Session<'_>,
    order: &OrderCreated,
    config: &Config,
) -> Result<(), HandlerError> {
    let mut change = load(session, order.order_id).await?;
    change.after.expect_total(order.total).map_err(refused)?;
    let how = ("open", Timing::Bystander);
    save(session, change, Effects::default(), (how, config)).await
}

/// Handles a command of Orders.
pub(super) async fn command(
    session: &mut Session<'_>,
    command: &PaymentCommand,
    config: &Config,
) -> Result<(), HandlerError> {
    let mut change = load(session, command.order_id()).await?;
    let (cause, refund_id) = (session.cause().clone(), session.env().new_id());
    let ctx = Context { request: command.request(), cause: &cause, rules: config.rules };
    let payment = &mut change.after;
    let (effects, action) = match command {
        PaymentCommand::Authorize(c) => {
            (payment.authorize(c.amount, &c.payment_token, ctx), "authorize")
        }
        PaymentCommand::Capture(c) => (payment.take(c.amount, ctx), "capture"),
        PaymentCommand::Void(_) => (payment.give_up(ctx), "void"),
        PaymentCommand::Refund(c) => (payment.give_back(c.amount, refund_id, ctx), "refund"),
    };
    save(session, change, effects, ((action, Timing::Bystander), config)).await
}

/// A command of Orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PaymentCommand {
    Authorize(AuthorizePayment),
    Capture(CapturePayment),
    Void(VoidPayment),
    Refund(RefundPayment),
}

impl PaymentCommand {
    fn order_id(&self) -> OrderId {
        match self {
            Self::Authorize(c) => c.order_id,
            Self::Capture(c) => c.order_id,
            Self::Void(c) => c.order_id,
            Self::Refund(c) => c.order_id,
        }
    }

    fn request(&self) -> &str {
        match self {
            Self::Authorize(c) => &c.request,
            Self::Capture(c) => &c.request,
            Self::Void(c) => &c.request,
            Self::Refund(c) => &c.request,
        }
    }
}

/// Takes note of what came back of a call.
#[derive(Debug)]
pub(super) struct Hear<'a> {
    pub(super) claim: &'a Claim,
    pub(super) heard: &'a Heard,
    pub(super) config: &'a Config,
}

/// Why what came back of a call was not taken note of.
#[derive(Debug)]
pub(super) enum Unheard {
    /// Somebody took over, who learns the same by the same key. What this call heard may be old: a
    /// record without an operation says nothing once somebody else may have sent it.
    Superseded,
    /// Anything else; somebody takes over after the lease.
    Failed(HandlerError),
}

impl From<TxError> for Unheard {
    fn from(e: TxError) -> Self {
        match e {
            TxError::Fenced { .. } => Self::Superseded,
            other => Self::Failed(other.into()),
        }
    }
}

impl From<HandlerError> for Unheard {
    fn from(e: HandlerError) -> Self {
        match e {
            HandlerError::Tx(e) => e.into(),
            other => Self::Failed(other),
        }
    }
}

impl Classify for Unheard {
    fn class(&self) -> Class {
        match self {
            Self::Superseded => Class::Rejected,
            Self::Failed(e) => e.class(),
        }
    }
}

#[async_trait]
impl Command for Hear<'_> {
    type Output = ();
    type Error = Unheard;

    async fn run(&self, session: &mut Session<'_>) -> Result<(), Unheard> {
        // The payment before its timer, as command handlers lock them.
        let loaded = session.load::<Payment>(&self.claim.id.id).await?;
        session.unit().verify(self.claim).await?;
        let Some(before) = loaded.state.clone() else {
            return Ok(session.schedule(&loaded.id, None).await?);
        };
        let (mut after, at) = (before.clone(), (session.now(), self.config.rules));
        let mut effects = Effects::default();
        match self.heard {
            Heard::Fact(fact) => {
                if let Learned::Known(learned) = after.learn(fact, at).map_err(refused)? {
                    effects = learned;
                }
            }
            Heard::Record(record) => effects = after.settle(record, at).map_err(refused)?,
            Heard::Doubt(key) => after.doubt(key),
            Heard::Nothing => {}
        }
        after.count_call(&before);
        let change = Change { loaded, before: Some(before), after };
        Ok(save(session, change, effects, (("hear", Timing::Owner), self.config)).await?)
    }
}

/// Takes note of a webhook, once.
#[derive(Debug)]
pub(super) struct Ingest<'a> {
    pub(super) event: &'a WebhookEvent,
    pub(super) config: &'a Config,
}

#[async_trait]
impl Command for Ingest<'_> {
    type Output = WebhookReceipt;
    type Error = ApiError;

    async fn run(&self, session: &mut Session<'_>) -> Result<WebhookReceipt, ApiError> {
        let (event, fact) = (self.event, &self.event.operation);
        let id = PspEvent::aggregate_id(&event.event_id);
        let payment = Payment::aggregate_id(&fact.order_id.to_string());
        session.lock(&[payment, id]).await?;
        let mut inbox = session.load::<PspEvent>(&event.event_id).await?;
        if inbox.state.is_some() {
            return Ok(WebhookReceipt::Duplicate);
        }
        let received_at = session.now();
        let seen = PspEvent { order_id: fact.order_id, kind: fact.kind, received_at };
        session.save(&mut inbox, seen, "receive").await?;
        let loaded = session.load::<Payment>(&fact.order_id.to_string()).await?;
        let Some(before) = loaded.state.clone() else {
            return Ok(WebhookReceipt::Unmatched);
        };
        let mut after = before.clone();
        let learned = after.learn(fact, (session.now(), self.config.rules));
        let effects = match learned.map_err(|e| ApiError::Unprocessable(e.to_string()))? {
            Learned::Known(effects) => effects,
            Learned::Unmatched => return Ok(WebhookReceipt::Unmatched),
        };
        let change = Change { loaded, before: Some(before), after };
        save(session, change, effects, (("hear", Timing::Bystander), self.config)).await?;
        Ok(WebhookReceipt::Accepted)
    }
}

/// Saves a change with its journal entries, events and timer.
async fn save(
    session: &mut Session<'_>,
    change: Change,
    effects: Effects,
    ((action, timing), config): ((&str, Timing), &Config),
) -> Result<(), HandlerError> {
    let Change { mut loaded, before, after } = change;
    after.check().map_err(refused)?;
    if before.as_ref() != Some(&after) {
        let version = session.save(&mut loaded, after.clone(), action).await?;
        let row = view::payment(&after, version);
        session.write_view((view::PAYMENTS, &loaded.id.id), version, &row).await?;
    }
    for entry in effects.entries {
        if !entry.is_balanced() {
            return Err(HandlerError::Refused(format!("journal entry {} not balanced", entry.id)));
        }
        let id = super::journal::JournalEntry::aggregate_id(&entry.id);
        let mut fresh = Loaded { id, version: Version::ABSENT, state: None };
        let version = session.save(&mut fresh, entry.clone(), "record").await?;
        session.write_view((view::JOURNAL, &entry.id), version, &entry).await?;
    }
    for (event, cause) in &effects.events {
        tell(session, &loaded, event, cause.as_ref()).await?;
    }
    let timer = match timing {
        Timing::Owner => Some(next_timer(session, &after, config)),
        Timing::Bystander => {
            let was_open = before.as_ref().is_some_and(Payment::is_open);
            (was_open != after.is_open()).then(|| next_timer(session, &after, config))
        }
    };
    if let Some(after) = timer {
        session.schedule(&loaded.id, after).await?;
    }
    Ok(())
}

/// Returns when the next call is due, none when there is none to make.
fn next_timer(session: &Session<'_>, payment: &Payment, config: &Config) -> Option<Duration> {
    payment.next_call()?;
    if !payment.is_open() {
        return Some(config.void_recheck_after);
    }
    if payment.unresolved == 0 {
        return Some(Duration::ZERO);
    }
    let half = config.wait_after(payment.unresolved).checked_div(2).unwrap_or_default();
    let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
    let jitter = session.env().entropy.below(nanos.saturating_add(1));
    Some(half.saturating_add(Duration::from_nanos(jitter)))
}

/// Emits an event, caused by the command it answers even when a timer or webhook brought it about.
async fn tell(
    session: &mut Session<'_>,
    loaded: &Loaded<Payment>,
    event: &Event,
    cause: Option<&Cause>,
) -> Result<(), HandlerError> {
    let actor = session.cause().actor.clone();
    let cause =
        cause.map_or_else(|| session.cause().clone(), |cause| Cause { actor, ..cause.clone() });
    let env = session.env();
    let mut session = Session::new(session.unit(), env, Payments::SOURCE, cause);
    match event {
        Event::Authorized(event) => emit(&mut session, loaded, event).await,
        Event::Succeeded(event) => emit(&mut session, loaded, event).await,
        Event::Failed(event) => emit(&mut session, loaded, event).await,
        Event::Voided(event) => emit(&mut session, loaded, event).await,
        Event::RefundCompleted(event) => emit(&mut session, loaded, event).await,
        Event::RefundFailed(event) => emit(&mut session, loaded, event).await,
    }
}

async fn emit<M: Message>(
    session: &mut Session<'_>,
    loaded: &Loaded<Payment>,
    message: &M,
) -> Result<(), HandlerError> {
    let draft = Draft {
        topic: topics::PAYMENTS,
        key: PartitionKey::new(loaded.id.id.clone()),
        subject: &loaded.id,
        version: loaded.version,
        message,
    };
    session.emit(draft).await?;
    Ok(())
}

fn refused(breach: Breach) -> HandlerError {
    HandlerError::Refused(breach.to_string())
}
