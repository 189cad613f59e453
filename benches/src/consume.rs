//! Reads a topic to its end and counts what came twice, out of order or not at all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use amarra_messaging::Topic;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::Failure;

/// How long nothing may come before a topic counts as read.
const QUIET: Duration = Duration::from_secs(5);

/// Makes a consumer of every partition, from the start; it sees what is committed.
pub(crate) fn consumer(
    bootstrap: &str,
    topic: &Topic,
    partitions: i32,
) -> Result<BaseConsumer, Failure> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "benches")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "100")
        .create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic.as_str(), partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    Ok(consumer)
}

/// What a topic holds, by the positions of its messages.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// By shard: the highest position, and which ones came.
    shards: BTreeMap<u16, Shard>,
    /// Messages.
    pub(crate) messages: u64,
    /// Messages that were there already.
    pub(crate) resent: u64,
    /// Messages that came late: after a later one and for the first time.
    pub(crate) reordered: u64,
}

#[derive(Debug, Default)]
struct Shard {
    high: u64,
    came: Vec<u64>,
}

impl Seen {
    /// Takes note of a message; tells whether a consumer that counts positions would apply it.
    pub(crate) fn see(&mut self, message: &BorrowedMessage<'_>) -> Result<bool, Failure> {
        let header = |name: &str| -> Option<u64> {
            let headers = message.headers()?;
            let found = headers.iter().find(|h| h.key == name)?;
            std::str::from_utf8(found.value?).ok()?.parse().ok()
        };
        let (shard, pos) = (header("outbox-shard"), header("outbox-pos"));
        let (Some(shard), Some(pos)) = (shard, pos) else { return Err("no position".into()) };
        self.messages += 1;
        let shard = self.shards.entry(u16::try_from(shard)?).or_default();
        let (word, bit) = (usize::try_from(pos / 64)?, 1_u64 << (pos % 64));
        if shard.came.len() <= word {
            shard.came.resize(word + 1, 0);
        }
        let Some(slot) = shard.came.get_mut(word) else { return Err("no room".into()) };
        let again = *slot & bit != 0;
        *slot |= bit;
        let fresh = pos > shard.high;
        shard.high = shard.high.max(pos);
        self.resent += u64::from(again);
        self.reordered += u64::from(!again && !fresh);
        Ok(fresh)
    }

    /// Counts the messages that came at least once.
    pub(crate) fn distinct(&self) -> u64 {
        self.messages - self.resent
    }
}

/// Reads until `rows` different messages came, or nothing comes any more.
pub(crate) fn read(consumer: &BaseConsumer, rows: u64) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    let mut last = Instant::now();
    while seen.distinct() < rows && last.elapsed() < QUIET {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            seen.see(&message?)?;
            last = Instant::now();
        }
    }
    Ok(seen)
}
