//! A small service on the in-memory database: it notes which messages reached which account.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amarra_core::codec::Message;
use amarra_core::{
    Actor, AggregateId, Envelope, PartitionKey, SeededEntropy, Timestamp, TraceParent, Version,
};
use amarra_memory::{
    ClientId, DatabaseConfig, Effect, Faults, Hooks, MemoryDatabase, Operation, Site, Verdict,
};
use amarra_messaging::message::{Delivery, Offset};
use amarra_messaging::{Group, Incoming, Partition, Topic, wire};
use amarra_store::unit::StoredState;
use amarra_store::{
    Aggregate, Draft, Handler, HandlerError, Replayer, Session, Store, TransactionalProcessor,
    ViewName,
};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::virtual_time::VirtualTime;

pub(crate) const SOURCE: &str = "/amarra/ledger";

/// The messages that reached an account, by number, in order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) seen: Vec<u64>,
}

impl Aggregate for Account {
    const KIND: &'static str = "account";
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Noted {
    pub(crate) number: u64,
}

impl Message for Noted {
    const KIND: &'static str = "Noted";
}

/// What several accounts share: one pool for those whose first message has an odd number, one for
/// the others.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Pool {
    pub(crate) messages: u32,
}

impl Aggregate for Pool {
    const KIND: &'static str = "pool";
}

/// The view of accounts: how many messages each has.
pub(crate) const COUNTS: &str = "counts";

fn pool(seen: &[u64]) -> Option<&'static str> {
    Some(if seen.first()? % 2 == 0 { "even" } else { "odd" })
}

/// Notes every message on the account its key names, from the second on in its pool, and in the
/// view; refuses those of kind `Bad` until healed.
#[derive(Debug)]
pub(crate) struct Ledger {
    group: Group,
    topics: Vec<Topic>,
    pub(crate) healed: AtomicBool,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            group: Group::from("ledger"),
            topics: vec![Topic::from("orders")],
            healed: AtomicBool::new(false),
        }
    }
}

#[async_trait]
impl Handler for Ledger {
    fn group(&self) -> &Group {
        &self.group
    }

    fn topics(&self) -> &[Topic] {
        &self.topics
    }

    fn touches(&self, message: &Incoming) -> Vec<AggregateId> {
        vec![Account::aggregate_id(message.envelope.partition_key.as_str())]
    }

    fn touches_further(
        &self,
        message: &Incoming,
        states: &BTreeMap<AggregateId, StoredState>,
    ) -> Vec<AggregateId> {
        let id = Account::aggregate_id(message.envelope.partition_key.as_str());
        let account = states.get(&id).map(|stored| serde_json::from_slice::<Account>(&stored.body));
        let pool = account.and_then(Result::ok).and_then(|account| pool(&account.seen));
        pool.map(Pool::aggregate_id).into_iter().collect()
    }

    fn views(&self, message: &Incoming) -> Vec<ViewName> {
        vec![(COUNTS.into(), message.envelope.partition_key.as_str().into())]
    }

    async fn handle(
        &self,
        session: &mut Session<'_>,
        message: &Incoming,
    ) -> Result<(), HandlerError> {
        let envelope = &message.envelope;
        if !["Good", "Bad"].contains(&&*envelope.kind) {
            return Ok(());
        }
        let number = u64::try_from(envelope.id.as_uuid().as_u128()).unwrap();
        let mut account = session.load::<Account>(envelope.partition_key.as_str()).await?;
        let mut state = account.state.take().unwrap_or_default();
        if let Some(pool) = pool(&state.seen) {
            let mut pool = session.load::<Pool>(pool).await?;
            let messages = pool.state.take().unwrap_or_default().messages + 1;
            session.save(&mut pool, Pool { messages }, "note").await?;
        }
        let key = envelope.partition_key.as_str();
        let row = session.unit().load_view(COUNTS, key).await?;
        let position = row.map_or(Version::ABSENT, |row| row.position).next();
        session.write_view((COUNTS, key), position, &()).await?;
        state.seen.push(number);
        let version = session.save(&mut account, state, "note").await?;
        let draft = Draft {
            topic: "notes",
            key: envelope.partition_key.clone(),
            subject: &account.id,
            version,
            message: &Noted { number },
        };
        session.emit(draft).await?;
        if &*envelope.kind == "Bad" && !self.healed.load(Ordering::Relaxed) {
            return Err(HandlerError::Refused("bad".to_owned()));
        }
        Ok(())
    }
}

/// Faults put down in advance, and a note of every operation.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// Whether every operation takes its time, so that units overlap.
    pub(crate) far: AtomicBool,
    faults: Mutex<VecDeque<(&'static str, Effect)>>,
    pub(crate) operations: Mutex<Vec<(&'static str, Vec<String>)>>,
}

impl Script {
    /// Lets the next operation of this name go wrong.
    pub(crate) fn strike(&self, operation: &'static str, effect: Effect) {
        self.faults.lock().unwrap().push_back((operation, effect));
    }
}

impl Faults for Script {
    fn at(&self, site: &Site<'_>) -> Verdict {
        let ids = match site.operation {
            Operation::Load { ids } => ids.iter().map(ToString::to_string).collect(),
            Operation::LoadView { names } => {
                names.iter().map(|(view, key)| format!("{view}/{key}")).collect()
            }
            _ => Vec::new(),
        };
        let name = site.operation.name();
        self.operations.lock().unwrap().push((name, ids));
        if self.far.load(Ordering::Relaxed) {
            return Verdict::delayed(Duration::from_millis(1), Duration::from_millis(1));
        }
        let mut faults = self.faults.lock().unwrap();
        let at = faults.iter().position(|(operation, _)| *operation == name);
        at.and_then(|at| faults.remove(at)).map_or(Verdict::PROCEED, |(_, e)| Verdict::of(e))
    }
}

/// The service with its database, on virtual time.
pub(crate) struct World {
    pub(crate) time: Arc<VirtualTime>,
    pub(crate) script: Arc<Script>,
    pub(crate) database: MemoryDatabase,
    pub(crate) ledger: Arc<Ledger>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_flush(Duration::ZERO)
    }

    pub(crate) fn with_flush(flush_latency: Duration) -> Self {
        let time = Arc::new(VirtualTime::default());
        let script = Arc::new(Script::default());
        let hooks = Hooks::default().with_faults(Arc::clone(&script) as Arc<_>);
        let config = DatabaseConfig { flush_latency, ..DatabaseConfig::default() };
        let database = MemoryDatabase::new("ledger", config, time.environment(), hooks).unwrap();
        let ledger = Arc::new(Ledger::new());
        Self { time, script, database, ledger }
    }

    pub(crate) fn store(&self, node: &str) -> Arc<dyn Store> {
        Arc::new(self.database.connect(ClientId::new(node, 1)))
    }

    pub(crate) fn processor(&self) -> TransactionalProcessor {
        let handler = Arc::clone(&self.ledger) as Arc<dyn Handler>;
        let env = self.time.environment();
        TransactionalProcessor::new(self.store("ledger-1"), handler, env, SOURCE)
    }

    pub(crate) fn replayer(&self) -> Replayer {
        let handler = Arc::clone(&self.ledger) as Arc<dyn Handler>;
        Replayer::new(self.store("operator"), handler, self.time.environment(), SOURCE)
    }

    /// Returns what reached an account, in order.
    pub(crate) fn seen(&self, account: &str) -> Vec<u64> {
        self.database.inspect(|db| {
            let stored = db.aggregate(&Account::aggregate_id(account));
            stored
                .map_or_else(Vec::new, |s| serde_json::from_slice::<Account>(&s.body).unwrap().seen)
        })
    }

    /// Returns the offsets of parked messages, in the order of parking.
    pub(crate) fn parked(&self) -> Vec<u64> {
        self.database.inspect(|db| db.parked().map(|(_, p)| p.delivery.offset.0).collect())
    }

    pub(crate) fn admitted(&self) -> usize {
        self.database.inspect(|db| db.inbox().count())
    }

    pub(crate) fn operations(&self) -> Vec<(&'static str, Vec<String>)> {
        self.script.operations.lock().unwrap().clone()
    }
}

pub(crate) fn envelope(number: u64, key: &str, kind: &str) -> Envelope {
    Envelope {
        id: uuid::Uuid::from_u128(u128::from(number)).into(),
        source: "/amarra/orders".into(),
        kind: kind.into(),
        schema_version: 1,
        subject: AggregateId::new("order", key),
        subject_version: Version::new(1),
        partition_key: PartitionKey::new(key),
        correlation: uuid::Uuid::from_u128(77).into(),
        causation: None,
        actor: Actor::User("u-1".into()),
        traceparent: TraceParent::root(&SeededEntropy::new(number, "trace")),
        time: Timestamp::from_micros(5),
        data: Bytes::from_static(b"{}"),
    }
}

/// Message `number` at the offset of the same number.
pub(crate) fn delivery(number: u64, key: &str, kind: &str) -> Delivery {
    Delivery {
        topic: Topic::from("orders"),
        partition: Partition(0),
        offset: Offset(number),
        record: wire::encode(&envelope(number, key, kind), None),
    }
}

/// A delivery that does not decode.
pub(crate) fn garbage(offset: u64, key: &str) -> Delivery {
    let mut delivery = delivery(offset, key, "Good");
    let headers = delivery.record.headers.iter().skip(1).collect();
    delivery.record.headers = headers;
    delivery
}
