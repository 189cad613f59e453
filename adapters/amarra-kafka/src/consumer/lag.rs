//! How many messages a member's group has not applied yet, for whoever looks after it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amarra_messaging::ConsumerError;
use amarra_messaging::Topic;
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::Partition;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError as DriverError, KafkaResult};
use rdkafka::topic_partition_list::Offset as NativeOffset;
use tokio::task::spawn_blocking;

use super::context::Client;
use super::shared::Shared;
use super::unavailable;
use crate::client::{Quiet, client};
use crate::config::KafkaConfig;
use crate::error::{KafkaError, unmakeable};

/// Asks for the ends of partitions, over connections of its own.
///
/// On those of a member the question would wait behind the fetch that the broker holds. One serves
/// all members of a process, and costs nothing while nobody asks.
#[derive(Clone)]
pub struct KafkaEnds {
    asking: Arc<BaseConsumer<Quiet>>,
}

impl fmt::Debug for KafkaEnds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KafkaEnds")
    }
}

impl KafkaEnds {
    /// Makes the client, which connects on its own; no broker has to be there yet.
    ///
    /// # Errors
    /// [`KafkaError`] says which field is out of range, or what the client library refused.
    pub fn new(config: &KafkaConfig) -> Result<Self, KafkaError> {
        config.validate()?;
        let made = client(config).create_with_context(Quiet);
        Ok(Self { asking: Arc::new(made.map_err(|e| unmakeable(&e))?) })
    }
}

/// Tells how far a group is behind in the partitions of one of its members.
#[derive(Debug, Clone)]
pub struct KafkaLag {
    shared: Arc<Shared>,
    ends: KafkaEnds,
}

impl KafkaLag {
    pub(super) fn new(shared: Arc<Shared>, ends: KafkaEnds) -> Self {
        Self { shared, ends }
    }

    /// Counts, for each partition that the member has now, the offsets from what the group
    /// committed to the partition's end (its high watermark); where nothing was committed, from
    /// the first record that is kept.
    ///
    /// A count includes what was handed out and is not committed yet, and the marks that end
    /// transactions: where they are used, a partition that was read to its end is one behind.
    ///
    /// # Errors
    /// [`ConsumerError::Unavailable`] when the brokers did not tell within `patience`.
    ///
    /// # Cancellation
    /// The questions are asked to their end on a thread that may block.
    pub async fn read(
        &self,
        patience: Duration,
    ) -> Result<Vec<(TopicPartition, u64)>, ConsumerError> {
        let Some(member) = self.shared.client() else { return Ok(Vec::new()) };
        let asking = Arc::clone(&self.ends.asking);
        let counted = spawn_blocking(move || count(&member, &asking, patience)).await;
        let counted = counted.map_err(|e| unavailable(e.to_string()))?;
        counted.map_err(|e| unavailable(format!("the lag is not known: {e}")))
    }
}

fn count(
    member: &Client,
    asking: &BaseConsumer<Quiet>,
    patience: Duration,
) -> KafkaResult<Vec<(TopicPartition, u64)>> {
    let began = Instant::now();
    let left = || patience.saturating_sub(began.elapsed());
    let assigned = member.assignment()?;
    if assigned.count() == 0 {
        return Ok(Vec::new());
    }
    let committed = member.committed_offsets(assigned, left())?;
    let mut lags = Vec::with_capacity(committed.count());
    for element in committed.elements() {
        if left().is_zero() {
            return Err(DriverError::Canceled);
        }
        let (topic, partition) = (element.topic(), element.partition());
        let (low, high) = asking.fetch_watermarks(topic, partition, left())?;
        let from = match element.offset() {
            NativeOffset::Offset(offset) => offset.max(low),
            _ => low,
        };
        let partition = Partition(u32::try_from(partition).unwrap_or_default());
        let partition = TopicPartition { topic: Topic::from(topic), partition };
        lags.push((partition, u64::try_from(high.saturating_sub(from)).unwrap_or(0)));
    }
    Ok(lags)
}
