//! One private Kafka for all tests of this binary, and names that no two tests share.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use amarra_kafka::KafkaConfig;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use testbed::{Kafka, KafkaOptions, Proxy};

/// How long anything may take before a test says that it never happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The server, its proxy, and the right to break it.
pub(crate) struct Bed {
    pub(crate) kafka: Kafka,
    turn: Mutex<()>,
    next: AtomicU64,
}

/// Returns the server, started by the first who asks.
pub(crate) fn bed() -> &'static Bed {
    static BED: OnceLock<Bed> = OnceLock::new();
    BED.get_or_init(|| {
        let options = KafkaOptions { proxied: true, ..KafkaOptions::default() };
        let kafka = Kafka::start(options).expect("a private Kafka");
        Bed { kafka, turn: Mutex::new(()), next: AtomicU64::new(0) }
    })
}

impl Bed {
    /// Waits for the server to be ours alone: whoever breaks it, or relies on it, holds this.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a prefix that no other test has, for topics, groups and sources.
    pub(crate) fn prefix(&self) -> String {
        format!("t{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The proxy before the only node.
    pub(crate) fn proxy(&self) -> &Proxy {
        self.kafka.proxy(1).expect("a proxy")
    }

    /// A configuration whose connections do not pass the proxy.
    pub(crate) fn direct(&self) -> KafkaConfig {
        KafkaConfig::new(&self.kafka.bootstrap())
    }

    /// A configuration whose connections all pass the proxy.
    pub(crate) fn proxied(&self) -> KafkaConfig {
        KafkaConfig::new(&self.kafka.proxied_bootstrap())
    }

    /// Returns the offset at which a partition ends, none while the broker does not tell.
    pub(crate) fn end_of(&self, topic: &str, partition: i32) -> Option<i64> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.kafka.bootstrap());
        let asking: BaseConsumer = client.create().expect("a client");
        asking.fetch_watermarks(topic, partition, PATIENCE).ok().map(|(_, end)| end)
    }

    /// Creates a topic and waits until the broker leads all of its partitions.
    pub(crate) async fn create(&self, topic: &str, partitions: u32, settings: &[(&str, &str)]) {
        create(&self.kafka.bootstrap(), topic, (partitions, 1), settings).await;
    }
}

/// Creates a topic of so many partitions and replicas, and waits until each has a leader.
pub(crate) async fn create(
    bootstrap: &str,
    topic: &str,
    (partitions, replicas): (u32, i32),
    settings: &[(&str, &str)],
) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", bootstrap);
    let admin: AdminClient<DefaultClientContext> = client.create().expect("an admin client");
    let partitions = i32::try_from(partitions).expect("partitions");
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas));
    let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
    let created = admin.create_topics([&new], &AdminOptions::new()).await.expect("an answer");
    created.into_iter().for_each(|topic| drop(topic.expect("a topic")));
    let led = || {
        let found = admin.inner().fetch_metadata(Some(topic), PATIENCE).ok()?;
        let topic = found.topics().first()?;
        let all = topic.partitions().len() == usize::try_from(partitions).ok()?;
        let led = topic.partitions().iter().all(|p| p.leader() >= 0 && p.error().is_none());
        (all && led).then_some(())
    };
    tokio::task::block_in_place(|| until("a leader for each partition", led));
}

/// Asks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a future on a runtime of its own.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    output
}
