//! A reader that belongs to no group: what is in a topic, as committed reads see it.

use std::collections::VecDeque;
use std::time::Duration;

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::Delivery;
use amarra_messaging::{
    Consumer, ConsumerError, Headers, Offset, Partition, Polled, Record, Topic,
};
use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{ClientConfig, Message, TopicPartitionList};

use crate::bed::{PATIENCE, until};

/// Reads whole topics, from their first record on; commits nothing.
pub(crate) struct Reader {
    consumer: BaseConsumer,
    assigned: Option<Vec<TopicPartition>>,
    read: VecDeque<Delivery>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader {
    pub(crate) fn open(bootstrap: &str, topics: &[Topic]) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "test-readers")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "20");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        let mut assigned = Vec::new();
        for topic in topics {
            let count = until("partitions of a topic", || {
                let metadata = consumer.fetch_metadata(Some(topic.as_str()), PATIENCE).ok()?;
                Some(metadata.topics().first()?.partitions().len()).filter(|count| *count > 0)
            });
            for partition in 0..u32::try_from(count).expect("partitions") {
                let number = i32::try_from(partition).expect("a partition");
                let at = rdkafka::Offset::Beginning;
                list.add_partition_offset(topic.as_str(), number, at).expect("an offset");
                let partition = Partition(partition);
                assigned.push(TopicPartition { topic: topic.clone(), partition });
            }
        }
        consumer.assign(&list).expect("an assignment");
        Self { consumer, assigned: Some(assigned), read: VecDeque::new() }
    }

    /// Reads until there are at least `count`, and then until nothing comes for a while.
    pub(crate) fn read(&mut self, count: usize) -> Vec<Delivery> {
        let mut all = Vec::new();
        until("the records that were published", || {
            while let Some(delivery) = self.next(Duration::from_millis(200)) {
                all.push(delivery);
            }
            (all.len() >= count).then_some(())
        });
        all
    }

    fn next(&mut self, wait: Duration) -> Option<Delivery> {
        let started = std::time::Instant::now();
        loop {
            let left = wait.checked_sub(started.elapsed())?;
            match self.consumer.poll(left) {
                Some(Ok(message)) => return Some(delivery(&message)),
                // The broker is away for a while.
                Some(Err(_)) => {}
                None => return None,
            }
        }
    }
}

/// Turns a message into ours, header by header.
fn delivery(message: &BorrowedMessage<'_>) -> Delivery {
    let bytes = |part: Option<&[u8]>| Bytes::copy_from_slice(part.unwrap_or_default());
    let headers = message.headers();
    let count = headers.map_or(0, |headers| headers.count());
    let header = |at| headers.unwrap().get(at);
    Delivery {
        topic: Topic::from(message.topic()),
        partition: Partition(u32::try_from(message.partition()).unwrap()),
        offset: Offset(u64::try_from(message.offset()).unwrap()),
        record: Record {
            key: bytes(message.key()),
            headers: (0..count)
                .map(header)
                .map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec()))
                .collect::<Headers>(),
            value: bytes(message.payload()),
        },
    }
}

#[async_trait]
impl Consumer for Reader {
    async fn poll(&mut self, limit: usize, wait: Duration) -> Result<Polled, ConsumerError> {
        if let Some(assigned) = self.assigned.take() {
            return Ok(Polled::Assigned(assigned));
        }
        tokio::task::block_in_place(|| {
            let first = self.next(wait);
            self.read.extend(first);
            while !self.read.is_empty() && self.read.len() < limit {
                let Some(more) = self.next(Duration::from_millis(1)) else { break };
                self.read.push_back(more);
            }
        });
        let records: Vec<_> = self.read.drain(..).collect();
        Ok(if records.is_empty() { Polled::Idle } else { Polled::Records(records) })
    }

    async fn commit(&mut self, _: &[(TopicPartition, Offset)]) -> Result<(), ConsumerError> {
        Err(ConsumerError::Unavailable { why: "a reader commits nothing".to_owned() })
    }

    fn pause(&mut self, _: &TopicPartition) {}
    fn resume(&mut self, _: &TopicPartition) {}
    fn seek(&mut self, _: &TopicPartition, _: Offset) {}
}
