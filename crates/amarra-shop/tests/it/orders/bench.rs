//! An order service on the in-memory database, whose neighbours are played by the test.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use amarra_conformance::Harness;
use amarra_core::codec::Message;
use amarra_core::{
    Actor, AggregateId, Codec, CorrelationId, Envelope, Environment, PartitionKey, Timestamp,
    TraceParent, Version,
};
use amarra_memory::{ClientId, DatabaseConfig, Hooks, MemoryDatabase, MemoryStore};
use amarra_messaging::message::{Offset, Outgoing, Owner, Partition};
use amarra_messaging::{Incoming, Topic};
use amarra_saga::instance::SagaLog;
use amarra_saga::{Request, SagaId, Sagas};
use amarra_shop::ServicePorts;
use amarra_shop::contract::api::{ApiError, Caller, Principal, Role};
use amarra_shop::contract::catalog::{Quote, SignedQuote};
use amarra_shop::contract::ids::{OrderId, QuoteId, UserId};
use amarra_shop::contract::money::{Currency, Money};
use amarra_shop::contract::orders::{Line, OrderStatus, PlaceOrder};
use amarra_shop::contract::topics;
use amarra_shop::orders::{Config, Order, Orders, QuoteCheck};
use amarra_store::{
    Aggregate, DueHandler, DueQuery, Handler, HandlerError, Session, Store, UnitOfWork,
};

/// Believes every quote: what Orders checks by itself must not rest on this.
#[derive(Debug)]
pub(crate) struct Gullible;

impl QuoteCheck for Gullible {
    fn check(&self, signed: &SignedQuote, _: UserId, _: Timestamp) -> Result<Quote, ApiError> {
        if signed.signature != "signed" {
            return Err(ApiError::Unprocessable("not signed".to_owned()));
        }
        serde_json::from_str(&signed.quote).map_err(|e| ApiError::BadRequest(e.to_string()))
    }
}

pub(crate) struct Bench {
    pub(crate) harness: Harness,
    pub(crate) db: MemoryDatabase,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) env: Environment,
    pub(crate) orders: Arc<Orders>,
    seen: Cell<u64>,
}

pub(crate) fn user(n: u128) -> UserId {
    UserId::from(uuid::Uuid::from_u128(n))
}

pub(crate) fn caller(n: u128, roles: &[Role]) -> Caller {
    let traceparent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01".parse().unwrap();
    Caller {
        principal: Principal { user_id: user(n), roles: roles.iter().copied().collect() },
        traceparent,
        idempotency_key: None,
    }
}

pub(crate) fn customer() -> Caller {
    caller(1, &[Role::Customer])
}

pub(crate) fn with_key(key: &str) -> Caller {
    Caller { idempotency_key: Some(key.into()), ..customer() }
}

pub(crate) fn line(sku: &str, price: i64, qty: u32) -> Line {
    let unit_price = Money::new(price, Currency::EUR);
    Line { sku: sku.parse().unwrap(), name: sku.to_owned(), unit_price, qty }
}

pub(crate) fn config() -> Config {
    Config { visible_wait: Duration::ZERO, ..Config::default() }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::faulty(config, Hooks::default())
    }

    pub(crate) fn faulty(config: Config, hooks: Hooks) -> Self {
        let harness = Harness::new(1);
        let env = harness.environment("orders");
        let db = MemoryDatabase::new(
            "orders",
            DatabaseConfig::default(),
            harness.environment("orders-db"),
            hooks,
        )
        .unwrap();
        let store = Arc::new(db.connect(ClientId::new("orders-1", 1)));
        let ports = ServicePorts { store: store.clone(), views: store.clone(), env: env.clone() };
        let orders = Orders::new(ports, Arc::new(Gullible), config).unwrap();
        Self { harness, db, store, env, orders, seen: Cell::new(0) }
    }

    pub(crate) fn quote(&self, lines: Vec<Line>) -> Quote {
        let sum = lines.iter().map(|l| l.unit_price.minor * i64::from(l.qty)).sum();
        Quote {
            quote_id: QuoteId::from(uuid::Uuid::from_u128(77)),
            user_id: user(1),
            total: Money::new(sum, Currency::EUR),
            lines,
            expires_at: self.env.now().plus(Duration::from_secs(3_600)),
        }
    }

    pub(crate) fn request(&self, quote: &Quote) -> PlaceOrder {
        let quote = serde_json::to_string(quote).unwrap();
        let (signature, kid) = ("signed".to_owned(), "k1".to_owned());
        PlaceOrder {
            quote: SignedQuote { quote, signature, kid },
            payment_token: "tok_visa".to_owned(),
        }
    }

    pub(crate) fn place_with(&self, key: &str) -> OrderId {
        let request = self.request(&self.quote(vec![line("A", 250, 2), line("B", 100, 1)]));
        self.run(self.orders.place(&with_key(key), request)).unwrap().order_id
    }

    /// Places an order and forgets what it published.
    pub(crate) fn place(&self) -> OrderId {
        let id = self.place_with("key-1");
        self.fresh();
        id
    }

    pub(crate) fn run<F: Future>(&self, f: F) -> F::Output {
        self.harness.block_on(f)
    }

    /// Returns what was enqueued since the last call, in order.
    pub(crate) fn fresh(&self) -> Vec<Outgoing> {
        let mut rows: Vec<_> =
            self.db.inspect(|db| db.outbox().map(|row| (row.seq.0, row.message.clone())).collect());
        rows.retain(|(seq, _)| *seq > self.seen.get());
        rows.sort_by_key(|(seq, _)| *seq);
        if let Some((last, _)) = rows.last() {
            self.seen.set(*last);
        }
        rows.into_iter().map(|(_, message)| message).collect()
    }

    /// Returns the types of what was enqueued since the last look.
    pub(crate) fn kinds(&self) -> Vec<String> {
        self.fresh().iter().map(|m| m.envelope.kind.to_string()).collect()
    }

    /// Returns the one message of type `M` enqueued since the last look.
    pub(crate) fn one<M: Message>(&self) -> M {
        let fresh = self.fresh();
        let found: Vec<_> = fresh.iter().filter(|m| *m.envelope.kind == *M::KIND).collect();
        assert_eq!(found.len(), 1, "not one {} in {:?}", M::KIND, kinds_of(&fresh));
        Codec::new().decode(&found[0].envelope).unwrap()
    }

    pub(crate) fn order(&self, id: OrderId) -> Order {
        self.find(id).expect("no such order")
    }

    pub(crate) fn find(&self, id: OrderId) -> Option<Order> {
        let id = Order::aggregate_id(&id.to_string());
        self.db.inspect(|db| {
            db.aggregate(&id).map(|stored| serde_json::from_slice(&stored.body).unwrap())
        })
    }

    pub(crate) fn status(&self, id: OrderId) -> OrderStatus {
        self.order(id).status
    }

    pub(crate) fn saga(&self, id: &str) -> amarra_saga::Status {
        let id = Sagas::aggregate_id(&SagaId::from(id));
        let log: SagaLog = self.db.inspect(|db| {
            serde_json::from_slice(&db.aggregate(&id).expect("no such saga").body).unwrap()
        });
        log.replay().status()
    }

    pub(crate) fn has_timer(&self, id: &str) -> bool {
        let id = Sagas::aggregate_id(&SagaId::from(id));
        self.db.inspect(|db| db.timers().any(|timer| *timer.id == id))
    }

    pub(crate) fn replies(&self) -> Arc<dyn Handler> {
        self.orders.handlers().remove(0)
    }

    pub(crate) fn projection(&self) -> Arc<dyn Handler> {
        self.orders.handlers().remove(1)
    }

    /// Lets the consumer of replies apply a message of another service.
    pub(crate) fn say<M: Message>(&self, order: OrderId, message: &M) -> Result<(), HandlerError> {
        self.deliver(&self.replies(), &foreign(&self.env, order, message))
    }

    pub(crate) fn deliver(
        &self,
        handler: &Arc<dyn Handler>,
        envelope: &Envelope,
    ) -> Result<(), HandlerError> {
        self.run(deliver(self.store.as_ref(), &self.env, handler.as_ref(), envelope))
    }

    /// Moves time and lets the workers act on what is due.
    pub(crate) fn pass(&self, d: Duration) -> usize {
        self.harness.clock().advance(d);
        self.act()
    }

    pub(crate) fn act(&self) -> usize {
        let workers = self.orders.due_handlers();
        workers.iter().map(|worker| self.run(act(self.store.as_ref(), worker.as_ref()))).sum()
    }
}

pub(crate) fn kinds_of(messages: &[Outgoing]) -> Vec<String> {
    messages.iter().map(|m| m.envelope.kind.to_string()).collect()
}

/// Claims what is due once and acts on it.
pub(crate) async fn act(store: &dyn Store, worker: &dyn DueHandler) -> usize {
    let query = DueQuery {
        kind: worker.kind().into(),
        owner: Owner::from("worker"),
        lease: Duration::from_secs(10),
        limit: 100,
    };
    let claims = store.claim_due(&query).await.unwrap();
    for claim in &claims {
        worker.on_due(claim).await.unwrap();
    }
    claims.len()
}

/// Wraps a message as another service would.
pub(crate) fn foreign<M: Message>(env: &Environment, order: OrderId, message: &M) -> Envelope {
    Envelope {
        id: env.new_id(),
        source: "/amarra/other".into(),
        kind: M::KIND.into(),
        schema_version: M::SCHEMA_VERSION,
        subject: AggregateId::new("other", order.to_string()),
        subject_version: Version::new(1),
        partition_key: PartitionKey::new(order.to_string()),
        correlation: CorrelationId::from(order.as_uuid()),
        causation: None,
        actor: Actor::Service("other".into()),
        traceparent: TraceParent::root(env.entropy.as_ref()),
        time: env.now(),
        data: Codec::encode(message).unwrap(),
    }
}

pub(crate) fn incoming(envelope: &Envelope) -> Incoming {
    Incoming {
        topic: Topic::from(topics::INVENTORY),
        partition: Partition(0),
        offset: Offset(0),
        envelope: envelope.clone(),
        position: None,
        turn: amarra_messaging::message::Turn::InOrder,
    }
}

/// Applies one message as the consumer runtime does: what it touches is locked first.
pub(crate) async fn deliver(
    store: &dyn Store,
    env: &Environment,
    handler: &dyn Handler,
    envelope: &Envelope,
) -> Result<(), HandlerError> {
    let message = incoming(envelope);
    let mut unit: Box<dyn UnitOfWork> = store.begin().await?;
    let touched: BTreeSet<_> = handler.touches(&message).into_iter().collect();
    unit.load(&touched.into_iter().collect::<Vec<_>>()).await?;
    {
        let mut session = Session::new(unit.as_mut(), env, "/amarra/test", envelope.as_cause());
        handler.handle(&mut session, &message).await?;
    }
    Ok(unit.commit().await?)
}

pub(crate) fn request_of(text: &str) -> Request {
    text.parse().unwrap()
}
