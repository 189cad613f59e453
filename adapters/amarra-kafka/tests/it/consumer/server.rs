//! The Kafkas of the consumer's tests, apart from that of the transport's, which cuts and fences.
//!
//! The laws wait for sessions to end most of the time, so they share a server side by side; who
//! breaks one takes the other, and has it alone.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use amarra_conformance::{Backend, BrokerBackend, PublishLoss};
use amarra_core::Environment;
use amarra_kafka::consumer::Protocol;
use amarra_kafka::{ConsumerConfig, KafkaConfig, KafkaConsumer, KafkaTransport};
use amarra_messaging::message::Owner;
use amarra_messaging::{Consumer, Topic, Transport};
use async_trait::async_trait;
use testbed::{Kafka, KafkaOptions, Proxy};
use tokio::sync::{Mutex, MutexGuard};

use crate::bed::{block_on, create};

/// The time after which a silent member of the tests is replaced; the testbed's broker has the
/// same for the protocol that shares at the broker.
pub(crate) const SESSION: Duration = Duration::from_secs(3);

/// A server, and names on it that no two tests share.
pub(crate) struct Server {
    pub(crate) kafka: Kafka,
    turn: Mutex<()>,
    next: AtomicU64,
}

fn start() -> Server {
    let options = KafkaOptions { proxied: true, ..KafkaOptions::default() };
    let kafka = Kafka::start(options).expect("a private Kafka");
    Server { kafka, turn: Mutex::default(), next: AtomicU64::new(0) }
}

impl Server {
    /// Makes a prefix that no other test has, for topics and groups.
    pub(crate) fn prefix(&self) -> String {
        format!("c{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn config(&self) -> KafkaConfig {
        KafkaConfig::new(&self.kafka.bootstrap())
    }

    /// The proxy before the server, for one test at a time.
    pub(crate) async fn proxied(&self) -> (&Proxy, MutexGuard<'_, ()>) {
        let turn = self.turn.lock().await;
        (self.kafka.proxy(1).expect("a proxy"), turn)
    }

    /// Kills the server and starts it again.
    pub(crate) fn crash(&self) {
        tokio::task::block_in_place(|| self.kafka.crash()).expect("the server back");
    }
}

/// Runs a test next to others that leave the server whole.
pub(crate) fn shared<F: Future>(test: impl FnOnce(&'static Server) -> F) -> F::Output {
    static SERVER: LazyLock<Server> = LazyLock::new(start);
    let server = &*SERVER;
    block_on(async { test(server).await })
}

/// Runs a test that breaks the server.
pub(crate) fn alone<F: Future>(test: impl FnOnce(&'static Server) -> F) -> F::Output {
    static SERVER: LazyLock<Server> = LazyLock::new(start);
    let server = &*SERVER;
    block_on(async {
        let _turn = server.turn.lock().await;
        test(server).await
    })
}

/// Returns settings under which a rebalance takes a moment and a session a few seconds.
pub(crate) fn quick(protocol: Protocol) -> ConsumerConfig {
    ConsumerConfig {
        protocol,
        session_timeout: SESSION,
        heartbeat_interval: Duration::from_millis(100),
        max_poll_interval: SESSION,
        ..ConsumerConfig::default()
    }
}

/// A protocol, as a type.
pub(crate) trait Kind: Send + Sync + 'static {
    const PROTOCOL: Protocol;
}

pub(crate) struct Classic;
pub(crate) struct BrokerSide;

impl Kind for Classic {
    const PROTOCOL: Protocol = Protocol::Classic;
}

impl Kind for BrokerSide {
    const PROTOCOL: Protocol = Protocol::Consumer;
}

/// One law's part of the server.
pub(crate) struct Group<K> {
    server: &'static Server,
    prefix: String,
    kind: PhantomData<K>,
}

impl<K: Kind> Group<K> {
    fn transport_config(&self) -> KafkaConfig {
        let fence_topic = format!("{}-fences", self.prefix);
        KafkaConfig { fence_topic, ..self.server.config() }
    }
}

impl<K: Kind> Backend for Group<K> {
    fn run<F: Future<Output = ()>>(law: impl FnOnce(Self) -> F) {
        // The laws that crash it say so in their names.
        let name = std::any::type_name_of_val(&law);
        let run = async |server: &'static Server| {
            let prefix = server.prefix();
            let fences = format!("{prefix}-fences");
            let compacted = [("cleanup.policy", "compact")];
            create(&server.kafka.bootstrap(), &fences, (1, 1), &compacted).await;
            law(Self { server, prefix, kind: PhantomData }).await;
        };
        if name.contains("crash") { alone(run) } else { shared(run) }
    }

    fn env(&self) -> Environment {
        amarra_tokio::environment()
    }
}

#[async_trait]
impl<K: Kind> BrokerBackend for Group<K> {
    fn topic(&self, name: &str) -> Topic {
        Topic::from(format!("{}-{name}", self.prefix).as_str())
    }

    async fn create(&self, topic: &Topic, partitions: u32) {
        create(&self.server.kafka.bootstrap(), topic.as_str(), (partitions, 1), &[]).await;
    }

    fn transport(&self, _: &str, source: &str) -> Arc<dyn Transport> {
        let source = format!("{}-{source}", self.prefix);
        Arc::new(KafkaTransport::new(self.transport_config(), &source).expect("a transport"))
    }

    async fn consumer(
        &self,
        topics: &[Topic],
        group: &amarra_messaging::Group,
        _: &Owner,
    ) -> Box<dyn Consumer> {
        let group = format!("{}-{group}", self.prefix).as_str().into();
        let config = quick(K::PROTOCOL);
        let consumer = KafkaConsumer::new(&self.server.config(), group, topics, config);
        Box::new(consumer.expect("a member"))
    }

    async fn lose_publish(&self, _: &Topic, _: PublishLoss) {}

    fn record_bytes_max(&self) -> usize {
        900_000
    }

    fn session_timeout(&self) -> Duration {
        SESSION
    }

    async fn crash(&self) {
        self.server.crash();
    }
}
