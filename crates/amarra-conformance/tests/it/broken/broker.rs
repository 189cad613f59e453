//! A transport and consumer with the defect of their test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::Poll;
use std::time::Duration;

use amarra_core::Environment;
use amarra_messaging::consumer::{ConsumerError, TopicPartition};
use amarra_messaging::message::Shard;
use amarra_messaging::outbox::Lease;
use amarra_messaging::transport::Publish;
use amarra_messaging::{Consumer, Offset, Polled, PublishError, Session, Transport};
use async_trait::async_trait;
use bytes::Bytes;

use super::Defect;

#[derive(Debug)]
pub struct BrokenTransport {
    pub inner: Arc<dyn Transport>,
    pub defect: Defect,
    pub opened: Arc<AtomicU16>,
}

#[async_trait]
impl Transport for BrokenTransport {
    async fn open(&self, lease: &Lease) -> Result<Box<dyn Session>, PublishError> {
        let mut lease = lease.clone();
        if self.defect == Defect::SessionsFenceNobody {
            lease.shard = Shard(self.opened.fetch_add(1, Ordering::Relaxed));
        }
        let inner = self.inner.open(&lease).await?;
        Ok(Box::new(BrokenSession { inner, defect: self.defect }))
    }
}

#[derive(Debug)]
struct BrokenSession {
    inner: Box<dyn Session>,
    defect: Defect,
}

#[async_trait]
impl Session for BrokenSession {
    async fn publish(&mut self, records: &[Publish]) -> Result<(), PublishError> {
        let mut records = records.to_vec();
        match self.defect {
            Defect::SessionReversesACall => records.reverse(),
            Defect::SessionPublishesTwice => self.inner.publish(&records).await?,
            Defect::SessionSplitsACall => {
                let rest = records.split_off(records.len() / 2);
                self.inner.publish(&records).await?;
                yield_once().await;
                records = rest;
            }
            Defect::SessionDropsEmptyValues => records.retain(|r| !r.record.value.is_empty()),
            Defect::SessionHashesOtherwise => {
                records.iter_mut().for_each(|r| r.record.key = reversed(&r.record.key));
            }
            _ => {}
        }
        match (self.defect, self.inner.publish(&records).await) {
            (Defect::SessionHidesThatItIsFenced, Err(PublishError::Fenced { .. })) => Ok(()),
            (Defect::SessionAcknowledgesBeforeItStores, Err(PublishError::Unavailable { .. })) => {
                Ok(())
            }
            (Defect::SessionCountsTheRefusedRecord, Err(PublishError::Refused { acked, why })) => {
                Err(PublishError::Refused { acked: acked + 1, why })
            }
            (_, answer) => answer,
        }
    }
}

/// Lets others go on, as a session does that waits for an answer.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn reversed(key: &Bytes) -> Bytes {
    key.iter().rev().copied().collect()
}

#[derive(Debug)]
pub struct BrokenConsumer {
    pub inner: Box<dyn Consumer>,
    pub env: Environment,
    pub defect: Defect,
    pub skip: bool,
    pub handed_out: u64,
}

impl BrokenConsumer {
    async fn spoil(&mut self, polled: Polled) -> Result<Polled, ConsumerError> {
        match (self.defect, polled) {
            (Defect::SessionHashesOtherwise, Polled::Records(mut records)) => {
                records.iter_mut().for_each(|d| d.record.key = reversed(&d.record.key));
                Ok(Polled::Records(records))
            }
            (Defect::ConsumerCommitsByItself, Polled::Records(records)) => {
                for d in &records {
                    let at = TopicPartition { topic: d.topic.clone(), partition: d.partition };
                    self.inner.commit(&[(at, d.offset.next())]).await?;
                }
                Ok(Polled::Records(records))
            }
            (Defect::ConsumerSkipsTheFirstRecord, Polled::Assigned(partitions)) => {
                self.skip = true;
                Ok(Polled::Assigned(partitions))
            }
            (Defect::ConsumerSkipsTheFirstRecord, Polled::Records(mut records)) if self.skip => {
                self.skip = false;
                records.remove(0);
                Ok(if records.is_empty() { Polled::Idle } else { Polled::Records(records) })
            }
            (Defect::ConsumerNumbersRecordsItself, Polled::Records(mut records)) => {
                for delivery in &mut records {
                    delivery.offset = Offset(self.handed_out);
                    self.handed_out += 1;
                }
                Ok(Polled::Records(records))
            }
            (Defect::ConsumerHandsOutWhatIsNotStored, Polled::Records(mut records)) => {
                let mut phantom = records[records.len() - 1].clone();
                phantom.offset = phantom.offset.next();
                let number = 10_000 + self.env.entropy.below(1_000_000);
                phantom.record.value = Bytes::from(number.to_string());
                records.push(phantom);
                Ok(Polled::Records(records))
            }
            (Defect::ConsumerHidesARevocation, Polled::Revoked(_)) => Ok(Polled::Idle),
            (Defect::ConsumerTakesBeforeItWaits, Polled::Records(records)) => {
                self.env.sleep(Duration::from_millis(10)).await;
                Ok(Polled::Records(records))
            }
            (_, polled) => Ok(polled),
        }
    }
}

#[async_trait]
impl Consumer for BrokenConsumer {
    async fn poll(&mut self, limit: usize, wait: Duration) -> Result<Polled, ConsumerError> {
        if self.defect == Defect::ConsumerSleepsItsWaitOut {
            self.env.sleep(wait).await;
        }
        let polled = self.inner.poll(limit, wait).await?;
        self.spoil(polled).await
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, Offset)]) -> Result<(), ConsumerError> {
        if self.defect == Defect::ConsumerForgetsItsCommits {
            return Ok(());
        }
        if self.defect == Defect::ConsumerCommitsThePartitionOfAnyTopic {
            for topic in ["things", "others"] {
                let offsets: Vec<_> = offsets
                    .iter()
                    .cloned()
                    .map(|(mut at, offset)| {
                        at.topic = topic.into();
                        (at, offset)
                    })
                    .collect();
                self.inner.commit(&offsets).await?;
            }
        }
        match (self.defect, self.inner.commit(offsets).await) {
            (Defect::ConsumerCommitsForAnyGeneration, Err(ConsumerError::Fenced)) => Ok(()),
            (_, answer) => answer,
        }
    }

    fn pause(&mut self, partition: &TopicPartition) {
        if self.defect != Defect::ConsumerIgnoresThePause {
            self.inner.pause(partition);
        }
    }

    fn resume(&mut self, partition: &TopicPartition) {
        self.inner.resume(partition);
    }

    fn seek(&mut self, partition: &TopicPartition, offset: Offset) {
        if self.defect != Defect::ConsumerIgnoresSeeks {
            self.inner.seek(partition, offset);
        }
    }
}
