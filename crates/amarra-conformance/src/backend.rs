//! What an adapter author implements so that the suites can run: one trait per family of ports.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::codec::Message;
use amarra_core::{Clock, Codec, Entropy, Environment, Timer};
use amarra_messaging::message::Owner;
use amarra_messaging::runtime::Processor;
use amarra_messaging::{Consumer, Group, Incoming, OutboxLog, Topic, Transport};
use amarra_store::{Command, Handler, ReadModel, Store};
use async_trait::async_trait;
use bytes::Bytes;

/// What every backend can do: run a law.
pub trait Backend: Sized {
    /// Makes a fresh instance that shares nothing with another, runs `law` on it to its end on the
    /// calling thread, and tears it down. A panic of the law goes through.
    ///
    /// An in-memory adapter calls [`Harness::block_on`](crate::Harness::block_on), one for a real
    /// server its runtime's `block_on`.
    fn run<F: Future<Output = ()>>(law: impl FnOnce(Self) -> F);

    /// Returns the ambient ports of the test itself; laws wait and draw by them.
    fn env(&self) -> Environment;

    /// How long a call is given before a law takes it for waiting. A slow machine cannot fail a law
    /// by it, it only makes the law look less closely.
    fn patience(&self) -> Duration {
        Duration::from_millis(100)
    }

    /// The time that laws take leases for. Long against one call, short against a test run.
    fn lease(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// A clock with its timer.
pub trait ClockBackend: Backend {
    /// Returns the clock under test.
    fn clock(&self) -> Arc<dyn Clock>;

    /// Returns the timer paired to it.
    fn timer(&self) -> Arc<dyn Timer>;

    /// Moves the wall clock by `micros`, where the backend can; a real machine's stays as it is.
    fn jump_wall(&self, micros: i64);
}

/// A source of randomness.
pub trait EntropyBackend: Backend {
    /// Returns the source seeded with `seed`; a source that takes no seed answers none.
    fn seeded(&self, seed: u64) -> Option<Arc<dyn Entropy>>;

    /// Returns a source as another process would have it.
    fn other(&self) -> Arc<dyn Entropy>;
}

/// A payload as an older release wrote it, and as it must read now.
#[derive(Debug, Clone)]
pub struct Golden<M> {
    /// The schema version it was written in.
    pub schema_version: u16,
    /// The bytes.
    pub data: Bytes,
    /// What they decode to.
    pub message: M,
}

/// A message type with its codec.
pub trait CodecBackend: Backend {
    /// The type.
    type Message: Message + Clone + PartialEq + std::fmt::Debug;

    /// Returns the codec with every upcast registered.
    fn codec(&self) -> Codec;

    /// Returns messages of the current version, at least one.
    fn samples(&self) -> Vec<Self::Message>;

    /// Returns at least one payload for each version before the current one.
    fn golden(&self) -> Vec<Golden<Self::Message>>;
}

/// Where the connection of a commit is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitLoss {
    /// Before the commit is sent: surely not applied.
    BeforeSend,
    /// On the way to the database: sent, not applied.
    Request,
    /// On the way back: applied, and the caller does not know.
    Answer,
}

/// A database behind the ports of `amarra-store` and the outbox, empty at first. Its inboxes are
/// those of [`inbox::config`](crate::inbox::config).
#[async_trait]
pub trait StoreBackend: Backend + Send + Sync {
    /// Returns the store as the process `client` reaches it. Asked twice for one name it may return
    /// one store or two.
    fn store(&self, client: &str) -> Arc<dyn Store>;

    /// Returns the relay's side of the outbox.
    fn outbox_log(&self) -> Arc<dyn OutboxLog>;

    /// Returns the read side.
    fn read_model(&self) -> Arc<dyn ReadModel>;

    /// Returns the bound on one outbox message: that many bytes of payload are accepted, and
    /// [`outbox_bytes_max`](Self::outbox_bytes_max) + 64 KiB are not.
    fn outbox_bytes_max(&self) -> usize;

    /// Loses the connection in the next commit of `client`.
    async fn lose_commit(&self, client: &str, loss: CommitLoss);

    /// Kills the database without a chance to write anything more, and starts it again.
    async fn crash(&self);

    /// Lets `d` pass by the database's clock.
    async fn pass(&self, d: Duration) {
        self.env().sleep(d).await;
    }
}

/// Which message of a publish is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishLoss {
    /// The request: the broker stores nothing of it.
    Request,
    /// The answer: the broker stores the records, and the caller does not know.
    Answer,
}

/// A broker behind the ports of `amarra-messaging`, without topics at first.
#[async_trait]
pub trait BrokerBackend: Backend + Send + Sync {
    /// Names a topic, so that instances on one broker do not share it.
    fn topic(&self, name: &str) -> Topic {
        Topic::from(name)
    }

    /// Creates a topic with `partitions` partitions, on as many brokers as the backend runs.
    async fn create(&self, topic: &Topic, partitions: u32);

    /// Returns the transport of the outbox `source` as the process `client` reaches the broker.
    fn transport(&self, client: &str, source: &str) -> Arc<dyn Transport>;

    /// Joins a group as one member.
    async fn consumer(&self, topics: &[Topic], group: &Group, member: &Owner) -> Box<dyn Consumer>;

    /// Loses the request or answer of the next publish to `topic`.
    async fn lose_publish(&self, topic: &Topic, loss: PublishLoss);

    /// Returns the bound on one record: a value of that many bytes is accepted, one with 64 KiB
    /// more is refused.
    fn record_bytes_max(&self) -> usize;

    /// Tells whether the transport publishes each call as one transaction, see law TRN-7.
    fn transactional(&self) -> bool {
        false
    }

    /// After how long the broker takes a silent member for dead.
    fn session_timeout(&self) -> Duration;

    /// Kills every broker without a chance to write anything more, and starts them again.
    async fn crash(&self);
}

/// A processor over a store.
pub trait ProcessorBackend: StoreBackend {
    /// Returns a processor of process `client` that applies what `handler` makes of messages.
    fn processor(&self, client: &str, handler: Arc<dyn Handler>) -> Arc<dyn Processor>;
}

/// A handler of some service, over a store.
#[async_trait]
pub trait HandlerBackend: StoreBackend {
    /// Returns the handler under test.
    fn handler(&self) -> Arc<dyn Handler>;

    /// Brings the store to a state in which [`message`](Self::message) makes sense, and returns it.
    /// Handling it must change something.
    async fn message(&self) -> Incoming;
}

/// A command of some service, over a store.
#[async_trait]
pub trait CommandBackend: StoreBackend {
    /// The command's type.
    type Command: Command;

    /// Brings the store to a state in which a command makes sense, and returns it. Running it must
    /// change something.
    async fn command(&self) -> Self::Command;
}
