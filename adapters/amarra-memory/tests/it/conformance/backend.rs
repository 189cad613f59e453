//! The simulated servers as the laws see them: one harness per law, faults put down one by one.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amarra_conformance::{
    Backend, BrokerBackend, ClockBackend, CommandBackend, CommitLoss, EntropyBackend,
    HandlerBackend, Harness, ManualClock, ProcessorBackend, PublishLoss, StoreBackend, inbox,
    ledger,
};
use amarra_core::{Clock, Entropy, Environment, SeededEntropy, Timer};
use amarra_memory::{
    BrokerConfig, ClientId, DatabaseConfig, Effect, Faults, Hooks, MemberOptions, MemoryBroker,
    MemoryDatabase, Operation, Site, Verdict,
};
use amarra_messaging::message::Owner;
use amarra_messaging::runtime::Processor;
use amarra_messaging::{Consumer, Group, Incoming, OutboxLog, Topic, Transport};
use amarra_store::{Handler, ReadModel, Store, TransactionalProcessor};
use async_trait::async_trait;

/// One database, one broker, and the time they live in.
pub(crate) struct Memory {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) env: Environment,
    pub(crate) database: MemoryDatabase,
    pub(crate) broker: MemoryBroker,
    losses: Arc<Losses>,
    incarnations: Mutex<BTreeMap<String, u64>>,
}

/// The connections to be lost, each once.
#[derive(Debug, Default)]
struct Losses {
    commits: Mutex<BTreeMap<String, CommitLoss>>,
    publishes: Mutex<BTreeMap<Topic, PublishLoss>>,
}

impl Faults for Losses {
    fn at(&self, site: &Site<'_>) -> Verdict {
        let effect = match site.operation {
            Operation::Commit { .. } => {
                let loss = self.commits.lock().unwrap().remove(site.client.node.as_ref());
                loss.map(|loss| match loss {
                    CommitLoss::BeforeSend => Effect::Fail,
                    CommitLoss::Request => Effect::LoseRequest,
                    CommitLoss::Answer => Effect::LoseReply,
                })
            }
            Operation::Publish { records, .. } => {
                let topic = records.first().map(|record| &record.topic);
                let loss = topic.and_then(|topic| self.publishes.lock().unwrap().remove(topic));
                loss.map(|loss| match loss {
                    PublishLoss::Request => Effect::LoseRequest,
                    PublishLoss::Answer => Effect::LoseReply,
                })
            }
            _ => None,
        };
        Verdict::of(effect.unwrap_or(Effect::Proceed))
    }
}

impl Memory {
    pub(crate) fn new(harness: &Harness) -> Self {
        let losses = Arc::new(Losses::default());
        let hooks = Hooks::default().with_faults(losses.clone());
        let server = harness.environment("servers");
        let database = DatabaseConfig {
            message_bytes_max: 64 << 10,
            inbox: inbox::config(),
            ..DatabaseConfig::default()
        };
        let broker = BrokerConfig {
            record_bytes_max: 96 << 10,
            rebalance_timeout: Duration::from_secs(2),
            ..BrokerConfig::default()
        };
        Self {
            clock: harness.clock(),
            env: harness.environment("test"),
            database: MemoryDatabase::new("orders", database, server.clone(), hooks.clone())
                .unwrap(),
            broker: MemoryBroker::new("broker", broker, server, hooks).unwrap(),
            losses,
            incarnations: Mutex::default(),
        }
    }

    /// Runs a law on its own harness.
    pub(crate) fn block_on<B, F: Future<Output = ()>>(
        make: impl FnOnce(Self) -> B,
        law: impl FnOnce(B) -> F,
    ) {
        let harness = Harness::new(42);
        harness.block_on(law(make(Self::new(&harness))));
    }
}

impl Backend for Memory {
    fn run<F: Future<Output = ()>>(law: impl FnOnce(Self) -> F) {
        Self::block_on(|memory| memory, law);
    }

    fn env(&self) -> Environment {
        self.env.clone()
    }
}

impl ClockBackend for Memory {
    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    fn timer(&self) -> Arc<dyn Timer> {
        self.clock.clone()
    }

    fn jump_wall(&self, micros: i64) {
        self.clock.jump_wall(micros);
    }
}

impl EntropyBackend for Memory {
    fn seeded(&self, seed: u64) -> Option<Arc<dyn Entropy>> {
        Some(Arc::new(SeededEntropy::new(seed, "laws")))
    }

    fn other(&self) -> Arc<dyn Entropy> {
        Arc::new(SeededEntropy::new(self.env.entropy.next_u64(), "process"))
    }
}

#[async_trait]
impl StoreBackend for Memory {
    fn store(&self, client: &str) -> Arc<dyn Store> {
        Arc::new(self.database.connect(ClientId::new(client, 1)))
    }

    fn outbox_log(&self) -> Arc<dyn OutboxLog> {
        Arc::new(self.database.outbox_log(ClientId::new("relay", 1)))
    }

    fn read_model(&self) -> Arc<dyn ReadModel> {
        Arc::new(self.database.connect(ClientId::new("reader", 1)))
    }

    fn outbox_bytes_max(&self) -> usize {
        64 << 10
    }

    async fn lose_commit(&self, client: &str, loss: CommitLoss) {
        self.losses.commits.lock().unwrap().insert(client.to_owned(), loss);
    }

    async fn crash(&self) {
        self.database.crash(true);
        self.database.restart();
    }
}

#[async_trait]
impl BrokerBackend for Memory {
    async fn create(&self, topic: &Topic, partitions: u32) {
        self.broker.create_topic(topic.clone(), partitions).unwrap();
    }

    fn transport(&self, client: &str, source: &str) -> Arc<dyn Transport> {
        Arc::new(self.broker.transport(ClientId::new(client, 1), source))
    }

    async fn consumer(&self, topics: &[Topic], group: &Group, member: &Owner) -> Box<dyn Consumer> {
        let mut incarnations = self.incarnations.lock().unwrap();
        let incarnation = incarnations.entry(member.to_string()).or_default();
        *incarnation += 1;
        let client = ClientId::new(member.as_str(), *incarnation);
        let options =
            MemberOptions { session_timeout: self.session_timeout(), ..MemberOptions::default() };
        Box::new(self.broker.consumer(client, group.clone(), topics, options).unwrap())
    }

    async fn lose_publish(&self, topic: &Topic, loss: PublishLoss) {
        self.losses.publishes.lock().unwrap().insert(topic.clone(), loss);
    }

    fn record_bytes_max(&self) -> usize {
        64 << 10
    }

    /// Every call is, since no fault here cuts one in two.
    fn transactional(&self) -> bool {
        true
    }

    fn session_timeout(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn crash(&self) {
        self.broker.crash();
        self.broker.restart();
    }
}

impl ProcessorBackend for Memory {
    fn processor(&self, client: &str, handler: Arc<dyn Handler>) -> Arc<dyn Processor> {
        let store = self.store(client);
        Arc::new(TransactionalProcessor::new(store, handler, self.env(), "/amarra/ledger"))
    }
}

#[async_trait]
impl HandlerBackend for Memory {
    fn handler(&self) -> Arc<dyn Handler> {
        Arc::new(ledger::Ledger::default())
    }

    async fn message(&self) -> Incoming {
        ledger::message(&self.env, "k")
    }
}

#[async_trait]
impl CommandBackend for Memory {
    type Command = ledger::Note;

    async fn command(&self) -> ledger::Note {
        ledger::Note { key: "k".into() }
    }
}
