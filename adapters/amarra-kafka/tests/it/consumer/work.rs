//! The real runtime between a real broker and a store in memory, over rebalances.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amarra_conformance::ledger::{self, Ledger, Notes};
use amarra_core::{Environment, EventId};
use amarra_kafka::KafkaConsumer;
use amarra_kafka::consumer::Protocol;
use amarra_memory::{ClientId, DatabaseConfig, Hooks, MemoryDatabase};
use amarra_messaging::message::Delivery;
use amarra_messaging::runtime::{ProcessError, Processor, Runtime, RuntimeConfig};
use amarra_messaging::{Incoming, Shutdown, ShutdownHandle, Topic, wire};
use amarra_store::{Aggregate, TransactionalProcessor};
use async_trait::async_trait;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::task::JoinHandle;

use super::reading::{producer, topic};
use super::server::{Server, quick, shared};
use crate::bed::PATIENCE;

/// A service of one group: its database, and members that work for it.
pub(crate) struct Workshop {
    pub(crate) env: Environment,
    server: &'static Server,
    topic: String,
    database: MemoryDatabase,
    producer: FutureProducer,
}

/// A member at work.
pub(crate) struct Worker {
    handle: ShutdownHandle,
    task: JoinHandle<()>,
}

impl Worker {
    /// Lets it finish what it has in flight, and leave.
    pub(crate) async fn stop(self) {
        self.handle.request();
        self.task.await.expect("a worker");
    }

    /// Drops it in whatever it is doing.
    fn abort(self) {
        self.task.abort();
    }
}

/// Takes its time, so that there is always something in flight.
#[derive(Debug)]
struct Slow(TransactionalProcessor);

#[async_trait]
impl Processor for Slow {
    async fn apply(&self, batch: &[Delivery]) -> Result<(), ProcessError> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.0.apply(batch).await
    }

    async fn park(&self, delivery: &Delivery, reason: &str) -> Result<(), ProcessError> {
        self.0.park(delivery, reason).await
    }
}

impl Workshop {
    pub(crate) fn new(server: &'static Server, topic: &str) -> Self {
        let env = amarra_tokio::environment();
        let config = DatabaseConfig::default();
        let database = MemoryDatabase::new("ledger", config, env.clone(), Hooks::default());
        let database = database.expect("a database");
        Self {
            env,
            server,
            topic: topic.to_owned(),
            database,
            producer: producer(&server.kafka.bootstrap()),
        }
    }

    /// Publishes a message, as a foreign producer of CloudEvents does.
    pub(crate) async fn publish(&self, partition: i32, message: &Incoming) {
        let record = wire::encode(&message.envelope, None);
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let out = FutureRecord::to(&self.topic).key(&record.key[..]).payload(&record.value[..]);
        let out = out.headers(headers).partition(partition);
        self.producer.send(out, PATIENCE).await.expect("published");
    }

    /// Sets a member to work.
    pub(crate) fn work(&self) -> Worker {
        let store = Arc::new(self.database.connect(ClientId::new("ledger", 1)));
        let handler = Arc::new(Ledger::default());
        let processor = TransactionalProcessor::new(store, handler, self.env.clone(), "/ledger");
        let topics = [Topic::from(self.topic.as_str())];
        let group = self.topic.as_str().into();
        let config = quick(Protocol::Classic);
        let consumer = KafkaConsumer::new(&self.server.config(), group, &topics, config);
        let config = RuntimeConfig { batch_rows_max: 8, ..RuntimeConfig::default() };
        let consumer = Box::new(consumer.expect("a member"));
        let processor = Arc::new(Slow(processor));
        let runtime = Runtime::new(consumer, processor, self.env.clone(), config);
        let (handle, shutdown) = Shutdown::new();
        let task = tokio::spawn(runtime.expect("a runtime").run(shutdown));
        Worker { handle, task }
    }

    /// What was applied of a key, in order.
    pub(crate) fn noted(&self, key: &str) -> Vec<EventId> {
        let id = Notes::aggregate_id(key);
        let body = self.database.inspect(|i| i.aggregate(&id).map(|state| state.body.clone()));
        let notes = body.map(|body| serde_json::from_slice::<Notes>(&body).expect("notes"));
        notes.unwrap_or_default().events
    }

    /// What was parked, by offset, with the reasons.
    pub(crate) fn parked(&self) -> Vec<(u64, String)> {
        self.database.inspect(|i| {
            let parked = i.parked().map(|(_, p)| (p.delivery.offset.0, p.reason.to_string()));
            let mut parked: Vec<_> = parked.collect();
            parked.sort();
            parked
        })
    }
}

#[test]
fn every_message_is_applied_once_and_in_order_over_rebalances_and_deaths() {
    shared(async |server| {
        let topic = topic(server, 4).await;
        let workshop = Workshop::new(server, &topic);
        let mut published: BTreeMap<String, Vec<EventId>> = BTreeMap::new();
        let mut workers = vec![workshop.work()];
        for round in 0..160 {
            let partition = round % 4;
            let key = format!("k{partition}{}", round % 3);
            let message = ledger::message(&workshop.env, &key);
            workshop.publish(partition, &message).await;
            published.entry(key).or_default().push(message.envelope.id);
            match round {
                30 | 70 | 130 => workers.push(workshop.work()),
                50 => workers.remove(0).abort(),
                100 => workers.remove(0).stop().await,
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let applied = |(key, ids): (&String, &Vec<EventId>)| workshop.noted(key).len() >= ids.len();
        let started = Instant::now();
        while !published.iter().all(applied) {
            assert!(started.elapsed() < PATIENCE, "messages are missing");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for worker in workers {
            worker.stop().await;
        }
        for (key, ids) in &published {
            assert_eq!(&workshop.noted(key), ids, "key {key}");
        }
        assert_eq!(workshop.parked(), []);
    });
}
