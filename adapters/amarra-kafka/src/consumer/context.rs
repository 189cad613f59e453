//! What the client library tells a member while it is served: rebalances and errors.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

/// The library's consumer with our context.
pub(super) type Client = BaseConsumer<Context>;

/// Partitions as the library names them.
pub(super) type Partitions = Vec<(String, i32)>;

/// What happened while the library was served.
#[derive(Debug)]
pub(super) enum Happening {
    /// Partitions are the member's, and are read.
    Assigned(Partitions),
    /// Partitions have to be given up; the library waits for [`unassign`].
    Revoked(Partitions),
    /// The library refused a step of a rebalance.
    Stuck(String),
}

/// Keeps what the library tells until its thread asks.
///
/// Nothing is committed here, and a revocation is not answered here: the caller has to know first.
#[derive(Debug, Default)]
pub(super) struct Context {
    happened: Mutex<Vec<Happening>>,
    reason: Mutex<String>,
    served: AtomicU64,
    closing: AtomicBool,
}

impl Context {
    /// Takes what happened, in order.
    pub(super) fn take(&self) -> Vec<Happening> {
        std::mem::take(&mut self.happened.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the words of the last error.
    pub(super) fn reason(&self) -> String {
        std::mem::take(&mut self.reason.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts what was served and was no record: the queue may hold more.
    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Lets revocations be answered at once: nobody is left to be told.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn push(&self, happening: Happening) {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner).push(happening);
    }

    fn count(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        self.count();
        DefaultClientContext.log(level, fac, log_message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.count();
        reason.clone_into(&mut self.reason.lock().unwrap_or_else(PoisonError::into_inner));
        DefaultClientContext.error(error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, client: &Client, err: RDKafkaRespErr, tpl: &mut TopicPartitionList) {
        self.count();
        let partitions: Partitions =
            tpl.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        let answered = if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let answered = assign(client, tpl);
            if !partitions.is_empty() {
                self.push(Happening::Assigned(partitions));
            }
            answered
        } else if partitions.is_empty() || self.closing.load(Ordering::Relaxed) {
            unassign(client, &partitions)
        } else {
            self.push(Happening::Revoked(partitions));
            Ok(())
        };
        if let Err(e) = answered {
            self.push(Happening::Stuck(e.to_string()));
        }
    }
}

fn assign(client: &Client, tpl: &TopicPartitionList) -> KafkaResult<()> {
    match client.rebalance_protocol() {
        RebalanceProtocol::Cooperative => client.incremental_assign(tpl),
        _ => client.assign(tpl),
    }
}

/// Gives partitions up, which lets the rebalance go on.
pub(super) fn unassign(client: &Client, partitions: &Partitions) -> KafkaResult<()> {
    match client.rebalance_protocol() {
        RebalanceProtocol::Cooperative => {
            let mut tpl = TopicPartitionList::with_capacity(partitions.len());
            for (topic, partition) in partitions {
                tpl.add_partition(topic, *partition);
            }
            client.incremental_unassign(&tpl)
        }
        _ => client.unassign(),
    }
}
