//! The face of Payments: API operations, message handler and timer.

use std::sync::Arc;

use amarra_core::codec::Message;
use amarra_core::{Actor, AggregateId, Cause, Codec, Envelope, Environment, TraceParent};
use amarra_messaging::{Group, Incoming, Topic};
use amarra_store::{
    Aggregate, Attempts, Claim, DueHandler, Handler, HandlerError, PageQuery, ReadModel, Session,
    Store, TxError, execute,
};
use async_trait::async_trait;

use super::commands::{self, Hear, Ingest, PaymentCommand, Unheard};
use super::config::Config;
use super::model::Payment;
use super::outgoing::{Heard, Outgoing};
use super::provider_port::{PaymentProvider, WebhookEvent};
use super::view::{self, JournalPage, PaymentView, WebhookReceipt};
use super::webhook::{BadSignature, SignedWebhook, WebhookKey};
use crate::callee::Guard;
use crate::contract::api::{ApiError, Caller, Role};
use crate::contract::orders::OrderCreated;
use crate::contract::payments::{AuthorizePayment, CapturePayment, RefundPayment, VoidPayment};
use crate::contract::{OrderId, topics};
use crate::ports::{ConfigError, ServicePorts};

/// The payments of all orders.
#[derive(Debug)]
pub struct Payments {
    store: Arc<dyn Store>,
    views: Arc<dyn ReadModel>,
    env: Environment,
    config: Config,
    outgoing: Outgoing,
    webhook_key: WebhookKey,
}

impl Payments {
    /// Names this service in envelopes.
    pub const SOURCE: &'static str = "/amarra/payments";

    /// Makes the service.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(
        ports: ServicePorts,
        provider: Arc<dyn PaymentProvider>,
        config: Config,
    ) -> Result<Arc<Self>, ConfigError> {
        config.validate()?;
        let ServicePorts { store, views, env } = ports;
        let outgoing = Outgoing::new(provider, &env, &config)?;
        let webhook_key = WebhookKey::new(&config.webhook_secret);
        Ok(Arc::new(Self { store, views, env, config, outgoing, webhook_key }))
    }

    /// Returns the guards of this service's calls, to be looked at.
    #[must_use]
    pub fn guards(&self) -> Vec<Arc<Guard>> {
        vec![Arc::clone(self.outgoing.guard())]
    }

    /// Returns the payment of an order.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`] without a role of the staff, `NotFound` when there is none.
    pub async fn payment(
        &self,
        caller: &Caller,
        order_id: OrderId,
    ) -> Result<PaymentView, ApiError> {
        if !caller.principal.has(Role::Support) {
            caller.principal.require(Role::PaymentsAdmin)?;
        }
        let row = self.views.get(view::PAYMENTS, &order_id.to_string()).await?;
        let row = row.ok_or(ApiError::NotFound)?;
        serde_json::from_slice(&row.body).map_err(|e| ApiError::Internal(e.to_string()))
    }

    /// Returns journal entries after entry `after`, by id.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`] without the role.
    pub async fn journal(
        &self,
        caller: &Caller,
        after: Option<Arc<str>>,
        limit: usize,
    ) -> Result<JournalPage, ApiError> {
        if !caller.principal.has(Role::Auditor) {
            caller.principal.require(Role::PaymentsAdmin)?;
        }
        let query = PageQuery {
            view: view::JOURNAL.into(),
            prefix: "".into(),
            after,
            limit: limit.clamp(1, self.config.journal_page_max),
        };
        let page = self.views.page(&query).await?;
        let entries = page.rows.iter().map(|row| serde_json::from_slice(&row.body));
        let entries = entries.collect::<Result<_, _>>();
        let entries = entries.map_err(|e| ApiError::Internal(e.to_string()))?;
        Ok(JournalPage { entries, next: page.next })
    }

    /// Takes note of what the provider tells on its own: before, after or instead of its answer, in
    /// any order, and any number of times.
    ///
    /// # Errors
    /// [`ApiError::TooLarge`]; `Unauthenticated` for a bad signature or one outside the window;
    /// `BadRequest` for a body that is no event; `Unprocessable` for one that contradicts what is
    /// known.
    pub async fn ingest_webhook(
        &self,
        webhook: &SignedWebhook,
    ) -> Result<WebhookReceipt, ApiError> {
        let bound_bytes = self.config.webhook_bytes_max;
        if webhook.body.len() > bound_bytes {
            return Err(ApiError::TooLarge { bound_bytes });
        }
        let now = self.store.begin().await?.now();
        let believed = self.webhook_key.verify(webhook, now, self.config.webhook_window);
        believed.map_err(|e| {
            ApiError::Unauthenticated(match e {
                BadSignature::OutsideWindow => "webhook signature outside the replay window",
                BadSignature::Malformed | BadSignature::Mismatch => "webhook signature",
            })
        })?;
        let event: WebhookEvent = serde_json::from_slice(&webhook.body)
            .map_err(|_| ApiError::BadRequest("body is not a webhook event".to_owned()))?;
        let actor = Actor::Service("payment-provider".into());
        let cause = self.cause_of(event.operation.order_id, actor);
        let attempts = Attempts { idempotent: true, ..self.config.attempts };
        let command = Ingest { event: &event, config: &self.config };
        execute(self.store.as_ref(), &self.env, Self::SOURCE, (&cause, attempts), &command).await
    }

    /// Returns the consumer groups.
    #[must_use]
    pub fn handlers(self: &Arc<Self>) -> Vec<Arc<dyn Handler>> {
        vec![Arc::new(Orders {
            payments: Arc::clone(self),
            group: Group::from("payments"),
            topics: vec![Topic::from(topics::ORDERS), Topic::from(topics::PAYMENTS_COMMANDS)],
            codec: Codec::new(),
        })]
    }

    /// Returns the durable timers.
    #[must_use]
    pub fn due_handlers(self: &Arc<Self>) -> Vec<Arc<dyn DueHandler>> {
        vec![Arc::new(Calls(Arc::clone(self)))]
    }

    fn cause_of(&self, order_id: OrderId, actor: Actor) -> Cause {
        Cause {
            correlation: order_id.as_uuid().into(),
            causation: None,
            actor,
            traceparent: TraceParent::root(self.env.entropy.as_ref()),
        }
    }

    /// Reads a payment whose timer is due, in a unit of its own that changes nothing.
    async fn read(&self, claim: &Claim) -> Result<Option<Payment>, TxError> {
        let ids = std::slice::from_ref(&claim.id);
        let (_, stored) = self.store.begin_claimed(claim, ids).await?;
        let body = stored.first().map(|stored| stored.body.clone()).unwrap_or_default();
        if body.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|e| TxError::Corrupt { what: claim.id.to_string(), why: e.to_string() })
    }
}

/// Opens records and takes the commands of Orders.
#[derive(Debug)]
struct Orders {
    payments: Arc<Payments>,
    group: Group,
    topics: Vec<Topic>,
    codec: Codec,
}

impl Orders {
    fn command(&self, envelope: &Envelope) -> Result<Option<PaymentCommand>, HandlerError> {
        Ok(Some(match envelope.kind.as_ref() {
            AuthorizePayment::KIND => PaymentCommand::Authorize(self.codec.decode(envelope)?),
            CapturePayment::KIND => PaymentCommand::Capture(self.codec.decode(envelope)?),
            VoidPayment::KIND => PaymentCommand::Void(self.codec.decode(envelope)?),
            RefundPayment::KIND => PaymentCommand::Refund(self.codec.decode(envelope)?),
            _ => return Ok(None),
        }))
    }
}

#[async_trait]
impl Handler for Orders {
    fn group(&self) -> &Group {
        &self.group
    }

    fn topics(&self) -> &[Topic] {
        &self.topics
    }

    fn touches(&self, message: &Incoming) -> Vec<AggregateId> {
        match message.envelope.kind.as_ref() {
            OrderCreated::KIND
            | AuthorizePayment::KIND
            | CapturePayment::KIND
            | VoidPayment::KIND
            | RefundPayment::KIND => {
                vec![Payment::aggregate_id(message.envelope.partition_key.as_str())]
            }
            _ => Vec::new(),
        }
    }

    async fn handle(
        &self,
        session: &mut Session<'_>,
        message: &Incoming,
    ) -> Result<(), HandlerError> {
        let (envelope, config) = (&message.envelope, &self.payments.config);
        if envelope.kind.as_ref() == OrderCreated::KIND {
            return commands::open(session, &self.codec.decode(envelope)?, config).await;
        }
        match self.command(envelope)? {
            Some(command) => commands::command(session, &command, config).await,
            None => Ok(()),
        }
    }
}

/// Asks the provider for what is due: reads in one unit, calls, and takes note in another.
#[derive(Debug)]
struct Calls(Arc<Payments>);

#[async_trait]
impl DueHandler for Calls {
    fn kind(&self) -> &str {
        Payment::KIND
    }

    async fn on_due(&self, claim: &Claim) -> Result<(), HandlerError> {
        let payments = self.0.as_ref();
        let actor = Actor::Timer("payments".into());
        let payment = payments.read(claim).await?;
        let next = payment.as_ref().and_then(|payment| Some((payment, payment.next_call()?)));
        let (heard, cause) = match next {
            Some((payment, (call, cause))) => {
                let heard = payments.outgoing.make(&payments.env, payment.order_id, &call).await;
                (heard, Cause { actor, ..cause.clone() })
            }
            None => {
                let correlation = payments.env.new_id::<uuid::Uuid>();
                (Heard::Nothing, payments.cause_of(correlation.into(), actor))
            }
        };
        let attempts = Attempts { idempotent: true, ..payments.config.attempts };
        let command = Hear { claim, heard: &heard, config: &payments.config };
        let (store, env) = (payments.store.as_ref(), &payments.env);
        match execute(store, env, Payments::SOURCE, (&cause, attempts), &command).await {
            Ok(()) | Err(Unheard::Superseded) => Ok(()),
            Err(Unheard::Failed(e)) => Err(e),
        }
    }
}
