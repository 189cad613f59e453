//! The service, a scripted provider, and the means to talk to both.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use amarra_core::Clock;
use amarra_core::codec::Message;
use amarra_messaging::{Admit, Incoming};
use amarra_shop::contract::orders::{OrderCreated, Policy};
use amarra_shop::contract::payments::{
    AuthorizePayment, CapturePayment, PaymentAuthorized, PaymentFailed, PaymentSucceeded,
    PaymentVoided, RefundCompleted, RefundFailed, RefundPayment, VoidPayment,
};
use amarra_shop::contract::users::Secret;
use amarra_shop::contract::{ApiError, Currency, Money, OrderId, topics};
use amarra_shop::payments::provider_port::{
    AuthorizeRequest, CaptureRequest, Operation, RefundRequest, VoidRequest, WebhookEvent,
};
use amarra_shop::payments::{
    Config, JournalEntry, Payment, PaymentProvider, PaymentStatus, Payments, ProviderAnswer,
    ProviderError, SignedWebhook, WebhookKey, WebhookReceipt,
};
use amarra_shop::provider::{Provider, ProviderRequest, ProviderResponse, Truth};
use amarra_store::{DueHandler, Handler, HandlerError};
use async_trait::async_trait;

use crate::single::{HandClock, Single, block_on};

pub(crate) const SECRET: &str = "0123456789abcdef";

/// What the provider does with one request; it answers once the script is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Does it and answers.
    Answer,
    /// Does it, and answers after everybody else had a turn.
    AnswerLate,
    /// Does it; the answer is lost.
    LoseAnswer,
    /// Neither does it nor answers.
    LoseRequest,
    /// Answers never, and does it when [`ScriptedProvider::arrive`] is called.
    Delay,
    /// Turns it away.
    TurnAway,
}

#[derive(Debug)]
pub(crate) struct ScriptedProvider {
    ledger: Mutex<Provider>,
    script: Mutex<VecDeque<Plan>>,
    delayed: Mutex<Vec<ProviderRequest>>,
    /// Every request that was sent, in short.
    log: Mutex<Vec<String>>,
    clock: Arc<HandClock>,
}

impl ScriptedProvider {
    async fn ask(
        &self,
        request: ProviderRequest,
        name: &str,
    ) -> Result<ProviderResponse, ProviderError> {
        self.log.lock().unwrap().push(name.to_owned());
        let plan = self.script.lock().unwrap().pop_front().unwrap_or(Plan::Answer);
        match plan {
            Plan::Answer => return Ok(self.serve(&request)),
            Plan::AnswerLate => {
                let answer = self.serve(&request);
                let mut turns = 20;
                std::future::poll_fn(|context| {
                    turns -= 1;
                    context.waker().wake_by_ref();
                    if turns == 0 { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                return Ok(answer);
            }
            Plan::TurnAway => return Err(ProviderError::Transient { why: "outage".into() }),
            Plan::LoseAnswer => drop(self.serve(&request)),
            Plan::LoseRequest => {}
            Plan::Delay => self.delayed.lock().unwrap().push(request),
        }
        std::future::pending().await
    }

    fn serve(&self, request: &ProviderRequest) -> ProviderResponse {
        self.ledger.lock().unwrap().serve(request, self.clock.now())
    }

    /// Has every delayed request arrive.
    pub(crate) fn arrive(&self) {
        for request in std::mem::take(&mut *self.delayed.lock().unwrap()) {
            self.serve(&request);
        }
    }

    pub(crate) fn truth(&self, order_id: OrderId) -> Truth {
        self.ledger.lock().unwrap().truth(order_id, self.clock.now())
    }

    pub(crate) fn webhooks(&self) -> Vec<WebhookEvent> {
        self.ledger.lock().unwrap().pending_webhooks(100)
    }

    /// Returns what was asked for since the last call of this.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

#[async_trait]
impl PaymentProvider for ScriptedProvider {
    async fn authorize(&self, request: &AuthorizeRequest) -> Result<ProviderAnswer, ProviderError> {
        let request = ProviderRequest::Authorize(request.clone());
        self.ask(request, "authorize").await?.into_answer()
    }

    async fn capture(&self, request: &CaptureRequest) -> Result<ProviderAnswer, ProviderError> {
        let request = ProviderRequest::Capture(request.clone());
        self.ask(request, "capture").await?.into_answer()
    }

    async fn void(&self, request: &VoidRequest) -> Result<ProviderAnswer, ProviderError> {
        let request = ProviderRequest::Void(request.clone());
        self.ask(request, "void").await?.into_answer()
    }

    async fn refund(&self, request: &RefundRequest) -> Result<ProviderAnswer, ProviderError> {
        let request = ProviderRequest::Refund(request.clone());
        self.ask(request, "refund").await?.into_answer()
    }

    async fn status(&self, order_id: OrderId) -> Result<Vec<Operation>, ProviderError> {
        self.ask(ProviderRequest::Status(order_id), "status").await?.into_operations()
    }
}

pub(crate) struct Bench {
    pub(crate) single: Single,
    pub(crate) provider: Arc<ScriptedProvider>,
    pub(crate) payments: Arc<Payments>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) due: Arc<dyn DueHandler>,
    pub(crate) order: OrderId,
}

pub(crate) fn euro(minor: i64) -> Money {
    Money::new(minor, Currency::EUR)
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Config::new(Secret::new(SECRET)))
    }

    pub(crate) fn with(config: Config) -> Self {
        let single = Single::new(Payments::SOURCE);
        let provider = Arc::new(ScriptedProvider {
            ledger: Mutex::new(Provider::new(amarra_shop::provider::Config::default()).unwrap()),
            script: Mutex::default(),
            delayed: Mutex::default(),
            log: Mutex::default(),
            clock: single.clock.clone(),
        });
        let payments = Payments::new(single.ports(), provider.clone(), config).unwrap();
        let (handler, due) = (payments.handlers().remove(0), payments.due_handlers().remove(0));
        let order = single.new_order();
        Self { single, provider, payments, handler, due, order }
    }

    pub(crate) fn script(&self, plans: &[Plan]) {
        *self.provider.script.lock().unwrap() = plans.iter().copied().collect();
    }

    pub(crate) fn command<M: Message>(&self, message: &M) -> Incoming {
        self.single.message(topics::PAYMENTS_COMMANDS, self.order, message)
    }

    pub(crate) fn hear(&self, message: &Incoming) -> Result<Admit, HandlerError> {
        block_on(self.single.deliver(self.handler.as_ref(), message))
    }

    pub(crate) fn created(&self, total: Money) -> Incoming {
        let message = OrderCreated {
            order_id: self.order,
            user_id: self.single.env.new_id(),
            lines: Vec::new(),
            total,
            quote_id: self.single.env.new_id(),
            payment_token: "tok_ok".into(),
            policy: Policy { reserve_ttl: Duration::ZERO, deadline: Duration::ZERO },
            placed_at: self.single.env.now(),
            request: "reserve".into(),
        };
        self.single.message(topics::ORDERS, self.order, &message)
    }

    pub(crate) fn authorization(&self, request: &str, token: &str) -> Incoming {
        self.command(&AuthorizePayment {
            order_id: self.order,
            amount: euro(500),
            payment_token: token.to_owned(),
            request: request.to_owned(),
        })
    }

    pub(crate) fn authorize(&self, request: &str) {
        self.hear(&self.authorization(request, "tok_ok")).unwrap();
    }

    pub(crate) fn capture(&self, request: &str) {
        let (order_id, request) = (self.order, request.to_owned());
        let command = CapturePayment { order_id, amount: euro(500), request };
        self.hear(&self.command(&command)).unwrap();
    }

    pub(crate) fn voiding(&self, request: &str) -> Incoming {
        let (order_id, request) = (self.order, request.to_owned());
        self.command(&VoidPayment { order_id, request })
    }

    pub(crate) fn void(&self, request: &str) {
        self.hear(&self.voiding(request)).unwrap();
    }

    pub(crate) fn refund(&self, request: &str, minor: i64) {
        let (order_id, request) = (self.order, request.to_owned());
        let command = RefundPayment { order_id, amount: euro(minor), request };
        self.hear(&self.command(&command)).unwrap();
    }

    /// Acts on what is due at this moment.
    pub(crate) fn due(&self) {
        block_on(self.single.run_due(self.due.as_ref(), 1));
    }

    /// Lets time pass until no timer is left, or `rounds` times.
    pub(crate) fn rest(&self) {
        for _ in 0..60 {
            if self.single.timers() == 0 {
                return;
            }
            self.due();
            self.single.clock.advance(Duration::from_secs(1));
        }
        panic!("the payment never comes to rest: {:?}", self.payment());
    }

    pub(crate) fn payment(&self) -> Payment {
        self.single.state(&self.order.to_string()).unwrap()
    }

    pub(crate) fn status(&self) -> PaymentStatus {
        self.payment().status()
    }

    /// Returns everything told, in short and in order.
    pub(crate) fn told(&self) -> Vec<String> {
        let decode = amarra_core::Codec::new();
        let short = |e: &amarra_core::Envelope| match e.kind.as_ref() {
            PaymentAuthorized::KIND => {
                format!("authorized {}", decode.decode::<PaymentAuthorized>(e).unwrap().request)
            }
            PaymentSucceeded::KIND => {
                format!("succeeded {}", decode.decode::<PaymentSucceeded>(e).unwrap().request)
            }
            PaymentFailed::KIND => {
                let failed = decode.decode::<PaymentFailed>(e).unwrap();
                format!("failed {} {}", failed.request, failed.reason)
            }
            PaymentVoided::KIND => {
                format!("voided {}", decode.decode::<PaymentVoided>(e).unwrap().request)
            }
            RefundCompleted::KIND => {
                format!("refunded {}", decode.decode::<RefundCompleted>(e).unwrap().request)
            }
            RefundFailed::KIND => {
                format!("refund-failed {}", decode.decode::<RefundFailed>(e).unwrap().request)
            }
            other => other.to_owned(),
        };
        self.single.emitted().iter().map(short).collect()
    }

    pub(crate) fn sign(&self, event: &WebhookEvent) -> SignedWebhook {
        let body = serde_json::to_vec(event).unwrap().into();
        WebhookKey::new(&Secret::new(SECRET)).sign(body, self.single.env.now())
    }

    pub(crate) fn ingest(&self, event: &WebhookEvent) -> Result<WebhookReceipt, ApiError> {
        block_on(self.payments.ingest_webhook(&self.sign(event)))
    }

    /// Checks I6 and I7: the journal is balanced and says what the provider's ledger says.
    pub(crate) fn check(&self) {
        let (payment, truth) = (self.payment(), self.provider.truth(self.order));
        payment.check().unwrap();
        assert_eq!(
            (payment.authorized(), payment.captured(), payment.refunded()),
            (truth.authorized, truth.captured, truth.refunded)
        );
        let journal = self.single.states::<JournalEntry>();
        assert!(journal.iter().all(JournalEntry::is_balanced));
        let account = amarra_shop::payments::Account::PspClearing;
        let clearing: i64 = journal.iter().map(|entry| entry.effect_on(account)).sum();
        assert_eq!(clearing, truth.captured - truth.refunded);
    }
}
