//! The newest epoch of each shard, as a compacted topic remembers it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as DriverError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::client::{Quiet, client, whole};
use crate::config::KafkaConfig;

/// How long the follower waits for a record before it looks whether it is to end.
const FOLLOW: Duration = Duration::from_millis(100);
/// How long a claim waits for its report before it looks again.
const REPORT: Duration = whole(1);

/// Why an epoch is not admitted.
#[derive(Debug)]
pub(crate) enum FenceError {
    /// A newer one is known.
    Newer,
    /// The fence topic cannot be read or written.
    Unavailable(String),
}

/// Follows the fence topic, and adds to it.
///
/// # State
/// One record an epoch that opened: the key names the shard, the value is the epoch. A thread reads
/// them as they come, so that looking costs a question for the end of the topic and no reading.
/// Records are read uncommitted: a claim that somebody made and did not finish is a newer lease all
/// the same, and committed reads would wait for the open transactions of other shards.
pub(crate) struct Fences {
    config: KafkaConfig,
    shared: Arc<Shared>,
    /// Writes, and asks for the end: what the follower asked would wait behind its own fetch. None
    /// only while this is dropped.
    claimer: Option<BaseProducer<Quiet>>,
    /// The claimer has met a broker.
    met: AtomicBool,
}

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    grown: Condvar,
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    epochs: BTreeMap<String, Epochs>,
    /// The offset behind the last record read.
    next: i64,
    /// What the follower last failed with, until it reads again.
    failure: Option<String>,
}

/// The newest epoch of a shard, and the one that compaction would keep.
#[derive(Debug, Clone, Copy)]
struct Epochs {
    newest: u64,
    last: u64,
}

impl Fences {
    /// Starts to follow the fence topic; needs no broker yet.
    pub(crate) fn start(config: &KafkaConfig) -> Result<Self, DriverError> {
        let mut properties = client(config);
        properties
            .set("group.id", "amarra-fences")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_uncommitted")
            .set("fetch.error.backoff.ms", "20");
        let consumer: BaseConsumer<Quiet> = properties.create_with_context(Quiet)?;
        let timeout = config.request_timeout.as_millis().to_string();
        let mut properties = client(config);
        properties.set("acks", "all").set("linger.ms", "0").set("message.timeout.ms", timeout);
        let claimer = Some(properties.create_with_context(Quiet)?);
        let shared = Arc::<Shared>::default();
        let known = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("kafka fences".to_owned());
        let own = config.clone();
        let spawned = thread.spawn(move || {
            if begin(&consumer, &own, &known) {
                follow(&consumer, &known);
            }
        });
        spawned.map_err(|e| DriverError::ClientCreation(e.to_string()))?;
        Ok(Self { config: config.clone(), shared, claimer, met: AtomicBool::new(false) })
    }

    /// Tells whether a newer epoch of a shard is known without asking anybody.
    pub(crate) fn is_newer_known(&self, key: &str, epoch: u64) -> bool {
        self.shared.lock().epochs.get(key).is_some_and(|known| known.newest > epoch)
    }

    /// Asks whether a newer epoch is known to the cluster. Blocks.
    pub(crate) fn check(&self, key: &str, epoch: u64) -> Result<(), FenceError> {
        self.catch_up()?;
        let Some(known) = self.shared.lock().epochs.get(key).copied() else { return Ok(()) };
        if known.last < known.newest {
            // Two opened at once, the older one wrote later: compaction must not keep that.
            self.write(key, known.newest)?;
        }
        if known.newest > epoch { Err(FenceError::Newer) } else { Ok(()) }
    }

    /// Makes an epoch known, unless a newer one is. Blocks.
    pub(crate) fn claim(&self, key: &str, epoch: u64) -> Result<(), FenceError> {
        self.check(key, epoch)?;
        let known = self.shared.lock().epochs.get(key).copied();
        if known.is_some_and(|known| known.newest == epoch) {
            return Ok(());
        }
        self.write(key, epoch)
    }

    /// Waits until everything that was in the topic at the time of the call is known.
    fn catch_up(&self) -> Result<(), FenceError> {
        let Some(claimer) = &self.claimer else { return Ok(()) };
        let topic = &self.config.fence_topic;
        let until = Instant::now().checked_add(self.config.request_timeout);
        if !self.met.load(Ordering::Relaxed) {
            // Else librdkafka may put the question off for half a second.
            let met = claimer.client().fetch_metadata(Some(topic), self.config.request_timeout);
            met.map_err(|e| self.unavailable(&e))?;
            self.met.store(true, Ordering::Relaxed);
        }
        let asked = claimer.client().fetch_watermarks(topic, 0, self.config.request_timeout);
        let (low, high) = asked.map_err(|e| self.unavailable(&e))?;
        let mut known = self.shared.lock();
        while known.next < high && low < high {
            let now = Instant::now();
            let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
            if left.is_zero() {
                let why = known.failure.clone().unwrap_or_else(|| "it is read slowly".to_owned());
                return Err(FenceError::Unavailable(format!("{topic} cannot be read: {why}")));
            }
            let waited = self.shared.grown.wait_timeout(known, left);
            known = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    fn write(&self, key: &str, epoch: u64) -> Result<(), FenceError> {
        let Some(claimer) = &self.claimer else { return Ok(()) };
        let (outcome, value) = (Arc::<Outcome>::default(), epoch.to_string());
        let record = BaseRecord::with_opaque_to(&self.config.fence_topic, Arc::clone(&outcome));
        let record = record.partition(0).key(key).payload(&value);
        claimer.send(record).map_err(|(e, _)| self.unavailable(&e))?;
        // The driver reports in any case, at the latest after its own timeout.
        let reported = loop {
            claimer.poll(REPORT);
            if let Some(reported) = outcome.take() {
                break reported;
            }
        };
        reported.map_err(|e| self.unavailable(&e))
    }

    fn unavailable(&self, e: &DriverError) -> FenceError {
        let KafkaConfig { fence_topic, bootstrap, .. } = &self.config;
        let unknown = [
            RDKafkaErrorCode::UnknownTopicOrPartition,
            RDKafkaErrorCode::UnknownTopic,
            RDKafkaErrorCode::UnknownPartition,
        ];
        let missing = e.rdkafka_error_code().is_some_and(|code| unknown.contains(&code));
        FenceError::Unavailable(if missing {
            format!("topic {fence_topic} does not exist: create it with one partition, compacted")
        } else {
            format!("no answer about {fence_topic} from {bootstrap}: {e}")
        })
    }
}

impl fmt::Debug for Fences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fences").field("topic", &self.config.fence_topic).finish_non_exhaustive()
    }
}

impl Drop for Fences {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        let claimer = self.claimer.take();
        // Ending a client waits for its threads.
        std::thread::spawn(move || drop(claimer));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to read, once there is a topic; `false` when nobody is interested any more.
fn begin(consumer: &BaseConsumer<Quiet>, config: &KafkaConfig, shared: &Shared) -> bool {
    let assign = || {
        // An assignment before the first metadata waits half a second for them.
        consumer.fetch_metadata(Some(&config.fence_topic), config.request_timeout)?;
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(&config.fence_topic, 0, Offset::Beginning)?;
        consumer.assign(&partitions)
    };
    while !shared.stopped.load(Ordering::Acquire) {
        match assign() {
            Ok(()) => return true,
            Err(e) => shared.lock().failure = Some(e.to_string()),
        }
    }
    false
}

fn follow(consumer: &BaseConsumer<Quiet>, shared: &Shared) {
    while !shared.stopped.load(Ordering::Acquire) {
        let Some(polled) = consumer.poll(FOLLOW) else { continue };
        let mut known = shared.lock();
        match polled {
            Ok(message) => known.learn(message.key(), message.payload(), message.offset()),
            Err(e) => known.failure = Some(e.to_string()),
        }
        drop(known);
        shared.grown.notify_all();
    }
}

impl Known {
    /// Takes note of a record; what is no epoch of ours is passed over.
    fn learn(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, offset: i64) {
        self.next = offset.saturating_add(1);
        self.failure = None;
        let key = key.and_then(|key| std::str::from_utf8(key).ok());
        let value = value.and_then(|value| std::str::from_utf8(value).ok());
        let (Some(key), Some(Ok(epoch))) = (key, value.map(str::parse)) else { return };
        let first = Epochs { newest: epoch, last: epoch };
        let known = self.epochs.entry(key.to_owned()).or_insert(first);
        *known = Epochs { newest: known.newest.max(epoch), last: epoch };
    }
}

/// The delivery report of a claim.
#[derive(Debug, Default)]
pub(crate) struct Outcome(Mutex<Option<Result<(), DriverError>>>);

impl Outcome {
    fn take(&self) -> Option<Result<(), DriverError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ProducerContext for Quiet {
    type DeliveryOpaque = Arc<Outcome>;

    fn delivery(&self, result: &DeliveryResult<'_>, outcome: Self::DeliveryOpaque) {
        let result = result.as_ref().map(|_| ()).map_err(|(e, _)| e.clone());
        *outcome.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_epoch_counts_whatever_came_last() {
        let mut known = Known::default();
        for (offset, epoch) in (0..).zip(["3", "7", "5", "x"]) {
            known.learn(Some(b"orders-0"), Some(epoch.as_bytes()), offset);
        }
        known.learn(None, Some(b"9"), 4);
        known.learn(Some(b"orders-0"), None, 5);
        assert_eq!(known.next, 6);
        let epochs = known.epochs["orders-0"];
        assert_eq!((epochs.newest, epochs.last), (7, 5));
    }
}
