//! Relays, consumers and processors together on the in-memory servers, under random faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use amarra_core::{Entropy, Environment, SeededEntropy};
use amarra_memory::{
    BrokerConfig, ClientId, DatabaseConfig, Effect, Faults, Hooks, MemberOptions, MemoryBroker,
    MemoryDatabase, Site, Verdict,
};
use amarra_messaging::message::Owner;
use amarra_messaging::outbox::OutboxLog as _;
use amarra_messaging::relay::{Relay, RelayConfig};
use amarra_messaging::runtime::{Runtime, RuntimeConfig};
use amarra_messaging::{Outgoing, Shutdown, ShutdownHandle, Topic};
use amarra_store::{Aggregate, Handler, Store, TransactionalProcessor};
use futures_util::future::{join, join_all};

use crate::ledger::{Account, Ledger, SOURCE, envelope};
use crate::virtual_time::VirtualTime;

/// Strikes about every thirtieth operation while it is on, and slows every fifth down.
#[derive(Debug)]
struct Chaos {
    entropy: SeededEntropy,
    on: AtomicBool,
}

impl Faults for Chaos {
    fn at(&self, _: &Site<'_>) -> Verdict {
        const EFFECTS: [Effect; 9] = [
            Effect::Fail,
            Effect::Serialization,
            Effect::LoseRequest,
            Effect::LoseReply,
            Effect::FailPartway(1),
            Effect::FailPartway(0),
            Effect::Duplicate,
            Effect::Rebalance,
            Effect::LoseOffsetCommit,
        ];
        if !self.on.load(Ordering::Relaxed) {
            return Verdict::PROCEED;
        }
        let ms = |n| Duration::from_millis(self.entropy.below(n));
        let slow = self.entropy.below(5) == 0;
        let mut verdict = if slow { Verdict::delayed(ms(40), ms(40)) } else { Verdict::PROCEED };
        if self.entropy.below(30) == 0 {
            let which = usize::try_from(self.entropy.below(9)).unwrap();
            verdict.effect = EFFECTS[which];
        }
        verdict
    }
}

struct World {
    time: Arc<VirtualTime>,
    env: Environment,
    chaos: Arc<Chaos>,
    orders: MemoryDatabase,
    ledger: MemoryDatabase,
    broker: MemoryBroker,
}

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

impl World {
    fn new(seed: u64) -> Self {
        let time = Arc::new(VirtualTime::default());
        let env = time.environment();
        let entropy = SeededEntropy::new(seed, "chaos");
        let chaos = Arc::new(Chaos { entropy, on: AtomicBool::new(true) });
        let hooks = Hooks::default().with_faults(Arc::clone(&chaos) as Arc<_>);
        let database = |name: &str| {
            let config = DatabaseConfig { shards: 2, ..DatabaseConfig::default() };
            MemoryDatabase::new(name, config, env.clone(), hooks.clone()).unwrap()
        };
        let (orders, ledger) = (database("orders"), database("ledger"));
        let config = BrokerConfig::default();
        let broker = MemoryBroker::new("broker", config, env.clone(), hooks.clone()).unwrap();
        broker.create_topic("orders", 3).unwrap();
        broker.create_topic("notes", 1).unwrap();
        Self { time, env, chaos, orders, ledger, broker }
    }

    /// Commits 40 messages of random keys, each behind the lock of its key's aggregate.
    async fn produce(&self, producer: u64) {
        let store = self.orders.connect(ClientId::new(format!("orders-{producer}"), 1));
        for n in 0..40 {
            let number = producer * 1_000 + n;
            let key = KEYS[usize::try_from(self.chaos.entropy.below(5)).unwrap()];
            // A producer that does not know what became of its commit does not try it again: the
            // oracle below looks at what is committed.
            let _ = self.commit(&store, key, number).await;
            self.env.sleep(Duration::from_millis(self.chaos.entropy.below(60))).await;
        }
    }

    async fn commit(
        &self,
        store: &dyn Store,
        key: &str,
        number: u64,
    ) -> Result<(), amarra_store::TxError> {
        let mut unit = store.begin().await?;
        let id = Account::aggregate_id(key);
        let stored = unit.load(std::slice::from_ref(&id)).await?.remove(0);
        unit.save(&id, stored.version, bytes::Bytes::from_static(b"{}")).await?;
        let (topic, envelope) = (Topic::from("orders"), envelope(number, key, "Good"));
        unit.enqueue(&[Outgoing { topic, envelope }]).await?;
        unit.commit().await
    }

    fn relay(&self, node: &str) -> Relay {
        let log = self.orders.outbox_log(ClientId::new(node, 1));
        let transport = self.broker.transport(ClientId::new(node, 1), log.source());
        let (log, transport) = (Arc::new(log), Arc::new(transport));
        let config = RelayConfig { chunk_rows_max: 4, ..RelayConfig::default() };
        Relay::new(log, transport, self.env.clone(), Owner::from(node), config).unwrap()
    }

    fn runtime(&self, node: &str) -> Runtime {
        let client = ClientId::new(node, 1);
        let handler: Arc<dyn Handler> = Arc::new(Ledger::new());
        let topics = handler.topics().to_vec();
        let options = MemberOptions::default();
        let consumer = self.broker.consumer(client.clone(), "ledger", &topics, options).unwrap();
        let store = Arc::new(self.ledger.connect(client));
        let env = self.env.clone();
        let processor = TransactionalProcessor::new(store, handler, env.clone(), SOURCE);
        let config = RuntimeConfig {
            batch_rows_max: 4,
            partition_rows_max: 8,
            total_rows_max: 12,
            ..RuntimeConfig::default()
        };
        Runtime::new(Box::new(consumer), Arc::new(processor), env, config).unwrap()
    }

    /// Lets everything run for a while under faults, with crashes, and then heal.
    async fn script(&self, handle: ShutdownHandle) {
        let sleep = |ms| self.env.sleep(Duration::from_millis(ms));
        let crashes = async {
            sleep(900).await;
            self.broker.crash();
            sleep(400).await;
            self.broker.restart();
            sleep(300).await;
            self.ledger.crash(true);
            sleep(200).await;
            self.ledger.restart();
            self.orders.crash(true);
            sleep(200).await;
            self.orders.restart();
        };
        join(join_all((1..4).map(|producer| self.produce(producer))), crashes).await;
        self.chaos.on.store(false, Ordering::Relaxed);
        sleep(30_000).await;
        handle.request();
    }

    fn check(&self, seed: u64) {
        let mut sent: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        self.orders.inspect(|db| {
            let mut rows: Vec<_> = db.outbox().collect();
            rows.sort_by_key(|row| row.seq);
            for row in rows {
                let envelope = &row.message.envelope;
                let number = u64::try_from(envelope.id.as_uuid().as_u128()).unwrap();
                sent.entry(envelope.partition_key.to_string()).or_default().push(number);
                assert!(row.acknowledged && !row.parked, "seed {seed}: {number} is not published");
            }
        });
        let total: usize = sent.values().map(Vec::len).sum();
        assert!(total > 40, "seed {seed}: only {total} messages were committed");
        self.ledger.inspect(|db| {
            assert_eq!(db.parked().count(), 0, "seed {seed}: infrastructure was taken for poison");
            for (key, numbers) in &sent {
                let stored = db.aggregate(&Account::aggregate_id(key)).expect("applied");
                let account: Account = serde_json::from_slice(&stored.body).unwrap();
                assert_eq!(&account.seen, numbers, "seed {seed}, key {key}");
            }
        });
    }
}

#[test]
fn whatever_fails_each_message_is_applied_once_and_in_the_order_of_its_key() {
    for seed in 0..40 {
        let world = World::new(seed);
        let (handle, shutdown) = Shutdown::new();
        let relays = ["relay-1", "relay-2"].map(|node| world.relay(node).run(shutdown.clone()));
        let runtimes =
            ["ledger-1", "ledger-2"].map(|node| world.runtime(node).run(shutdown.clone()));
        let drivers = join(join_all(relays), join_all(runtimes));
        world.time.run(join(drivers, world.script(handle)));
        world.check(seed);
    }
}
