//! The consumer port: one member of a group, its partitions and where it reads.

use std::sync::Arc;
use std::time::Duration;

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::{Consumer, ConsumerError, Group, Offset, Polled, Topic};
use async_trait::async_trait;

use super::{MemberConfig, Shared};

/// A member of a consumer group of a [`SqliteBus`](super::SqliteBus).
#[derive(Debug)]
pub struct SqliteConsumer {
    _shared: Arc<Shared>,
}

impl SqliteConsumer {
    pub(super) fn new(
        shared: Arc<Shared>,
        _group: Group,
        _topics: Arc<[Topic]>,
        _config: MemberConfig,
    ) -> Self {
        Self { _shared: shared }
    }
}

#[async_trait]
impl Consumer for SqliteConsumer {
    async fn poll(&mut self, _limit: usize, _wait: Duration) -> Result<Polled, ConsumerError> {
        Err(ConsumerError::Unavailable { why: "not written yet".to_owned() })
    }

    async fn commit(&mut self, _offsets: &[(TopicPartition, Offset)]) -> Result<(), ConsumerError> {
        Err(ConsumerError::Unavailable { why: "not written yet".to_owned() })
    }

    fn pause(&mut self, _partition: &TopicPartition) {}

    fn resume(&mut self, _partition: &TopicPartition) {}

    fn seek(&mut self, _partition: &TopicPartition, _offset: Offset) {}
}
