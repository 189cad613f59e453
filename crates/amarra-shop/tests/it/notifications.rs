//! Notifications: what is told, in which order, how often, and to whom it is shown.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amarra_conformance::Harness;
use amarra_core::codec::Message;
use amarra_core::{Environment, Monotonic, Timestamp};
use amarra_memory::{ClientId, DatabaseConfig, Hooks, MemoryDatabase, MemoryStore};
use amarra_messaging::message::{Outgoing, Owner};
use amarra_resilience::breaker::Mode;
use amarra_shop::ServicePorts;
use amarra_shop::contract::api::{ApiError, Role};
use amarra_shop::contract::ids::{OrderId, QuoteId};
use amarra_shop::contract::money::{Currency, Money};
use amarra_shop::contract::notifications::{
    Channel, NotificationSent, NotificationSuppressed, Preferences,
};
use amarra_shop::contract::orders::{
    EndReason, OrderCancelRequested, OrderCancelled, OrderCompleted, OrderConfirmed, OrderCreated,
    OrderFulfilled, OrderRefunded, OrderRejected, Policy,
};
use amarra_shop::contract::topics;
use amarra_shop::notifications::{
    Config, Notification, Notifications, OutgoingNotification, SendError, Sender, Status,
};
use amarra_store::{DueQuery, HandlerError, Store};
use async_trait::async_trait;
use uuid::Uuid;

use crate::orders::bench::{act, caller, customer, deliver, foreign, line, user};

/// When operators decide; breakers told so do not look at it.
const NOW: Monotonic = Monotonic::from_nanos(0);

/// A provider that deduplicates by key and fails as the test says.
#[derive(Debug, Default)]
struct Provider {
    failures: Mutex<Vec<SendError>>,
    tries: Mutex<Vec<OutgoingNotification>>,
    told: Mutex<Vec<String>>,
    down: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Sender for Provider {
    async fn send(&self, message: &OutgoingNotification) -> Result<(), SendError> {
        self.tries.lock().unwrap().push(message.clone());
        if self.down.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(SendError::Unavailable { why: "down".to_owned() });
        }
        let failure = self.failures.lock().unwrap().pop();
        // Without an answer it was taken all the same: the worst case for a resend.
        let taken = matches!(failure, None | Some(SendError::NoAnswer));
        let mut told = self.told.lock().unwrap();
        if taken && !told.contains(&message.dedupe_key) {
            told.push(message.dedupe_key.clone());
        }
        failure.map_or(Ok(()), Err)
    }
}

struct Bench {
    harness: Harness,
    db: MemoryDatabase,
    store: Arc<MemoryStore>,
    env: Environment,
    provider: Arc<Provider>,
    service: Arc<Notifications>,
    seen: Cell<u64>,
}

fn order() -> OrderId {
    OrderId::from(Uuid::from_u128(42))
}

impl Bench {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let harness = Harness::new(2);
        let env = harness.environment("notifications");
        let db = MemoryDatabase::new(
            "notifications",
            DatabaseConfig::default(),
            harness.environment("notifications-db"),
            Hooks::default(),
        )
        .unwrap();
        let store = Arc::new(db.connect(ClientId::new("notifications-1", 1)));
        let ports = ServicePorts { store: store.clone(), views: store.clone(), env: env.clone() };
        let provider = Arc::new(Provider::default());
        let service = Notifications::new(ports, provider.clone(), config).unwrap();
        Self { harness, db, store, env, provider, service, seen: Cell::new(0) }
    }

    fn run<F: Future>(&self, f: F) -> F::Output {
        self.harness.block_on(f)
    }

    fn hear<M: Message>(&self, message: &M) -> Result<(), HandlerError> {
        let handler = self.service.handlers().remove(0);
        let envelope = foreign(&self.env, order(), message);
        self.run(deliver(self.store.as_ref(), &self.env, handler.as_ref(), &envelope))
    }

    fn pass(&self, d: Duration) -> usize {
        self.harness.clock().advance(d);
        let worker = self.service.due_handlers().remove(0);
        self.run(act(self.store.as_ref(), worker.as_ref()))
    }

    /// Acts until nothing is due.
    fn drain(&self) {
        while self.pass(Duration::ZERO) > 0 {}
    }

    fn told(&self) -> Vec<String> {
        let told = self.provider.told.lock().unwrap();
        told.iter().map(|key| key.split_once(':').unwrap().1.to_owned()).collect()
    }

    fn fresh(&self) -> Vec<Outgoing> {
        let mut rows: Vec<_> =
            self.db.inspect(|db| db.outbox().map(|row| (row.seq.0, row.message.clone())).collect());
        rows.retain(|(seq, _)| *seq > self.seen.get());
        rows.sort_by_key(|(seq, _)| *seq);
        self.seen.set(rows.last().map_or(self.seen.get(), |(seq, _)| *seq));
        rows.into_iter().map(|(_, message)| message).collect()
    }

    fn suppressed(&self) -> Vec<(String, Channel, String)> {
        let fresh = self.fresh();
        let of_kind = fresh.iter().filter(|m| &*m.envelope.kind == NotificationSuppressed::KIND);
        let codec = amarra_core::Codec::new();
        of_kind
            .map(|m| codec.decode::<NotificationSuppressed>(&m.envelope).unwrap())
            .map(|m| (m.state, m.channel, m.reason))
            .collect()
    }

    fn notification(&self, state: &str) -> Notification {
        let id =
            amarra_core::AggregateId::new("notification", format!("{}:{state}:email", order()));
        self.db.inspect(|db| serde_json::from_slice(&db.aggregate(&id).unwrap().body).unwrap())
    }

    fn timers(&self) -> usize {
        self.db.inspect(|db| db.timers().count())
    }
}

fn created() -> OrderCreated {
    OrderCreated {
        order_id: order(),
        user_id: user(1),
        lines: vec![line("A", 250, 2), line("B", 100, 1)],
        total: Money::new(600, Currency::EUR),
        quote_id: QuoteId::from(Uuid::from_u128(1)),
        payment_token: "tok_secret".to_owned(),
        policy: Policy { reserve_ttl: Duration::from_secs(1), deadline: Duration::from_secs(1) },
        placed_at: Timestamp::EPOCH,
        request: String::new(),
    }
}

fn confirmed() -> OrderConfirmed {
    let total = Money::new(600, Currency::EUR);
    OrderConfirmed { order_id: order(), user_id: user(1), total }
}

fn cancelled() -> OrderCancelled {
    OrderCancelled { order_id: order(), user_id: user(1), reason: EndReason::Cancelled }
}

#[test]
fn each_state_is_told_once_on_each_wanted_channel_and_suppressed_on_the_others() {
    let bench = Bench::new();
    let (order_id, user_id) = (order(), user(1));
    let amount = Money::new(600, Currency::EUR);
    let reason = EndReason::Shortage;
    let tracking = "T-1".to_owned();
    bench.hear(&created()).unwrap();
    bench.hear(&confirmed()).unwrap();
    bench.hear(&OrderFulfilled { order_id, user_id, tracking }).unwrap();
    bench.hear(&OrderCompleted { order_id, user_id }).unwrap();
    bench.drain();
    let states = ["OrderCreated", "OrderConfirmed", "OrderFulfilled", "OrderCompleted"];
    let email: Vec<_> = states.iter().map(|state| format!("{state}:email")).collect();
    assert_eq!(bench.told(), email);
    let fresh = bench.fresh();
    let count = |kind: &str| fresh.iter().filter(|m| &*m.envelope.kind == kind).count();
    assert_eq!((count(NotificationSent::KIND), count(NotificationSuppressed::KIND)), (4, 8));
    assert!(fresh.iter().all(|m| m.topic.as_str() == topics::NOTIFICATIONS));
    assert_eq!(bench.timers(), 0);

    for bench in [Bench::new(), Bench::new()] {
        bench.hear(&OrderRejected { order_id, user_id, reason }).unwrap();
        bench.hear(&OrderRefunded { order_id, user_id, amount }).unwrap();
        bench.drain();
        assert_eq!(bench.told(), ["OrderRefunded:email"], "the rejection is stale by then");
    }
    let bench = Bench::new();
    bench.hear(&OrderRejected { order_id, user_id, reason }).unwrap();
    bench.drain();
    assert_eq!(bench.told(), ["OrderRejected:email"]);
}

#[test]
fn preferences_decide_at_the_time_of_the_event() {
    let bench = Bench::new();
    bench.hear(&created()).unwrap();
    let wants = Preferences { email: false, sms: true, push: true };
    let set = bench.run(bench.service.set_preferences(&customer(), wants.clone())).unwrap();
    assert_eq!(set, wants);
    assert_eq!(bench.run(bench.service.preferences(&customer())), Ok(wants));
    let others = bench.run(bench.service.preferences(&caller(2, &[Role::Customer])));
    assert_eq!(others, Ok(Preferences::default()));
    bench.suppressed();
    bench.hear(&confirmed()).unwrap();
    let preference = "preference".to_owned();
    let expect = vec![("OrderConfirmed".to_owned(), Channel::Email, preference)];
    assert_eq!(bench.suppressed(), expect);
    bench.drain();
    let told: BTreeSet<_> = bench.told().into_iter().collect();
    let expect = ["OrderConfirmed:push", "OrderConfirmed:sms", "OrderCreated:email"];
    assert_eq!(told.iter().map(String::as_str).collect::<Vec<_>>(), expect);
}

#[test]
fn an_event_that_comes_again_is_told_once() {
    let bench = Bench::new();
    bench.hear(&created()).unwrap();
    let rows = bench.db.inspect(|db| db.audit().len());
    bench.hear(&created()).unwrap();
    assert_eq!(bench.db.inspect(|db| db.audit().len()), rows);
    bench.drain();
    bench.hear(&created()).unwrap();
    bench.drain();
    assert_eq!(bench.provider.tries.lock().unwrap().len(), 1);
}

#[test]
fn what_nobody_is_told_of_passes_and_what_is_broken_does_not() {
    let bench = Bench::new();
    let reason = String::new();
    bench.hear(&OrderCancelRequested { order_id: order(), user_id: user(1), reason }).unwrap();
    assert_eq!(bench.db.inspect(|db| db.aggregates("notification").count()), 0);
    let handler = bench.service.handlers().remove(0);
    let mut envelope = foreign(&bench.env, order(), &confirmed());
    envelope.data = bytes::Bytes::from_static(b"{}");
    let broken = bench.run(deliver(bench.store.as_ref(), &bench.env, handler.as_ref(), &envelope));
    assert!(matches!(broken, Err(HandlerError::Codec(_))), "{broken:?}");
}

#[test]
fn a_message_that_comes_after_the_end_is_stale() {
    let bench = Bench::new();
    bench.hear(&cancelled()).unwrap();
    bench.suppressed();
    bench.hear(&confirmed()).unwrap();
    let suppressed = bench.suppressed();
    assert_eq!(suppressed.len(), 3);
    assert!(suppressed.iter().all(|(state, _, why)| state == "OrderConfirmed" && why == "stale"));
    bench.drain();
    assert_eq!(bench.told(), ["OrderCancelled:email"]);
}

#[test]
fn what_still_waits_when_the_order_is_undone_is_stale() {
    let bench = Bench::new();
    bench.hear(&created()).unwrap();
    bench.hear(&confirmed()).unwrap();
    bench.hear(&cancelled()).unwrap();
    bench.fresh();
    bench.drain();
    assert_eq!(bench.told(), ["OrderCancelled:email"]);
    let stale = |state: &str| (state.to_owned(), Channel::Email, "stale".to_owned());
    assert_eq!(bench.suppressed(), [stale("OrderCreated"), stale("OrderConfirmed")]);
}

#[test]
fn messages_of_one_order_wait_for_each_other() {
    let bench = Bench::new();
    *bench.provider.failures.lock().unwrap() =
        vec![SendError::Unavailable { why: "down".to_owned() }];
    bench.hear(&created()).unwrap();
    bench.hear(&confirmed()).unwrap();
    assert_eq!(bench.pass(Duration::ZERO), 1, "two of one order are due at once");
    assert_eq!(bench.pass(Duration::ZERO), 0, "the second did not wait for the first");
    assert_eq!(bench.notification("OrderCreated").status, Status::Failed);
    bench.pass(Duration::from_secs(2));
    bench.drain();
    assert_eq!(bench.told(), ["OrderCreated:email", "OrderConfirmed:email"]);
    assert_eq!(bench.timers(), 0);
}

/// SND-1.
#[test]
fn a_lost_answer_is_sent_again_under_the_same_key() {
    let bench = Bench::new();
    *bench.provider.failures.lock().unwrap() = vec![SendError::NoAnswer];
    bench.hear(&created()).unwrap();
    bench.drain();
    assert!(bench.notification("OrderCreated").in_doubt);
    // Not even the end of the order makes it stale: the user may have been told.
    bench.hear(&cancelled()).unwrap();
    bench.pass(Duration::from_secs(2));
    bench.drain();
    let tries = bench.provider.tries.lock().unwrap();
    assert_eq!(tries.len(), 3);
    assert_eq!(tries[0].dedupe_key, tries[1].dedupe_key);
    drop(tries);
    assert_eq!(bench.told(), ["OrderCreated:email", "OrderCancelled:email"]);
}

#[test]
fn tries_are_bounded_and_apart_and_the_staff_can_send_again() {
    let bench = Bench::with(Config { attempts_max: 3, ..Config::default() });
    let refusal = || SendError::Unavailable { why: "down".to_owned() };
    *bench.provider.failures.lock().unwrap() = vec![refusal(), refusal(), refusal()];
    bench.hear(&created()).unwrap();
    bench.hear(&confirmed()).unwrap();
    bench.drain();
    assert_eq!(bench.pass(Duration::from_millis(499)), 0, "no wait between two tries");
    bench.pass(Duration::from_secs(2));
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.notification("OrderCreated").status, Status::DeadLettered);
    bench.drain();
    assert_eq!(bench.told(), ["OrderConfirmed:email"], "a dead letter holds the others up");
    assert_eq!(bench.timers(), 0);

    let resend = |who: &[Role]| {
        let who = caller(9, who);
        bench.run(bench.service.resend(&who, order(), "OrderCreated", Channel::Email))
    };
    assert_eq!(resend(&[Role::Customer]).unwrap_err(), ApiError::Forbidden);
    assert_eq!(resend(&[Role::Support]).unwrap().status, "queued");
    assert!(matches!(resend(&[Role::Support]), Err(ApiError::Conflict(_))));
    bench.drain();
    assert_eq!(bench.told(), ["OrderConfirmed:email", "OrderCreated:email:1"]);
    assert_eq!(bench.notification("OrderCreated").status, Status::Sent);
}

#[test]
fn what_the_provider_refuses_is_not_tried_again() {
    let bench = Bench::new();
    *bench.provider.failures.lock().unwrap() =
        vec![SendError::Refused { why: "no such address".to_owned() }];
    bench.hear(&created()).unwrap();
    bench.drain();
    assert_eq!(bench.notification("OrderCreated").status, Status::DeadLettered);
    assert_eq!(bench.timers(), 0);
}

#[test]
fn a_provider_that_is_down_is_spared_and_costs_no_attempts() {
    let mut config = Config { attempts_max: 4, ..Config::default() };
    config.breaker.calls_min = 2;
    config.breaker.open_wait = Duration::from_secs(600);
    config.breaker.open_wait_max = Duration::from_secs(600);
    config.breaker.window = amarra_resilience::breaker::Window::Count { calls: 2 };
    let bench = Bench::with(config);
    bench.provider.down.store(true, std::sync::atomic::Ordering::SeqCst);
    bench.hear(&created()).unwrap();
    let acted: usize = (0..20).map(|_| bench.pass(Duration::from_secs(15))).sum();
    assert!(acted <= 3, "looked {acted} times while the breaker said when to come back");
    let tries = bench.provider.tries.lock().unwrap().len();
    assert_eq!(tries, 2, "the breaker let {tries} tries through");
    assert_eq!(bench.notification("OrderCreated").attempts, 2);
    bench.provider.down.store(false, std::sync::atomic::Ordering::SeqCst);
    bench.pass(Duration::from_secs(1_200));
    bench.drain();
    assert_eq!(bench.told(), ["OrderCreated:email"]);
}

#[test]
fn no_message_reaches_a_provider_past_the_guards_of_its_channel() {
    let bench = Bench::new();
    let guards = bench.service.guards();
    let names: Vec<_> = guards.iter().map(|guard| guard.name().to_owned()).collect();
    assert_eq!(names, ["email", "sms", "push"]);
    let mode = |mode| guards.iter().for_each(|g| g.breaker().unwrap().set_mode(NOW, mode));
    mode(Mode::ForcedOpen);
    bench.hear(&created()).unwrap();
    bench.pass(Duration::from_secs(1));
    assert!(bench.provider.tries.lock().unwrap().is_empty());
    mode(Mode::Automatic);
    bench.pass(Duration::from_secs(1_200));
    bench.drain();
    assert_eq!(bench.told(), ["OrderCreated:email"]);
    let tries: u64 = guards.iter().map(|guard| guard.tries()).sum();
    assert_eq!(tries, u64::try_from(bench.provider.tries.lock().unwrap().len()).unwrap());
}

#[test]
fn a_worker_that_died_while_sending_is_taken_over_and_its_late_result_is_fenced() {
    let bench = Bench::new();
    bench.hear(&created()).unwrap();
    let worker = bench.service.due_handlers().remove(0);
    let claim = |owner: &str| {
        let query = DueQuery {
            kind: worker.kind().into(),
            owner: Owner::from(owner),
            lease: Duration::from_secs(10),
            limit: 9,
        };
        bench.run(bench.store.claim_due(&query)).unwrap()
    };
    let dead = claim("dead").remove(0);
    bench.harness.clock().advance(Duration::from_secs(11));
    let heir = claim("heir").remove(0);
    let fenced = bench.run(worker.on_due(&dead));
    assert!(fenced.is_err(), "a superseded claim was acted on");
    assert_eq!(bench.provider.tries.lock().unwrap().len(), 0);
    bench.run(worker.on_due(&heir)).unwrap();
    assert_eq!(bench.told(), ["OrderCreated:email"]);
}

/// A provider that takes so long that somebody else takes the claim over meanwhile.
#[derive(Debug)]
struct Slow {
    store: Mutex<Option<Arc<MemoryStore>>>,
    harness: Arc<amarra_conformance::ManualClock>,
}

#[async_trait]
impl Sender for Slow {
    async fn send(&self, _: &OutgoingNotification) -> Result<(), SendError> {
        let store = self.store.lock().unwrap().take().unwrap();
        self.harness.advance(Duration::from_secs(11));
        let query = DueQuery {
            kind: "notification".into(),
            owner: Owner::from("heir"),
            lease: Duration::from_secs(10),
            limit: 9,
        };
        assert_eq!(store.claim_due(&query).await.unwrap().len(), 1);
        Ok(())
    }
}

#[test]
fn a_result_that_comes_after_a_takeover_is_fenced() {
    let bench = Bench::new();
    bench.hear(&created()).unwrap();
    let store = Mutex::new(Some(bench.store.clone()));
    let slow = Arc::new(Slow { store, harness: bench.harness.clock() });
    let ports = ServicePorts {
        store: bench.store.clone(),
        views: bench.store.clone(),
        env: bench.env.clone(),
    };
    let config = Config { send_timeout: Duration::from_secs(60), ..Config::default() };
    let service = Notifications::new(ports, slow, config).unwrap();
    let worker = service.due_handlers().remove(0);
    let query = DueQuery {
        kind: worker.kind().into(),
        owner: Owner::from("slow"),
        lease: Duration::from_secs(10),
        limit: 9,
    };
    let claim = bench.run(bench.store.claim_due(&query)).unwrap().remove(0);
    let late = bench.run(worker.on_due(&claim));
    let fenced = amarra_store::TxError::Fenced { what: String::new(), held: 0 };
    let is_fenced = |e: &HandlerError| match e {
        HandlerError::Tx(e) => std::mem::discriminant(e) == std::mem::discriminant(&fenced),
        _ => false,
    };
    assert!(late.as_ref().is_err_and(is_fenced), "{late:?}");
    assert_eq!(bench.notification("OrderCreated").status, Status::Sending);
}

#[test]
fn a_batch_locks_what_it_will_change_first() {
    let bench = Bench::new();
    let handler = bench.service.handlers().remove(0);
    let envelope = foreign(&bench.env, order(), &confirmed());
    let touched = handler.touches(&crate::orders::bench::incoming(&envelope));
    let names: BTreeSet<_> = touched.iter().map(ToString::to_string).collect();
    let (order, user) = (order(), user(1));
    for name in [
        format!("notification/{order}:OrderConfirmed:email"),
        format!("notification/{order}:OrderConfirmed:sms"),
        format!("notification/{order}:OrderConfirmed:push"),
        format!("notified/{order}"),
        format!("preference/{user}"),
    ] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
}

#[test]
fn deliveries_are_seen_by_the_orders_owner_and_support_only() {
    let bench = Bench::new();
    bench.hear(&created()).unwrap();
    bench.drain();
    for who in [customer(), caller(9, &[Role::Support])] {
        let seen = bench.run(bench.service.by_order(&who, order())).unwrap();
        let email = seen.iter().find(|n| n.channel == Channel::Email).unwrap();
        assert_eq!((seen.len(), email.status.as_str()), (3, "sent"));
    }
    let stranger = caller(9, &[Role::Customer, Role::CatalogAdmin]);
    let refused = bench.run(bench.service.by_order(&stranger, order()));
    assert_eq!(refused, Err(ApiError::NotFound));
}

#[test]
fn texts_come_from_the_event_and_hold_no_secret() {
    let bench = Bench::new();
    bench.hear(&created()).unwrap();
    bench.drain();
    let tries = bench.provider.tries.lock().unwrap();
    let (text, key) = (tries[0].text.clone(), tries[0].dedupe_key.clone());
    assert!(text.contains("3 item(s)") && text.contains(&order().to_string()), "{text}");
    assert!(!text.contains("tok_secret"));
    assert_eq!(key, format!("{}:OrderCreated:email", order()));
    assert_eq!(tries[0].user_id, user(1));
}
