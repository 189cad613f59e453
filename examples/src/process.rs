//! One process: a broker, services with a database each, and the drivers between them.

use std::sync::Arc;
use std::time::Duration;

use amarra_conformance::Harness;
use amarra_core::{Actor, Cause, CorrelationId, Environment, TraceParent};
use amarra_memory::{
    BrokerConfig, ClientId, DatabaseConfig, Hooks, MemberOptions, MemoryBroker, MemoryDatabase,
    MemoryStore,
};
use amarra_messaging::message::Owner;
use amarra_messaging::relay::{Relay, RelayConfig};
use amarra_messaging::runtime::{Runtime, RuntimeConfig};
use amarra_messaging::{Shutdown, ShutdownHandle};
use amarra_shop::ServicePorts;
use amarra_shop::contract::{Caller, Principal, Role, UserId};
use amarra_store::{DueHandler, Handler, TransactionalProcessor, Worker, WorkerConfig};

use crate::Fallible;

/// Partitions of every topic.
const PARTITIONS: u32 = 3;

/// The executor, the broker and the services of one process.
#[derive(Debug)]
pub struct Process {
    harness: Harness,
    broker: MemoryBroker,
    hooks: Hooks,
    shutdown: Shutdown,
    /// Dropped with the process: everything it stops is gone by then.
    _handle: ShutdownHandle,
}

/// One service: its database, and the way to it.
#[derive(Debug, Clone)]
pub struct Service {
    /// The ambient ports.
    pub env: Environment,
    /// Its database.
    pub database: MemoryDatabase,
    /// Its connection to it.
    pub store: Arc<MemoryStore>,
    client: ClientId,
}

impl Process {
    /// Starts a broker with these topics; `hooks` see and disturb it and every database.
    ///
    /// # Errors
    /// When a name is refused.
    pub fn new(topics: &[&str], hooks: Hooks) -> Fallible<Self> {
        let harness = Harness::new(42);
        let env = harness.environment("broker");
        let broker = MemoryBroker::new("broker", BrokerConfig::default(), env, hooks.clone())?;
        for topic in topics {
            broker.create_topic(*topic, PARTITIONS)?;
        }
        let (handle, shutdown) = Shutdown::new();
        Ok(Self { harness, broker, hooks, shutdown, _handle: handle })
    }

    /// Runs `main` to its end, with every driver beside it.
    pub fn block_on<F: Future>(&self, main: F) -> F::Output {
        self.harness.block_on(main)
    }

    /// Makes a service with an empty database.
    ///
    /// # Errors
    /// When a name is refused.
    pub fn service(&self, name: &str) -> Fallible<Service> {
        let env = self.harness.environment(name);
        let config = DatabaseConfig { shards: 1, ..DatabaseConfig::default() };
        let database = MemoryDatabase::new(name, config, env.clone(), self.hooks.clone())?;
        let client = ClientId::new(format!("{name}-1"), 1);
        let store = Arc::new(database.connect(client.clone()));
        Ok(Service { env, database, store, client })
    }

    /// Publishes what the service's outbox holds.
    ///
    /// # Errors
    /// When a bound is refused.
    pub fn relay(&self, service: &Service) -> Fallible {
        let log = Arc::new(service.database.outbox_log(service.client.clone()));
        let source = &service.client.node;
        let transport = Arc::new(self.broker.transport(service.client.clone(), source.as_ref()));
        let (env, owner) = (service.env.clone(), service.owner());
        let relay = Relay::new(log, transport, env, owner, RelayConfig::default())?;
        self.harness.spawn(relay.run(self.shutdown.clone()));
        Ok(())
    }

    /// Lets `handler` apply what its topics bring, each message in one transaction.
    ///
    /// # Errors
    /// When a bound is refused.
    pub fn consume(&self, service: &Service, source: &str, handler: Arc<dyn Handler>) -> Fallible {
        let (group, topics) = (handler.group().clone(), handler.topics().to_vec());
        let options = MemberOptions::default();
        let consumer = self.broker.consumer(service.client.clone(), group, &topics, options)?;
        let (store, env) = (service.store.clone(), service.env.clone());
        let processor = Arc::new(TransactionalProcessor::new(store, handler, env.clone(), source));
        let config = RuntimeConfig::default();
        let runtime = Runtime::new(Box::new(consumer), processor, env, config)?;
        self.harness.spawn(runtime.run(self.shutdown.clone()));
        Ok(())
    }

    /// Starts all that a service needs: its relay, its handlers and its timers.
    ///
    /// # Errors
    /// When a bound is refused.
    pub fn drive(
        &self,
        service: &Service,
        source: &str,
        handlers: Vec<Arc<dyn Handler>>,
        due: Vec<Arc<dyn DueHandler>>,
    ) -> Fallible {
        self.relay(service)?;
        handlers.into_iter().try_for_each(|handler| self.consume(service, source, handler))?;
        due.into_iter().try_for_each(|handler| self.work(service, handler))
    }

    /// Lets `handler` act on durable timers that are due.
    ///
    /// # Errors
    /// When a bound is refused.
    pub fn work(&self, service: &Service, handler: Arc<dyn DueHandler>) -> Fallible {
        let (store, env) = (service.store.clone(), service.env.clone());
        let worker = Worker::new(store, handler, env, service.owner(), WorkerConfig::default())?;
        self.harness.spawn(worker.run(self.shutdown.clone()));
        Ok(())
    }
}

impl Service {
    /// What causes a change: here a user's request.
    #[must_use]
    pub fn cause(&self, user: &str) -> Cause {
        Cause {
            correlation: self.env.new_id::<CorrelationId>(),
            causation: None,
            actor: Actor::User(user.into()),
            traceparent: TraceParent::root(self.env.entropy.as_ref()),
        }
    }

    /// Returns who asks the shop for something, under an idempotency key.
    #[must_use]
    pub fn caller(&self, user_id: UserId, role: Role, key: &str) -> Caller {
        let principal = Principal { user_id, roles: [role].into() };
        let traceparent = TraceParent::root(self.env.entropy.as_ref());
        Caller { principal, traceparent, idempotency_key: Some(key.into()) }
    }

    /// Waits until `is_done`, looking every tenth of a second for half a minute.
    ///
    /// # Errors
    /// When it was not done by then.
    pub async fn until(&self, mut is_done: impl AsyncFnMut() -> Fallible<bool>) -> Fallible {
        for _ in 0..300 {
            if is_done().await? {
                return Ok(());
            }
            self.env.sleep(Duration::from_millis(100)).await;
        }
        Err("it was not done within half a minute".into())
    }

    /// Returns what a service of the shop is given.
    #[must_use]
    pub fn ports(&self) -> ServicePorts {
        let (store, views) = (self.store.clone(), self.store.clone());
        ServicePorts { store, views, env: self.env.clone() }
    }

    fn owner(&self) -> Owner {
        Owner::new(self.client.to_string())
    }
}
