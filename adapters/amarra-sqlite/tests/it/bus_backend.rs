//! One bus file as the laws see it: it is dropped and opened again where a law crashes it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use amarra_conformance::{Backend, BrokerBackend, PublishLoss};
use amarra_core::Environment;
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::Owner;
use amarra_messaging::outbox::Lease;
use amarra_messaging::transport::Publish;
use amarra_messaging::{
    Consumer, ConsumerError, Group, Offset, Polled, PublishError, Session, Topic, Transport,
};
use amarra_sqlite::{BusConfig, MemberConfig, OpenError, SqliteBus, Synchronous, TopicConfig};
use async_trait::async_trait;

use crate::scratch::{Scratch, runtime};

const RECORD_BYTES_MAX: usize = 64 << 10;
const SESSION_TIMEOUT: Duration = Duration::from_secs(2);

/// A handle of the adapter, none once a crash took it.
type Held<T> = Arc<tokio::sync::Mutex<Option<Box<T>>>>;
/// A handle to take at the next crash.
type Taken<T> = Weak<tokio::sync::Mutex<Option<Box<T>>>>;

/// A member, to sit down again after a crash.
struct Seat {
    held: Taken<dyn Consumer>,
    group: Group,
    topics: Vec<Topic>,
}

struct Bed {
    path: PathBuf,
    cached: bool,
    life: Mutex<Option<SqliteBus>>,
    members: Mutex<Vec<Seat>>,
    sessions: Mutex<Vec<Taken<dyn Session>>>,
    losses: Mutex<BTreeMap<Topic, PublishLoss>>,
}

impl fmt::Debug for Bed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bed").field("path", &self.path).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bed {
    /// Opens the bus, once the one before has let go of the file.
    async fn open(&self) {
        let mut config = BusConfig::new(&self.path, Vec::new());
        config.record_bytes_max = RECORD_BYTES_MAX + 1024;
        if !self.cached {
            (config.cache_bytes, config.read_ahead) = (0, 64);
            config.synchronous = Synchronous::Normal;
        }
        let env = amarra_tokio::environment();
        for _ in 0..5000 {
            match SqliteBus::open(config.clone(), env.clone()).await {
                Ok(bus) => return *lock(&self.life) = Some(bus),
                Err(OpenError::Locked { .. }) => env.sleep(Duration::from_millis(1)).await,
                Err(e) => panic!("{e}"),
            }
        }
        panic!("the bus that was dropped never let go of its file");
    }

    fn bus(&self) -> SqliteBus {
        lock(&self.life).clone().expect("an open bus")
    }

    fn member(&self, group: &Group, topics: &[Topic]) -> Box<dyn Consumer> {
        let config = MemberConfig { session_timeout: SESSION_TIMEOUT };
        Box::new(self.bus().consumer(group.clone(), topics, config).expect("a member"))
    }
}

/// One fresh file; `CACHED` buses keep the newest records in memory.
#[derive(Debug)]
pub(crate) struct Bus<const CACHED: bool>(Arc<Bed>);

impl<const CACHED: bool> Backend for Bus<CACHED> {
    fn run<F: Future<Output = ()>>(law: impl FnOnce(Self) -> F) {
        let scratch = Scratch::new();
        let runtime = runtime();
        runtime.block_on(async {
            let bed = Arc::new(Bed {
                path: scratch.path("bus.sqlite"),
                cached: CACHED,
                life: Mutex::default(),
                members: Mutex::default(),
                sessions: Mutex::default(),
                losses: Mutex::default(),
            });
            bed.open().await;
            law(Self(bed)).await;
        });
        runtime.shutdown_background();
    }

    fn env(&self) -> Environment {
        amarra_tokio::environment()
    }
}

#[async_trait]
impl<const CACHED: bool> BrokerBackend for Bus<CACHED> {
    async fn create(&self, topic: &Topic, partitions: u32) {
        let topic = TopicConfig { topic: topic.clone(), partitions };
        self.0.bus().declare(topic).await.expect("a topic");
    }

    fn transport(&self, _: &str, source: &str) -> Arc<dyn Transport> {
        Arc::new(Relay { bed: Arc::clone(&self.0), source: source.into() })
    }

    async fn consumer(&self, topics: &[Topic], group: &Group, _: &Owner) -> Box<dyn Consumer> {
        let inner = Arc::new(tokio::sync::Mutex::new(Some(self.0.member(group, topics))));
        let (held, group, topics) = (Arc::downgrade(&inner), group.clone(), topics.to_vec());
        lock(&self.0.members).push(Seat { held, group, topics });
        Box::new(Member { inner })
    }

    async fn lose_publish(&self, topic: &Topic, loss: PublishLoss) {
        lock(&self.0.losses).insert(topic.clone(), loss);
    }

    fn record_bytes_max(&self) -> usize {
        RECORD_BYTES_MAX
    }

    fn session_timeout(&self) -> Duration {
        SESSION_TIMEOUT
    }

    async fn crash(&self) {
        let seats = std::mem::take(&mut *lock(&self.0.members));
        for member in seats.iter().filter_map(|seat| seat.held.upgrade()) {
            drop(member.lock().await.take());
        }
        let sessions = std::mem::take(&mut *lock(&self.0.sessions));
        for session in sessions.iter().filter_map(Weak::upgrade) {
            drop(session.lock().await.take());
        }
        drop(lock(&self.0.life).take());
        self.0.open().await;
        for seat in seats {
            if let Some(member) = seat.held.upgrade() {
                *member.lock().await = Some(self.0.member(&seat.group, &seat.topics));
                lock(&self.0.members).push(seat);
            }
        }
    }
}

/// The transport as one client reaches it, across restarts.
#[derive(Debug)]
struct Relay {
    bed: Arc<Bed>,
    source: Arc<str>,
}

#[async_trait]
impl Transport for Relay {
    async fn open(&self, lease: &Lease) -> Result<Box<dyn Session>, PublishError> {
        let session = self.bed.bus().transport(Arc::clone(&self.source)).open(lease).await?;
        let inner = Arc::new(tokio::sync::Mutex::new(Some(session)));
        lock(&self.bed.sessions).push(Arc::downgrade(&inner));
        Ok(Box::new(Line { bed: Arc::clone(&self.bed), inner }))
    }
}

struct Line {
    bed: Arc<Bed>,
    inner: Held<dyn Session>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

#[async_trait]
impl Session for Line {
    /// There is no connection to lose: the session of the test loses the call itself.
    async fn publish(&mut self, records: &[Publish]) -> Result<(), PublishError> {
        let gone = || PublishError::Unavailable { acked: 0, why: "the process was killed".into() };
        let loss = records.first().and_then(|p| lock(&self.bed.losses).remove(&p.topic));
        if loss == Some(PublishLoss::Request) {
            return Err(gone());
        }
        let published = self.inner.lock().await.as_mut().ok_or_else(gone)?.publish(records).await;
        if loss.is_some() && published.is_ok() { Err(gone()) } else { published }
    }
}

/// A member that a crash takes away: its process starts again with a fresh one.
struct Member {
    inner: Held<dyn Consumer>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").finish_non_exhaustive()
    }
}

fn gone() -> ConsumerError {
    ConsumerError::Unavailable { why: "the process was killed".to_owned() }
}

impl Member {
    fn now(&self, work: impl FnOnce(&mut dyn Consumer)) {
        let mut inner = self.inner.try_lock().expect("no poll under way");
        if let Some(consumer) = inner.as_mut() {
            work(consumer.as_mut());
        }
    }
}

#[async_trait]
impl Consumer for Member {
    async fn poll(&mut self, limit: usize, wait: Duration) -> Result<Polled, ConsumerError> {
        self.inner.lock().await.as_mut().ok_or_else(gone)?.poll(limit, wait).await
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, Offset)]) -> Result<(), ConsumerError> {
        self.inner.lock().await.as_mut().ok_or_else(gone)?.commit(offsets).await
    }

    fn pause(&mut self, partition: &TopicPartition) {
        self.now(|consumer| consumer.pause(partition));
    }

    fn resume(&mut self, partition: &TopicPartition) {
        self.now(|consumer| consumer.resume(partition));
    }

    fn seek(&mut self, partition: &TopicPartition, offset: Offset) {
        self.now(|consumer| consumer.seek(partition, offset));
    }
}
