//! The consuming port over librdkafka: one thread a member, which alone serves the library.

mod config;
mod context;
mod lag;
mod lane;
mod member;
mod native;
mod record;
mod shared;
mod state;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::{ConfigError, Consumer, ConsumerError, Group, Offset, Polled, Topic};
use async_trait::async_trait;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError as DriverError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset as NativeOffset, TopicPartitionList};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout_at};

pub use config::{ConsumerConfig, Isolation, Protocol};
pub use lag::{KafkaEnds, KafkaLag};

use self::context::Client;
use self::lane::Bounds;
use self::member::{Member, Plan};
use self::shared::Shared;
use crate::config::KafkaConfig;
use crate::error::{KafkaError, unmakeable};

/// The pause before a commit that met a rebalance is tried again.
const AGAIN: Duration = Duration::from_millis(20);
/// The longest that a poll waits, whatever it is told.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// A member of a consumer group.
///
/// It joins at its first poll. The library is served only while a poll or commit waits: who stops
/// polling for `max_poll_interval` loses its partitions, though its heart beats on. A partition
/// that the group takes away is given up only once a poll has told it, so that the next owner
/// never reads before the last one knows, and what was in flight until then may be committed.
/// Dropping the member leaves the group, from a thread of its own, see [`left`](Self::left); one
/// with an `instance_id` stays in it until its session ends.
///
/// Any record is delivered, whatever a foreign producer wrote: a key, a value or a header's value
/// that Kafka leaves out is empty, and a header whose name is not UTF-8 becomes
/// `amarra-unreadable-header`. Debezium's `id`, which our transport adds, is taken off again.
///
/// Where the committed offset is gone with its records, reading starts at the first record there
/// is. A commit takes some milliseconds, for which Kafka's coordinator collects others
/// (`group.coordinator.append.linger.ms`).
///
/// # Laws
/// All of `Consumer` hold, with either protocol.
///
/// # Errors
/// A poll fails once for each thing that went wrong, after whatever was read before: all brokers
/// are away, a topic is missing, the group refuses the member. The member goes on by itself when
/// it can. It cannot where another took its `instance_id`: then every poll fails.
///
/// # Example
/// ```no_run
/// use amarra_kafka::{ConsumerConfig, KafkaConfig, KafkaConsumer};
///
/// let kafka = KafkaConfig::new("localhost:9092");
/// let topics = ["orders".into()];
/// KafkaConsumer::new(&kafka, "payments".into(), &topics, ConsumerConfig::default())?;
/// # Ok::<(), amarra_kafka::KafkaError>(())
/// ```
#[derive(Debug)]
pub struct KafkaConsumer {
    shared: Arc<Shared>,
    request_timeout: Duration,
    /// The commit on its way. Another waits for it, lest the older one be applied last.
    commit: Option<JoinHandle<KafkaResult<()>>>,
}

impl KafkaConsumer {
    /// Makes a member of `group` that reads `topics`.
    ///
    /// # Errors
    /// [`KafkaError`] says which field is out of range, or what the client library refused.
    pub fn new(
        kafka: &KafkaConfig,
        group: Group,
        topics: &[Topic],
        config: ConsumerConfig,
    ) -> Result<Self, KafkaError> {
        kafka.validate()?;
        config.validate()?;
        ConfigError::unless(!topics.is_empty(), "topics", "at least one")?;
        ConfigError::unless(!group.as_str().is_empty(), "group", "a name")?;
        let bounds =
            Bounds { records: config.partition_records_max, bytes: config.partition_bytes_max };
        let (properties, fallback) = native::properties(kafka, &group, &config);
        let plan = Plan {
            config: properties,
            fallback,
            topics: topics.to_vec(),
            batch_bytes: config.partition_bytes_max.div_ceil(4),
            overdue: config.max_poll_interval.checked_div(4).unwrap_or_default(),
        };
        let client = plan.client().map_err(|e| unmakeable(&e))?;
        let shared = Arc::new(Shared::new(bounds));
        let member = Member::new(Arc::clone(&shared), plan);
        let builder = thread::Builder::new().name("kafka-consumer".to_owned());
        let thread = builder
            .spawn(move || member.run(client))
            .map_err(|e| KafkaError::Client { why: e.to_string() })?;
        let _ = shared.thread.set(thread.thread().clone());
        Ok(Self { shared, request_timeout: kafka.request_timeout, commit: None })
    }

    /// Returns what resolves once this member, dropped by then, has left the group.
    ///
    /// A process that ends before leaves it to the session to time out. It takes a moment, and as
    /// long as a commit is on its way; without a broker, about `request_timeout`.
    pub fn left(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut left = self.shared.left.subscribe();
        async move { drop(left.wait_for(|left| *left).await) }
    }

    /// Returns what tells how far the group is behind in this member's partitions, for as long as
    /// the member is there; it keeps nobody in the group.
    #[must_use]
    pub fn lag(&self, ends: &KafkaEnds) -> KafkaLag {
        KafkaLag::new(Arc::clone(&self.shared), ends.clone())
    }

    async fn commit_until(
        &mut self,
        offsets: &[(TopicPartition, Offset)],
        until: Instant,
    ) -> Result<(), ConsumerError> {
        loop {
            self.settle(until).await?;
            let client = self.shared.committer(offsets, until)?;
            let tpl = native(offsets);
            self.commit = Some(tokio::task::spawn_blocking(move || commit(&client, &tpl)));
            match self.settle(until).await {
                Ok(Some(Err(e))) if is_rebalance(&e) => sleep(AGAIN).await,
                Ok(Some(Err(e))) if is_expelled(&e) => return Err(ConsumerError::Fenced),
                Ok(Some(Err(e))) => return Err(unavailable(e.to_string())),
                Ok(_) => return Ok(()),
                Err(e) => return Err(e),
            }
            if Instant::now() >= until {
                // The generation passed, and nothing says that this member is in the next one.
                return Err(ConsumerError::Fenced);
            }
        }
    }

    /// Waits for the commit on its way.
    async fn settle(&mut self, until: Instant) -> Result<Option<KafkaResult<()>>, ConsumerError> {
        let Some(commit) = &mut self.commit else { return Ok(None) };
        let settled = timeout_at(until.into(), commit).await;
        let settled = settled.map_err(|_| unavailable("the commit is not answered".to_owned()))?;
        self.commit = None;
        Ok(Some(settled.unwrap_or(Err(DriverError::Canceled))))
    }
}

const LOST: RDKafkaErrorCode = RDKafkaErrorCode::AssignmentLost;

/// Commits from a thread that may block; nothing but this call tells how it ended.
fn commit(client: &Client, tpl: &TopicPartitionList) -> KafkaResult<()> {
    if client.assignment_lost() {
        return Err(DriverError::ConsumerCommit(LOST));
    }
    match client.commit(tpl, CommitMode::Sync) {
        Err(DriverError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
        answer => answer,
    }
}

/// Tells whether a commit met another generation than the member's: it is in the next one soon, or
/// learns that it is in none.
fn is_rebalance(e: &DriverError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        e.rdkafka_error_code(),
        Some(
            Code::RebalanceInProgress
                | Code::IllegalGeneration
                | Code::UnknownMemberId
                | Code::FencedMemberEpoch
                | Code::StaleMemberEpoch
        )
    )
}

/// Tells whether the member that committed is none any more.
fn is_expelled(e: &DriverError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(e.rdkafka_error_code(), Some(LOST | Code::Fatal | Code::FencedInstanceId))
}

fn native(offsets: &[(TopicPartition, Offset)]) -> TopicPartitionList {
    let mut tpl = TopicPartitionList::with_capacity(offsets.len());
    for (TopicPartition { topic, partition }, offset) in offsets {
        let partition = i32::try_from(partition.0).unwrap_or(i32::MAX);
        let offset = NativeOffset::Offset(i64::try_from(offset.0).unwrap_or(i64::MAX));
        // Only an offset that Kafka has no number for is refused, and ours have one.
        let _ = tpl.add_partition_offset(topic.as_str(), partition, offset);
    }
    tpl
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn poll(&mut self, limit: usize, wait: Duration) -> Result<Polled, ConsumerError> {
        let now = Instant::now();
        let until = now.checked_add(wait.min(WAIT_MAX)).unwrap_or(now);
        loop {
            if let Some(polled) = self.shared.take(limit, until).map_err(unavailable)? {
                return Ok(polled);
            }
            // What is taken is returned at once: nothing is in hand while this waits.
            if timeout_at(until.into(), self.shared.changed.notified()).await.is_err() {
                let last = self.shared.take_last(limit).map_err(unavailable)?;
                return Ok(last.unwrap_or(Polled::Idle));
            }
        }
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, Offset)]) -> Result<(), ConsumerError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let until = now.checked_add(self.request_timeout).unwrap_or(now);
        let answer = self.commit_until(offsets, until).await;
        self.shared.committed();
        answer
    }

    fn pause(&mut self, partition: &TopicPartition) {
        self.shared.tell_thread(|state| state.pause(partition));
    }

    fn resume(&mut self, partition: &TopicPartition) {
        self.shared.tell_thread(|state| state.resume(partition));
    }

    fn seek(&mut self, partition: &TopicPartition, offset: Offset) {
        self.shared.tell_thread(|state| state.seek(partition, offset));
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

fn unavailable(why: String) -> ConsumerError {
    ConsumerError::Unavailable { why }
}
