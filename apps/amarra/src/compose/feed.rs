//! A consumer that reads everything again at each start.

use std::time::Duration;

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::{Consumer, ConsumerError, Offset, Polled};
use async_trait::async_trait;

/// A group member that commits nothing, so that its group has no offsets and leaves no trace.
#[derive(Debug)]
pub(crate) struct FromTheStart(pub(crate) Box<dyn Consumer>);

#[async_trait]
impl Consumer for FromTheStart {
    async fn poll(&mut self, limit: usize, wait: Duration) -> Result<Polled, ConsumerError> {
        self.0.poll(limit, wait).await
    }

    async fn commit(&mut self, _offsets: &[(TopicPartition, Offset)]) -> Result<(), ConsumerError> {
        Ok(())
    }

    fn pause(&mut self, partition: &TopicPartition) {
        self.0.pause(partition);
    }

    fn resume(&mut self, partition: &TopicPartition) {
        self.0.resume(partition);
    }

    fn seek(&mut self, partition: &TopicPartition, offset: Offset) {
        self.0.seek(partition, offset);
    }
}
