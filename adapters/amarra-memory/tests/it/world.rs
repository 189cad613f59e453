//! What the tests share: a world of one database and one broker, scripted faults, a recorder.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use amarra_conformance::Harness;
use amarra_core::{
    Actor, AggregateId, Envelope, Environment, EventId, SeededEntropy, Timestamp, TraceParent,
    Version,
};
use amarra_memory::observer::{CommittedTx, Delivered, OffsetsCommitted, Published, Rebalanced};
use amarra_memory::{
    BrokerConfig, ClientId, DatabaseConfig, Effect, Faults, Hooks, MemberOptions, MemoryBroker,
    MemoryConsumer, MemoryDatabase, Observer, Site, Verdict,
};
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::{Epoch, Incoming, Outgoing, Shard};
use amarra_messaging::outbox::Lease;
use amarra_messaging::transport::Publish;
use amarra_messaging::{Group, Headers, Offset, Partition, Record, TxError};
use amarra_store::{Store, UnitOfWork};
use bytes::Bytes;
use uuid::Uuid;

/// Faults that strike in the order they were put down, each at the next operation of its name.
#[derive(Debug, Default)]
pub(crate) struct Script(Mutex<VecDeque<(&'static str, Verdict)>>);

impl Script {
    pub(crate) fn strike(&self, operation: &'static str, effect: Effect) {
        self.put(operation, Verdict::of(effect));
    }

    pub(crate) fn put(&self, operation: &'static str, verdict: Verdict) {
        self.0.lock().unwrap().push_back((operation, verdict));
    }
}

impl Faults for Script {
    fn at(&self, site: &Site<'_>) -> Verdict {
        let mut script = self.0.lock().unwrap();
        let at = script.iter().position(|(name, _)| *name == site.operation.name());
        at.and_then(|at| script.remove(at)).map_or(Verdict::PROCEED, |(_, verdict)| verdict)
    }
}

/// Everything both servers told.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) committed: Mutex<Vec<CommittedTx>>,
    pub(crate) lines: Mutex<Vec<String>>,
}

impl Recorder {
    fn note(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }
}

impl Observer for Recorder {
    fn committed(&self, tx: &CommittedTx) {
        self.note(format!("committed {}", tx.xid));
        self.committed.lock().unwrap().push(tx.clone());
    }

    fn published(&self, p: &Published) {
        self.note(format!("published {}/{}@{}", p.topic, p.partition, p.offset));
    }

    fn delivered(&self, d: &Delivered<'_>) {
        self.note(format!("delivered {} to {}", d.deliveries.len(), d.client.node));
    }

    fn offsets_committed(&self, c: &OffsetsCommitted) {
        let offsets = c.offsets.iter().map(|(p, o)| format!("{}@{o}", p.partition));
        self.note(format!("offsets {}", offsets.collect::<Vec<_>>().join(" ")));
    }

    fn rebalanced(&self, r: &Rebalanced) {
        let counts = r.assignment.iter().map(|(c, p)| format!("{}:{}", c.node, p.len()));
        let counts = counts.collect::<Vec<_>>().join(" ");
        self.note(format!("generation {} {counts}", r.generation));
    }
}

/// One database, one broker, and the time they live in.
pub(crate) struct World {
    pub(crate) harness: Harness,
    pub(crate) env: Environment,
    pub(crate) script: Arc<Script>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) database: MemoryDatabase,
    pub(crate) broker: MemoryBroker,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(DatabaseConfig::default(), BrokerConfig::default())
    }

    pub(crate) fn with(database: DatabaseConfig, broker: BrokerConfig) -> Self {
        let harness = Harness::new(7);
        let env = harness.environment("world");
        let (script, recorder) = (Arc::new(Script::default()), Arc::new(Recorder::default()));
        let hooks = Hooks::default().with_faults(script.clone()).with_observer(recorder.clone());
        let database = MemoryDatabase::new("orders", database, env.clone(), hooks.clone()).unwrap();
        let broker = MemoryBroker::new("broker", broker, env.clone(), hooks).unwrap();
        Self { harness, env, script, recorder, database, broker }
    }

    pub(crate) fn store(&self, node: &str) -> Arc<dyn Store> {
        Arc::new(self.database.connect(ClientId::new(node, 1)))
    }

    pub(crate) fn consumer(&self, node: &str, topics: &[&str]) -> MemoryConsumer {
        let topics: Vec<_> = topics.iter().map(|&t| t.into()).collect();
        let options = MemberOptions::default();
        self.broker.consumer(ClientId::new(node, 1), "readers", &topics, options).unwrap()
    }

    /// Runs to the end, with time passing as timers ask for it.
    pub(crate) fn run<F: Future>(&self, work: F) -> F::Output {
        self.harness.block_on(work)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.recorder.lines.lock().unwrap())
    }
}

/// A call that was begun and is polled by hand.
pub(crate) struct Begun<T>(Pin<Box<dyn Future<Output = T>>>);

impl<T> Begun<T> {
    pub(crate) fn new(future: impl Future<Output = T> + 'static) -> Self {
        Self(Box::pin(future))
    }

    /// Goes on with it; none while it waits.
    pub(crate) fn poll(&mut self) -> Option<T> {
        match self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(out) => Some(out),
            Poll::Pending => None,
        }
    }

    pub(crate) async fn end(self) -> T {
        self.0.await
    }
}

pub(crate) fn begin_save(
    mut unit: Box<dyn UnitOfWork>,
    id: &'static str,
    expected: u64,
) -> Begun<(Box<dyn UnitOfWork>, Result<(), TxError>)> {
    Begun::new(async move {
        let saved = unit.save(&thing(id), Version::new(expected), body("x")).await;
        (unit, saved)
    })
}

pub(crate) fn thing(id: &str) -> AggregateId {
    AggregateId::new("thing", id)
}

pub(crate) fn body(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn event(n: u128) -> EventId {
    Uuid::from_u128(n).into()
}

pub(crate) fn envelope(key: &str, n: u128) -> Envelope {
    Envelope {
        id: event(n),
        source: "/test".into(),
        kind: "Changed".into(),
        schema_version: 1,
        subject: thing(key),
        subject_version: Version::new(1),
        partition_key: key.into(),
        correlation: Uuid::nil().into(),
        causation: None,
        actor: Actor::Service("test".into()),
        traceparent: TraceParent::root(&SeededEntropy::new(1, "trace")),
        time: Timestamp::EPOCH,
        data: body("{}"),
    }
}

pub(crate) fn outgoing(key: &str, n: u128) -> Outgoing {
    Outgoing { topic: "things".into(), envelope: envelope(key, n) }
}

pub(crate) fn incoming(n: u128) -> Incoming {
    Incoming {
        topic: "things".into(),
        partition: Partition(0),
        offset: Offset(0),
        envelope: envelope("k", n),
        position: None,
        turn: amarra_messaging::message::Turn::InOrder,
    }
}

pub(crate) fn group() -> Group {
    Group::from("readers")
}

pub(crate) fn publish(topic: &str, key: &str, value: &str) -> Publish {
    let record = Record { key: body(key), headers: Headers::new(), value: body(value) };
    Publish { topic: topic.into(), record }
}

pub(crate) fn lease(epoch: u64) -> Lease {
    Lease { shard: Shard(0), epoch: Epoch(epoch), owner: "relay".into() }
}

pub(crate) fn partition(topic: &str, n: u32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition: Partition(n) }
}

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Commits one save of `id` from version `from`.
pub(crate) async fn put(store: &dyn Store, id: &str, from: u64) -> Result<(), TxError> {
    let mut unit = store.begin().await?;
    unit.save(&thing(id), Version::new(from), body("x")).await?;
    unit.commit().await
}

/// Returns the version of `id` that is committed, zero when there is none.
pub(crate) fn version(world: &World, id: &str) -> u64 {
    world.database.inspect(|i| i.aggregate(&thing(id)).map_or(0, |state| state.version.get()))
}
