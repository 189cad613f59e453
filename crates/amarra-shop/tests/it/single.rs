//! One service alone with its in-memory database, a clock moved by hand, and messages made up.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use amarra_core::codec::Message;
use amarra_core::{
    Actor, AggregateId, Clock, Codec, Entropy, Envelope, Environment, Monotonic, PartitionKey,
    SeededEntropy, Timer, Timestamp, TraceParent, Version,
};
use amarra_memory::{
    ClientId, DatabaseConfig, Effect, Faults, Hooks, MemoryDatabase, MemoryStore, Operation, Site,
    Verdict,
};
use amarra_messaging::message::Owner;
use amarra_messaging::{Admit, Incoming, Offset, Partition, Topic};
use amarra_shop::ServicePorts;
use amarra_shop::contract::{Caller, OrderId, Principal, Role, UserId};
use amarra_store::{Aggregate, Claim, DueHandler, DueQuery, Handler, HandlerError, Session, Store};
use async_trait::async_trait;

/// Runs a future on this thread; it must not wait for anything but what it itself brings about.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..100_000 {
        if let Poll::Ready(out) = future.as_mut().poll(&mut context) {
            return out;
        }
    }
    panic!("the future never ends");
}

/// A clock that moves when it is told to, or when everybody waits for it.
#[derive(Debug, Default)]
pub(crate) struct HandClock(Mutex<Duration>);

impl HandClock {
    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000).plus(*self.0.lock().unwrap())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_nanos(0).plus(*self.0.lock().unwrap())
    }
}

#[async_trait]
impl Timer for HandClock {
    /// Lets everybody else go on a few times, and then takes the time there.
    async fn sleep_until(&self, at: Monotonic) {
        let mut patience = 50;
        std::future::poll_fn(|context| {
            if self.monotonic() >= at {
                return Poll::Ready(());
            }
            patience -= 1;
            if patience > 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.advance(at.since(self.monotonic()));
            Poll::Ready(())
        })
        .await;
    }
}

/// Goes wrong at the commits to come, one effect each, and then no more.
#[derive(Debug, Default)]
pub(crate) struct CommitFaults(Mutex<VecDeque<Effect>>);

impl CommitFaults {
    pub(crate) fn next(&self, effects: &[Effect]) {
        self.0.lock().unwrap().extend(effects);
    }
}

impl Faults for CommitFaults {
    fn at(&self, site: &Site<'_>) -> Verdict {
        match site.operation {
            Operation::Commit { .. } => {
                let effect = self.0.lock().unwrap().pop_front();
                Verdict::of(effect.unwrap_or(Effect::Proceed))
            }
            _ => Verdict::PROCEED,
        }
    }
}

/// The database of one service and the means to talk to the service.
#[derive(Debug)]
pub(crate) struct Single {
    pub(crate) db: MemoryDatabase,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) env: Environment,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) commits: Arc<CommitFaults>,
    source: &'static str,
}

impl Single {
    /// `source` is the service's own name in envelopes.
    pub(crate) fn new(source: &'static str) -> Self {
        let commits = Arc::new(CommitFaults::default());
        let hooks = Hooks::default().with_faults(commits.clone());
        let clock = Arc::new(HandClock::default());
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(7, source));
        let env = Environment { clock: clock.clone(), timer: clock.clone(), entropy };
        let config = DatabaseConfig::default();
        let db = MemoryDatabase::new("db", config, env.clone(), hooks).unwrap();
        let store = Arc::new(db.connect(ClientId::new("node", 1)));
        Self { db, store, env, clock, commits, source }
    }

    pub(crate) fn ports(&self) -> ServicePorts {
        ServicePorts { store: self.store.clone(), views: self.store.clone(), env: self.env.clone() }
    }

    pub(crate) fn new_order(&self) -> OrderId {
        self.env.new_id()
    }

    /// Makes a message as the relay would deliver it.
    pub(crate) fn message<M: Message>(
        &self,
        topic: &str,
        order_id: OrderId,
        message: &M,
    ) -> Incoming {
        let envelope = Envelope {
            id: self.env.new_id(),
            source: "/amarra/orders".into(),
            kind: M::KIND.into(),
            schema_version: M::SCHEMA_VERSION,
            subject: AggregateId::new("order", order_id.to_string()),
            subject_version: Version::new(1),
            partition_key: PartitionKey::new(order_id.to_string()),
            correlation: order_id.as_uuid().into(),
            causation: None,
            actor: Actor::Service("orders".into()),
            traceparent: TraceParent::root(self.env.entropy.as_ref()),
            time: self.env.now(),
            data: Codec::encode(message).unwrap(),
        };
        Incoming {
            topic: Topic::from(topic),
            partition: Partition(0),
            offset: Offset(0),
            envelope,
            position: None,
            turn: amarra_messaging::message::Turn::InOrder,
        }
    }

    /// Delivers a message as the consumer does: admits, locks, handles and commits in one unit, and
    /// again when it lost a race.
    pub(crate) async fn deliver(
        &self,
        handler: &dyn Handler,
        message: &Incoming,
    ) -> Result<Admit, HandlerError> {
        for _ in 0..5 {
            match self.deliver_once(handler, message).await {
                Err(HandlerError::Tx(e))
                    if amarra_core::Classify::class(&e).is_retryable_with_key() => {}
                other => return other,
            }
        }
        panic!("five conflicts in a row");
    }

    async fn deliver_once(
        &self,
        handler: &dyn Handler,
        message: &Incoming,
    ) -> Result<Admit, HandlerError> {
        let mut unit = self.store.begin().await?;
        let admit = unit.admit(handler.group(), message).await?;
        if admit == Admit::Fresh {
            unit.load(&handler.touches(message)).await?;
            let cause = message.envelope.as_cause();
            let mut session = Session::new(unit.as_mut(), &self.env, self.source, cause);
            handler.handle(&mut session, message).await?;
        }
        unit.commit().await?;
        Ok(admit)
    }

    /// Claims what is due now.
    pub(crate) async fn claim(&self, handler: &dyn DueHandler, owner: &str) -> Vec<Claim> {
        let query = DueQuery {
            kind: handler.kind().into(),
            owner: Owner::from(owner),
            lease: Duration::from_secs(30),
            limit: 100,
        };
        self.store.claim_due(&query).await.unwrap()
    }

    /// Acts on what is due now, and what comes due by that, at most `rounds` times.
    pub(crate) async fn run_due(&self, handler: &dyn DueHandler, rounds: usize) {
        for _ in 0..rounds {
            for claim in self.claim(handler, "worker").await {
                handler.on_due(&claim).await.unwrap();
            }
        }
    }

    pub(crate) fn state<A: Aggregate>(&self, id: &str) -> Option<A> {
        let id = A::aggregate_id(id);
        self.db.inspect(|i| i.aggregate(&id).map(|s| serde_json::from_slice(&s.body).unwrap()))
    }

    pub(crate) fn states<A: Aggregate>(&self) -> Vec<A> {
        self.db.inspect(|i| {
            let states = i.aggregates(A::KIND);
            states.map(|(_, s)| serde_json::from_slice(&s.body).unwrap()).collect()
        })
    }

    /// Returns how many timers are set.
    pub(crate) fn timers(&self) -> usize {
        self.db.inspect(|i| i.timers().count())
    }

    /// Returns everything emitted, in order.
    pub(crate) fn emitted(&self) -> Vec<Envelope> {
        let mut rows: Vec<_> = self
            .db
            .inspect(|i| i.outbox().map(|row| (row.seq, row.message.envelope.clone())).collect());
        rows.sort_by_key(|(seq, _)| *seq);
        rows.into_iter().map(|(_, envelope)| envelope).collect()
    }

    /// Returns every emitted message of one type, in order.
    pub(crate) fn told<M: Message>(&self) -> Vec<M> {
        let all = self.emitted().into_iter();
        let mine = all.filter(|envelope| envelope.kind.as_ref() == M::KIND);
        mine.map(|envelope| Codec::new().decode(&envelope).unwrap()).collect()
    }

    pub(crate) fn caller(&self, role: Role) -> Caller {
        let user_id: UserId = self.env.new_id();
        Caller {
            principal: Principal { user_id, roles: BTreeSet::from([role]) },
            traceparent: TraceParent::root(self.env.entropy.as_ref()),
            idempotency_key: None,
        }
    }
}
