//! The publishing port over librdkafka: a producer a session, fenced by a topic and by the broker.

mod flight;
mod places;
mod producer;
mod progress;
mod session;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use amarra_messaging::message::Epoch;
use amarra_messaging::outbox::Lease;
use amarra_messaging::{ConfigError, PublishError, Session, Transport};
use async_trait::async_trait;
use rdkafka::error::{KafkaError as DriverError, RDKafkaErrorCode};
use rdkafka::producer::Producer;
use tokio::task::{JoinHandle, spawn_blocking};

use self::producer::{Client, Pace, properties};
use self::progress::Reader;
use self::session::KafkaSession;
use crate::config::{KafkaConfig, Mode};
use crate::error::is_fenced;
use crate::fence::{FenceError, Fences};

/// How long to wait for a transactional id before looking why it does not come. librdkafka asks
/// again only after half a second when the coordinator still ends the transaction of a predecessor;
/// a new client asks at once.
const TAKE: Duration = Duration::from_millis(100);

/// Opens publishing sessions for the shards of one outbox.
///
/// It follows the fence topic from the start on, in a thread that ends with the last clone.
///
/// # Laws
/// All of `Transport` and `Session` in [`Mode::Transactional`]. In [`Mode::Idempotent`] a stale
/// epoch does not open, and an open session of one finds out by the fence topic, soon rather than
/// at once: TRN-1 and TRN-5 hold after that. What it handed over before may be stored for
/// [`KafkaConfig::delivery_timeout`] longer, and what the network keeps for longer still.
#[derive(Debug, Clone)]
pub struct KafkaTransport {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: KafkaConfig,
    source: Arc<str>,
    fences: Fences,
    /// One opening a shard at a time: one that nobody waits for any more must not take the
    /// transactional id from the next.
    turns: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
    /// Openings that nobody waits for any more, by shard; the next one goes on with it.
    left: Mutex<BTreeMap<String, Opening>>,
}

/// A client that is being made.
#[derive(Debug)]
struct Opening {
    epoch: Epoch,
    pace: Pace,
    client: JoinHandle<Result<Client, Unopened>>,
}

impl KafkaTransport {
    /// Makes the transport of the outbox `source`; no broker has to be there yet.
    ///
    /// # Errors
    /// [`ConfigError`] names the field; `extra` when librdkafka refuses a property.
    pub fn new(config: KafkaConfig, source: &str) -> Result<Self, ConfigError> {
        config.validate()?;
        ConfigError::unless(!source.is_empty(), "source", "the name of an outbox")?;
        let extra = ConfigError { field: "extra", must: "properties that librdkafka takes" };
        properties(&config, source, Pace::default()).create_native_config().map_err(|_| extra)?;
        let fences = Fences::start(&config).map_err(|_| extra)?;
        let (turns, left) = (Mutex::default(), Mutex::default());
        Ok(Self { shared: Arc::new(Shared { config, source: source.into(), fences, turns, left }) })
    }
}

#[async_trait]
impl Transport for KafkaTransport {
    async fn open(&self, lease: &Lease) -> Result<Box<dyn Session>, PublishError> {
        let mut session = KafkaSession::new(Arc::clone(&self.shared), lease.clone());
        session.connect().await?;
        Ok(Box::new(session))
    }
}

/// Why a client could not be made.
#[derive(Debug)]
enum Unopened {
    Fenced,
    Unavailable(String),
}

impl From<FenceError> for Unopened {
    fn from(e: FenceError) -> Self {
        match e {
            FenceError::Newer => Self::Fenced,
            FenceError::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

impl Shared {
    /// Names a shard in the fence topic, and to the transaction coordinator.
    fn name(&self, lease: &Lease) -> String {
        format!("{}-{}", self.source, lease.shard)
    }

    /// Begins to make the client of a lease, or goes on with what another session began.
    fn opening(self: &Arc<Self>, name: &str, lease: &Lease, pace: Pace) -> Opening {
        let left = lock(&self.left).remove(name);
        if let Some(left) = left.filter(|left| (left.epoch, left.pace) == (lease.epoch, pace)) {
            return left;
        }
        let (shared, of) = (Arc::clone(self), lease.clone());
        let client = spawn_blocking(move || shared.open(&of, pace));
        Opening { epoch: lease.epoch, pace, client }
    }

    /// Makes the client of a lease. Blocks.
    ///
    /// The claim is durable before the transactional id is taken, and looked for again afterwards:
    /// whoever takes the id later than a newer epoch made its claim finds that claim.
    fn open(&self, lease: &Lease, pace: Pace) -> Result<Client, Unopened> {
        let (name, epoch) = (self.name(lease), lease.epoch.0);
        let turn = Arc::clone(lock(&self.turns).entry(name.clone()).or_default());
        let _turn = lock(&turn);
        // It connects while the claim is made.
        let client = self.start(&name, pace)?;
        self.fences.claim(&name, epoch)?;
        let client = match self.config.mode {
            Mode::Idempotent => {
                self.meet(&client)?;
                client
            }
            Mode::Transactional => self.take_over(client, &name, pace)?,
        };
        self.fences.check(&name, epoch)?;
        Ok(client)
    }

    fn start(&self, name: &str, pace: Pace) -> Result<Client, Unopened> {
        Client::start(&self.config, name, pace).map_err(|e| self.unavailable(&e))
    }

    /// Waits until a client has met a broker: what it is asked before, librdkafka puts off for half
    /// a second.
    fn meet(&self, client: &Client) -> Result<(), Unopened> {
        let Some(native) = client.native() else { return Ok(()) };
        let topic = Some(self.config.fence_topic.as_str());
        let met = native.client().fetch_metadata(topic, self.config.request_timeout);
        met.map(drop).map_err(|e| self.unavailable(&e))
    }

    /// Takes the transactional id of a shard, and asks how far it is committed.
    fn take_over(&self, client: Client, name: &str, pace: Pace) -> Result<Client, Unopened> {
        let reader = Reader::start(&self.config, name).map_err(|e| self.unavailable(&e))?;
        // First, because only then the transaction of a predecessor has ended.
        let mut client = self.take(client, name, pace)?;
        client.progress = Some(reader.read().map_err(|e| self.unavailable(&e))?);
        Ok(client)
    }

    /// Takes a transactional id with a client, or with another one in its place.
    fn take(&self, client: Client, name: &str, pace: Pace) -> Result<Client, Unopened> {
        let (started, mut client) = (Instant::now(), client);
        loop {
            self.meet(&client)?;
            let left = self.config.request_timeout.saturating_sub(started.elapsed());
            let taken = match client.native() {
                Some(native) => native.init_transactions(TAKE.min(left)),
                None => Err(DriverError::Canceled),
            };
            match taken {
                Ok(()) => return Ok(client),
                Err(e) if left.is_zero() || !may_retry(&e) => return Err(self.unavailable(&e)),
                // No answer yet: if another client asked now, a late answer would fence it.
                Err(e) if is_pending(&e) => {}
                Err(_) => client = self.start(name, pace)?,
            }
        }
    }

    fn unavailable(&self, e: &DriverError) -> Unopened {
        Unopened::Unavailable(format!("no answer from {}: {e}", self.config.bootstrap))
    }
}

/// Tells whether another try at taking a transactional id may go better.
fn may_retry(e: &DriverError) -> bool {
    let retriable = matches!(e, DriverError::Transaction(e) if e.is_retriable());
    let concurrent = e.rdkafka_error_code() == Some(RDKafkaErrorCode::ConcurrentTransactions);
    is_pending(e) || retriable || concurrent || e.rdkafka_error_code().is_some_and(is_fenced)
}

/// Tells whether the coordinator has not answered yet.
fn is_pending(e: &DriverError) -> bool {
    e.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
