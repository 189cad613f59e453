//! The private Kafka as the laws of publishing see it: names of their own, every client behind the
//! proxy, and a reader that belongs to no group.

use std::collections::BTreeMap;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amarra_conformance::{Backend, BrokerBackend, PublishLoss};
use amarra_core::Environment;
use amarra_kafka::{KafkaConfig, KafkaTransport, Mode};
use amarra_messaging::message::Owner;
use amarra_messaging::{Consumer, Group, Topic, Transport};
use async_trait::async_trait;
use testbed::{CutAt, Direction};

use crate::bed::{Bed, bed, block_on};
use crate::reader::Reader;

/// A mode of publishing, as a type.
pub(crate) trait Modal: Send + Sync + 'static {
    const MODE: Mode;
}

pub(crate) struct Transactional;
pub(crate) struct Idempotent;

impl Modal for Transactional {
    const MODE: Mode = Mode::Transactional;
}

impl Modal for Idempotent {
    const MODE: Mode = Mode::Idempotent;
}

/// The bytes of a value that the laws publish at the most.
const VALUE_MAX: usize = 64 << 10;
/// What a record of theirs has beside its value, at the most.
const BESIDE_MAX: usize = 1 << 10;
/// The header that every record of the laws has.
const MARK: &[u8] = b"number";

/// One law's part of the server.
pub(crate) struct Publishing<M> {
    bed: &'static Bed,
    prefix: String,
    transports: Mutex<BTreeMap<(String, String), Arc<KafkaTransport>>>,
    mode: PhantomData<M>,
}

impl<M: Modal> Publishing<M> {
    fn config(&self) -> KafkaConfig {
        KafkaConfig {
            mode: M::MODE,
            fence_topic: format!("{}-fences", self.prefix),
            record_bytes_max: VALUE_MAX + BESIDE_MAX,
            ..self.bed.proxied()
        }
    }
}

impl<M: Modal> Backend for Publishing<M> {
    fn run<F: Future<Output = ()>>(law: impl FnOnce(Self) -> F) {
        let bed = bed();
        let _turn = bed.turn();
        bed.proxy().heal();
        let prefix = bed.prefix();
        block_on(async {
            let fences = format!("{prefix}-fences");
            bed.create(&fences, 1, &[("cleanup.policy", "compact")]).await;
            law(Self { bed, prefix, transports: Mutex::default(), mode: PhantomData }).await;
        });
        bed.proxy().heal();
    }

    fn env(&self) -> Environment {
        amarra_tokio::environment()
    }
}

#[async_trait]
impl<M: Modal> BrokerBackend for Publishing<M> {
    fn topic(&self, name: &str) -> Topic {
        Topic::from(format!("{}-{name}", self.prefix).as_str())
    }

    fn transactional(&self) -> bool {
        M::MODE == Mode::Transactional
    }

    async fn create(&self, topic: &Topic, partitions: u32) {
        self.bed.create(topic.as_str(), partitions, &[]).await;
    }

    fn transport(&self, client: &str, source: &str) -> Arc<dyn Transport> {
        let mut transports = self.transports.lock().unwrap();
        let key = (client.to_owned(), source.to_owned());
        let made = transports.entry(key).or_insert_with(|| {
            let source = format!("{}-{source}", self.prefix);
            Arc::new(KafkaTransport::new(self.config(), &source).expect("a transport"))
        });
        made.clone()
    }

    async fn consumer(&self, topics: &[Topic], _: &Group, _: &Owner) -> Box<dyn Consumer> {
        let bootstrap = self.bed.kafka.bootstrap();
        Box::new(tokio::task::block_in_place(|| Reader::open(&bootstrap, topics)))
    }

    async fn lose_publish(&self, _: &Topic, loss: PublishLoss) {
        let at = match loss {
            PublishLoss::Request => CutAt::Before,
            PublishLoss::Answer => CutAt::Answer,
        };
        // Whether it cut shows in what the publish answers, or in nothing at all.
        let _ = self.bed.proxy().cut_when(Direction::Up, MARK, at);
    }

    fn record_bytes_max(&self) -> usize {
        VALUE_MAX
    }

    fn session_timeout(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn crash(&self) {
        tokio::task::block_in_place(|| self.bed.kafka.crash()).expect("the server back");
    }
}
