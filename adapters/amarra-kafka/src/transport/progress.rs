//! How far a shard's outbox is committed: an offset that every transaction carries along.

use std::sync::Arc;

use amarra_messaging::Record;
use amarra_messaging::transport::Publish;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaError as DriverError;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{Quiet, client};
use crate::config::KafkaConfig;

/// The last record of an outbox shard that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pos: u64,
    id: String,
}

impl Mark {
    /// Returns the mark of a record, none where its place says nothing of those before it: it was
    /// released from the parked ones, or is no row of an outbox.
    fn of(record: &Record) -> Option<Self> {
        let headers = &record.headers;
        if headers.get("outbox-released").is_some() {
            return None;
        }
        let text = |name| headers.get(name).and_then(|value| std::str::from_utf8(value).ok());
        Some(Self { pos: text("outbox-pos")?.parse().ok()?, id: text("ce_id")?.to_owned() })
    }

    /// Returns the mark of the last of `records` that has one.
    pub(super) fn of_last(records: &[Publish]) -> Option<Self> {
        records.iter().rev().find_map(|publish| Self::of(&publish.record))
    }

    /// Counts the first of `records` that were committed with this mark: up to the very record it
    /// is of. Another record at the same place is of another outbox, and counts nothing.
    pub(super) fn covers(&self, records: &[Publish]) -> usize {
        let first = records.first().and_then(|publish| Self::of(&publish.record));
        if first.is_none_or(|first| first.pos > self.pos) {
            return 0;
        }
        let same = |publish: &Publish| Self::of(&publish.record).as_ref() == Some(self);
        records.iter().position(same).map_or(0, |at| at.saturating_add(1))
    }
}

/// A group that nobody is a member of: its one offset is the position of the last record.
pub(super) struct Progress {
    topic: String,
    group: Arc<ConsumerGroupMetadata>,
    pub(super) last: Option<Mark>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("last", &self.last).finish_non_exhaustive()
    }
}

/// Reads the progress of a shard once.
pub(super) struct Reader<'a> {
    config: &'a KafkaConfig,
    consumer: Option<BaseConsumer<Quiet>>,
}

impl<'a> Reader<'a> {
    /// Makes the client, which connects on its own.
    pub(super) fn start(config: &'a KafkaConfig, name: &str) -> Result<Self, DriverError> {
        let mut properties = client(config);
        properties
            .set("group.id", format!("amarra-{name}"))
            .set("enable.auto.commit", "false")
            // Waits for the transaction of a predecessor to end.
            .set("isolation.level", "read_committed");
        Ok(Self { config, consumer: Some(properties.create_with_context(Quiet)?) })
    }

    /// Asks the broker. Blocks.
    pub(super) fn read(self) -> Result<Progress, DriverError> {
        let (topic, timeout) = (&self.config.fence_topic, self.config.request_timeout);
        let consumer = self.consumer.as_ref().ok_or(DriverError::Canceled)?;
        consumer.fetch_metadata(Some(topic), timeout)?;
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, 0);
        let found = consumer.committed_offsets(asked, timeout)?;
        let last = found.find_partition(topic, 0).and_then(|found| match found.offset() {
            Offset::Offset(pos) => {
                Some(Mark { pos: u64::try_from(pos).ok()?, id: found.metadata().to_owned() })
            }
            _ => None,
        });
        let group = Arc::new(consumer.group_metadata().ok_or(DriverError::Canceled)?);
        Ok(Progress { topic: topic.clone(), group, last })
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let consumer = self.consumer.take();
        // Ending a client waits for its threads.
        std::thread::spawn(move || drop(consumer));
    }
}

impl Progress {
    /// Returns what a transaction carries along to say that it ends with `mark`.
    pub(super) fn carry(
        &self,
        mark: &Mark,
    ) -> Result<(TopicPartitionList, Arc<ConsumerGroupMetadata>), DriverError> {
        let mut offsets = TopicPartitionList::new();
        let pos = Offset::Offset(i64::try_from(mark.pos).unwrap_or(i64::MAX));
        offsets.add_partition_offset(&self.topic, 0, pos)?;
        if let Some(mut offset) = offsets.find_partition(&self.topic, 0) {
            offset.set_metadata(mark.id.as_str());
        }
        Ok((offsets, Arc::clone(&self.group)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amarra_messaging::{Headers, Topic};
    use bytes::Bytes;

    fn row(pos: u64, id: &str, released: bool) -> Publish {
        let pos = pos.to_string();
        let mut headers: Headers =
            [("ce_id", id), ("outbox-pos", pos.as_str())].into_iter().collect();
        if released {
            headers.push("outbox-released", b"1");
        }
        let record = Record { key: Bytes::from_static(b"k"), headers, value: Bytes::new() };
        Publish { topic: Topic::from("things"), record }
    }

    #[test]
    fn what_was_committed_is_counted_up_to_the_very_record() {
        let check = |pos: u64, id: &str, expect: usize| {
            let rows = [row(4, "d", false), row(5, "e", false), row(7, "g", false)];
            let mark = Mark { pos, id: id.to_owned() };
            assert_eq!(mark.covers(&rows), expect, "{pos} {id}");
        };
        check(3, "c", 0);
        check(4, "d", 1);
        check(5, "e", 2);
        check(7, "g", 3);
        check(6, "f", 0);
        check(5, "of another outbox", 0);
        check(9, "i", 0);
    }

    #[test]
    fn a_released_row_says_nothing_of_those_before_it() {
        let rows = [row(9, "i", false), row(2, "b", true)];
        assert_eq!(Mark::of_last(&rows), Some(Mark { pos: 9, id: "i".to_owned() }));
        assert_eq!(Mark::of_last(&rows[1..]), None);
        let mark = Mark { pos: 2, id: "b".to_owned() };
        assert_eq!(mark.covers(&rows[1..]), 0);
    }
}
