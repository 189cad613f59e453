//! A catalog on the in-memory database, whose stock is played by the test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use amarra_conformance::Harness;
use amarra_core::codec::Message;
use amarra_core::{
    Actor, AggregateId, Codec, Envelope, Environment, PartitionKey, Timestamp, TraceParent, Version,
};
use amarra_memory::{ClientId, DatabaseConfig, Hooks, MemoryDatabase, MemoryStore};
use amarra_messaging::message::{Delivery, Offset, Partition};
use amarra_messaging::runtime::{ProcessError, Processor};
use amarra_messaging::{Topic, wire};
use amarra_shop::ServicePorts;
use amarra_shop::auth::KeyConfig;
use amarra_shop::catalog::{Catalog, Config};
use amarra_shop::contract::catalog::{ChangePrice, CreateProduct, ProductView};
use amarra_shop::contract::inventory::StockAdjusted;
use amarra_shop::contract::users::Secret;
use amarra_shop::contract::{ApiError, Caller, Currency, Money, Principal, Role, Sku, topics};
use amarra_store::TransactionalProcessor;

pub(super) fn sku(text: &str) -> Sku {
    text.parse().unwrap()
}

pub(super) fn euro(minor: i64) -> Money {
    Money::new(minor, Currency::EUR)
}

pub(super) fn trace() -> TraceParent {
    "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01".parse().unwrap()
}

pub(super) fn caller(roles: &[Role]) -> Caller {
    Caller {
        principal: Principal {
            user_id: uuid::Uuid::from_u128(7).into(),
            roles: roles.iter().copied().collect(),
        },
        traceparent: trace(),
        idempotency_key: None,
    }
}

pub(super) fn admin() -> Caller {
    caller(&[Role::CatalogAdmin])
}

pub(super) fn config() -> Config {
    let active = Secret::new("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE");
    let keys = KeyConfig { active, standby: None };
    Config { page_max: 3, quote_qty_max: 10, ..Config::new(keys) }
}

pub(super) struct Bench {
    pub(super) harness: Harness,
    pub(super) db: MemoryDatabase,
    pub(super) catalog: Arc<Catalog>,
    pub(super) ids: Environment,
    processor: TransactionalProcessor,
}

impl Bench {
    pub(super) fn new() -> Self {
        let harness = Harness::new(5);
        let env = harness.environment("catalog-db");
        let hooks = Hooks::default();
        let db = MemoryDatabase::new("catalog", DatabaseConfig::default(), env, hooks).unwrap();
        let store: Arc<MemoryStore> = Arc::new(db.connect(ClientId::new("catalog-1", 1)));
        let env = harness.environment("catalog-1");
        let ports = ServicePorts {
            store: Arc::clone(&store) as _,
            views: Arc::clone(&store) as _,
            env: env.clone(),
        };
        let catalog = Catalog::new(ports, config()).unwrap();
        let handler = catalog.handlers().remove(0);
        let processor = TransactionalProcessor::new(store, handler, env, Catalog::SOURCE);
        let ids = harness.environment("ids");
        Self { harness, db, catalog, ids, processor }
    }

    pub(super) fn run<F: Future>(&self, work: F) -> F::Output {
        self.harness.block_on(work)
    }

    pub(super) fn create(&self, id: &str) -> Result<ProductView, ApiError> {
        let request = CreateProduct { sku: sku(id), name: format!("thing {id}") };
        self.run(self.catalog.create(&admin(), request))
    }

    pub(super) fn price(
        &self,
        id: &str,
        minor: i64,
        expected: u64,
    ) -> Result<ProductView, ApiError> {
        let change = ChangePrice { price: euro(minor), expected_version: expected };
        self.run(self.catalog.change_price(&admin(), &sku(id), change))
    }

    /// Makes a product that can be bought; its version is 3 then.
    pub(super) fn product(&self, id: &str, minor: i64) {
        self.create(id).unwrap();
        self.price(id, minor, 1).unwrap();
        self.run(self.catalog.publish(&admin(), &sku(id))).unwrap();
    }

    pub(super) fn events(&self) -> Vec<Envelope> {
        self.db.inspect(|view| {
            let mut rows: Vec<_> = view.outbox().map(|r| (r.seq, r.message.clone())).collect();
            rows.sort_by_key(|(seq, _)| *seq);
            rows.into_iter().map(|(_, message)| message.envelope).collect()
        })
    }

    /// Delivers events to the projection, in one batch.
    pub(super) fn deliver(&self, events: &[Envelope]) {
        self.try_deliver(events).unwrap();
    }

    pub(super) fn try_deliver(&self, events: &[Envelope]) -> Result<(), ProcessError> {
        let deliveries: Vec<_> = events.iter().map(delivery).collect();
        self.run(self.processor.apply(&deliveries))
    }

    pub(super) async fn deliver_within(&self, events: &[Envelope]) {
        let deliveries: Vec<_> = events.iter().map(delivery).collect();
        self.processor.apply(&deliveries).await.unwrap();
    }

    pub(super) fn project(&self) {
        self.deliver(&self.events());
    }

    /// What Inventory says of a product.
    pub(super) fn stock(&self, id: &str, left: u32, version: u64) -> Envelope {
        let message = StockAdjusted { sku: sku(id), on_hand: left + 2, reserved: 2 };
        Envelope {
            id: self.ids.new_id(),
            source: "/amarra/inventory".into(),
            kind: StockAdjusted::KIND.into(),
            schema_version: 1,
            subject: AggregateId::new("stock", id),
            subject_version: Version::new(version),
            partition_key: PartitionKey::new(id),
            correlation: uuid::Uuid::from_u128(9).into(),
            causation: None,
            actor: Actor::Service("inventory".into()),
            traceparent: trace(),
            time: Timestamp::EPOCH,
            data: Codec::encode(&message).unwrap(),
        }
    }

    pub(super) fn get(&self, id: &str) -> Result<ProductView, ApiError> {
        self.run(self.catalog.get(&sku(id), None))
    }

    pub(super) fn wait(&self, d: Duration) {
        self.harness.clock().advance(d);
    }

    /// Versions of a product in the topic ascend without a gap from its first event on.
    pub(super) fn check(&self) {
        let mut last: BTreeMap<AggregateId, u64> = BTreeMap::new();
        for event in self.events() {
            let version = event.subject_version.get();
            let before = last.insert(event.subject.clone(), version);
            assert_eq!(version, before.unwrap_or(1) + 1, "{}", event.kind);
            assert_eq!(event.partition_key.as_str(), event.subject.id.as_ref());
        }
        self.db.inspect(|view| {
            amarra_store::audit::verify_chain(0, [0; 32], view.audit()).unwrap();
            let saved: u64 = view.aggregates("product").map(|(_, s)| s.version.get()).sum();
            assert_eq!(u64::try_from(view.audit().len()).unwrap(), saved);
        });
    }
}

fn delivery(event: &Envelope) -> Delivery {
    let stock = event.kind.as_ref() == StockAdjusted::KIND;
    Delivery {
        topic: Topic::from(if stock { topics::STOCK } else { topics::CATALOG }),
        partition: Partition(0),
        offset: Offset(0),
        record: wire::encode(event, None),
    }
}
