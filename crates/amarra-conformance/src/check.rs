//! What laws are written with: messages, waits, gates between tasks, and units that try again.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{
    Actor, AggregateId, CorrelationId, Envelope, Environment, EventId, PartitionKey, TraceParent,
    Version,
};
use amarra_core::{Class, Classify};
use amarra_messaging::message::Owner;
use amarra_messaging::{Incoming, Offset, Outgoing, Partition, Topic, TxError};
use amarra_store::{AuditDraft, Store, UnitOfWork};
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::backend::{Backend, StoreBackend};

/// How often a unit is tried again before a law gives up on it.
const ATTEMPTS_MAX: u32 = 50;

/// Turns an answer that a law relies on into its value.
pub(crate) trait Must<T> {
    /// Returns the value, or fails the law with `what` could not be done.
    fn must(self, what: &str) -> T;
}

impl<T, E: fmt::Display> Must<T> for Result<T, E> {
    #[track_caller]
    #[expect(clippy::panic, reason = "a law fails by panicking")]
    fn must(self, what: &str) -> T {
        match self {
            Ok(value) => value,
            Err(e) => panic!("{what}: {e}"),
        }
    }
}

impl<T> Must<T> for Option<T> {
    #[track_caller]
    #[expect(clippy::panic, reason = "a law fails by panicking")]
    fn must(self, what: &str) -> T {
        match self {
            Some(value) => value,
            None => panic!("{what}"),
        }
    }
}

/// Returns the error that a law demands.
#[track_caller]
#[expect(clippy::panic, reason = "a law fails by panicking")]
pub(crate) fn refusal<T, E>(answer: Result<T, E>, what: &str) -> E {
    match answer {
        Err(e) => e,
        Ok(_) => panic!("{what} was accepted"),
    }
}

/// Gives a pinned future the backend's patience: its output, or none while it waits.
pub(crate) async fn within<F: Future>(b: &impl Backend, future: Pin<&mut F>) -> Option<F::Output> {
    b.env().timeout(b.patience(), future).await.ok()
}

/// A point that one task passes once another opened it.
///
/// A backend that runs writers one after another never lets the other get there: `pass` then goes
/// on after the backend's patience, and the law is checked on the order that came about.
#[derive(Debug)]
pub(crate) struct Gate(Semaphore);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Semaphore::new(0))
    }

    pub(crate) fn open(&self) {
        self.0.close();
    }

    pub(crate) async fn pass(&self, b: &impl Backend) {
        let _ = b.env().timeout(b.patience(), self.0.acquire()).await;
    }
}

/// Tells whether an error of a unit allows it to be run again as it is.
pub(crate) fn may_repeat(e: &TxError) -> bool {
    matches!(e.class(), Class::Transient | Class::Conflict)
}

/// Runs `work` in a unit and commits it, again after every transient error or conflict.
pub(crate) async fn transact<T>(
    env: &Environment,
    store: &dyn Store,
    mut work: impl AsyncFnMut(&mut dyn UnitOfWork) -> Result<T, TxError>,
) -> T {
    let mut failed = String::new();
    for attempt in 0..ATTEMPTS_MAX {
        match once(store, &mut work).await {
            Ok(value) => return value,
            Err(e) => {
                failed = e.to_string();
                assert!(may_repeat(&e), "a unit failed for good: {e}");
            }
        }
        let pause = env.entropy.below(u64::from(attempt).saturating_add(1));
        env.sleep(Duration::from_millis(pause.saturating_add(1))).await;
    }
    None.must(&format!("a unit failed {ATTEMPTS_MAX} times, at last: {failed}"))
}

/// Runs `work` in a unit and commits it, once.
pub(crate) async fn once<T>(
    store: &dyn Store,
    work: &mut impl AsyncFnMut(&mut dyn UnitOfWork) -> Result<T, TxError>,
) -> Result<T, TxError> {
    let mut unit = store.begin().await?;
    let value = work(unit.as_mut()).await?;
    unit.commit().await?;
    Ok(value)
}

/// Waits for a random moment, so that tasks side by side meet in another place each time.
pub(crate) async fn jitter(env: &Environment) {
    env.sleep(Duration::from_micros(env.entropy.below(200))).await;
}

/// Begins a unit.
pub(crate) async fn begin(store: &dyn Store) -> Box<dyn UnitOfWork> {
    store.begin().await.must("begin")
}

/// Commits a unit.
pub(crate) async fn commit(unit: Box<dyn UnitOfWork>) {
    unit.commit().await.must("commit");
}

/// Locks an aggregate and returns its version and body.
pub(crate) async fn load(
    unit: &mut dyn UnitOfWork,
    id: &AggregateId,
) -> Result<(Version, Bytes), TxError> {
    let mut states = unit.load(std::slice::from_ref(id)).await?;
    let state = states.pop().must("load answered no state for one id");
    assert!(states.is_empty(), "load answered more states than ids");
    Ok((state.version, state.body))
}

/// Loads an aggregate, saves it with `body` and returns its new version.
pub(crate) async fn bump(
    unit: &mut dyn UnitOfWork,
    id: &AggregateId,
    body: &str,
) -> Result<Version, TxError> {
    let (version, _) = load(unit, id).await?;
    unit.save(id, version, Bytes::copy_from_slice(body.as_bytes())).await?;
    Ok(version.next())
}

/// Returns the committed version and body of an aggregate, read by a unit of its own.
pub(crate) async fn committed(b: &impl StoreBackend, id: &AggregateId) -> (Version, Bytes) {
    transact(&b.env(), b.store("observer").as_ref(), async |unit| load(unit, id).await).await
}

/// Saves an aggregate in a unit of its own, whatever its version.
pub(crate) async fn put(b: &impl StoreBackend, id: &AggregateId, body: &str) -> Version {
    transact(&b.env(), b.store("writer").as_ref(), async |unit| bump(unit, id, body).await).await
}

/// Names an aggregate of the laws.
pub(crate) fn thing(id: &str) -> AggregateId {
    AggregateId::new("thing", id)
}

/// Names a process of the laws.
pub(crate) fn owner(name: &str) -> Owner {
    Owner::from(name)
}

/// Makes an envelope of `key` that speaks of version `version` of an aggregate of that name.
pub(crate) fn envelope(env: &Environment, key: &str, version: u64) -> Envelope {
    Envelope {
        id: env.new_id::<EventId>(),
        source: "/amarra/conformance".into(),
        kind: "Changed".into(),
        schema_version: 1,
        subject: thing(key),
        subject_version: Version::new(version),
        partition_key: PartitionKey::from(key),
        correlation: env.new_id::<CorrelationId>(),
        causation: Some(env.new_id::<EventId>()),
        actor: Actor::User("ada".into()),
        traceparent: TraceParent::root(env.entropy.as_ref()),
        time: env.now(),
        data: Bytes::from(format!("{{\"version\":{version}}}")),
    }
}

/// Makes a message to be published.
pub(crate) fn outgoing(env: &Environment, key: &str, version: u64) -> Outgoing {
    Outgoing { topic: Topic::from("things"), envelope: envelope(env, key, version) }
}

/// Makes a message as it arrived, at `offset` of partition 0.
pub(crate) fn incoming(env: &Environment, key: &str, offset: u64) -> Incoming {
    Incoming {
        topic: Topic::from("things"),
        partition: Partition(0),
        offset: Offset(offset),
        envelope: envelope(env, key, offset.saturating_add(1)),
        position: None,
        turn: amarra_messaging::message::Turn::InOrder,
    }
}

/// Makes an audit entry about version `version` of an aggregate.
pub(crate) fn audit(env: &Environment, id: &AggregateId, version: u64) -> AuditDraft {
    AuditDraft {
        actor: Actor::Service("conformance".into()),
        action: Arc::from("change"),
        aggregate: id.clone(),
        version: Version::new(version),
        correlation: env.new_id::<CorrelationId>(),
        at: env.now(),
        state_hash: [7; 32],
    }
}
