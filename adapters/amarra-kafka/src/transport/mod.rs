//! The publishing port over librdkafka: one producer a session, its own credit, its own partitioner.

mod flight;

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_messaging::outbox::Lease;
use amarra_messaging::transport::Publish;
use amarra_messaging::{ConfigError, Headers, PublishError, Session, Topic, Transport};
use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, PurgeConfig, ThreadedProducer};

use self::flight::Flight;
use crate::config::{KafkaConfig, Mode};
use amarra_messaging::murmur2::positive_murmur2;

type Client = Arc<ThreadedProducer<Flight>>;

/// Opens publishing sessions for the shards of one outbox.
///
/// # Laws
/// In [`Mode::Idempotent`] the broker fences nobody (TRN-1 and TRN-5 do not hold). In
/// [`Mode::Transactional`] it fences whoever opened earlier, whatever the epoch: a zombie that opens
/// again fences the owner, so the rest of TRN-1 does not hold yet.
#[derive(Debug, Clone)]
pub struct KafkaTransport {
    config: KafkaConfig,
    source: Arc<str>,
}

impl KafkaTransport {
    /// Makes the transport of the outbox `source`.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn new(config: KafkaConfig, source: &str) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { config, source: source.into() })
    }

    fn client(&self, lease: &Lease) -> Result<Client, KafkaError> {
        let config = &self.config;
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &config.bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .set("allow.auto.create.topics", "false")
            .set("delivery.timeout.ms", config.delivery_timeout.as_millis().to_string())
            .set("message.max.bytes", config.record_bytes_max.to_string())
            .set("queue.buffering.max.messages", config.messages_max.to_string());
        if config.mode == Mode::Transactional {
            client.set("transactional.id", format!("{}-{}", self.source, lease.shard));
            client.set("transaction.timeout.ms", config.delivery_timeout.as_millis().to_string());
        }
        client.create_with_context(Flight::default()).map(Arc::new)
    }
}

#[async_trait]
impl Transport for KafkaTransport {
    async fn open(&self, lease: &Lease) -> Result<Box<dyn Session>, PublishError> {
        let client = self.client(lease).map_err(|e| unavailable(0, &e))?;
        let session = KafkaSession {
            client,
            config: self.config.clone(),
            lease: lease.clone(),
            partitions: BTreeMap::new(),
        };
        if self.config.mode == Mode::Transactional {
            let timeout = self.config.request_timeout;
            let opened = session.block(move |client| client.init_transactions(timeout)).await;
            opened.map_err(|e| session.failed(0, &e))?;
        }
        Ok(Box::new(session))
    }
}

struct KafkaSession {
    client: Client,
    config: KafkaConfig,
    lease: Lease,
    partitions: BTreeMap<Topic, u32>,
}

impl std::fmt::Debug for KafkaSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSession").field("lease", &self.lease).finish_non_exhaustive()
    }
}

#[async_trait]
impl Session for KafkaSession {
    async fn publish(&mut self, records: &[Publish]) -> Result<(), PublishError> {
        // What a call given up left behind must not overtake this one.
        self.purge();
        self.client.context().settled().await;
        self.client.context().reset();
        for record in records {
            self.learn(&record.topic).await?;
        }
        if self.config.mode == Mode::Idempotent || records.is_empty() {
            return self.send(records).await;
        }
        self.client.begin_transaction().map_err(|e| self.failed(0, &e))?;
        let sent = self.send(records).await;
        let timeout = self.config.request_timeout;
        if let Err(PublishError::Unavailable { why, .. }) = sent {
            let aborted = self.block(move |client| client.abort_transaction(timeout)).await;
            let unknown = PublishError::Unavailable { acked: 0, why };
            return Err(aborted.map_or_else(|e| self.failed(0, &e), |()| unknown));
        }
        if matches!(sent, Err(PublishError::Fenced { .. })) {
            return sent;
        }
        if let Err(e) = self.block(move |client| client.commit_transaction(timeout)).await {
            let failed = self.failed(0, &e);
            let _ = self.block(move |client| client.abort_transaction(timeout)).await;
            return Err(failed);
        }
        sent
    }
}

impl KafkaSession {
    async fn block<T: Send + 'static>(
        &self,
        call: impl FnOnce(&ThreadedProducer<Flight>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let client = Arc::clone(&self.client);
        let called = tokio::task::spawn_blocking(move || call(&client)).await;
        called.unwrap_or(Err(KafkaError::Canceled))
    }

    fn purge(&self) {
        self.client.purge(PurgeConfig::default().queue().non_blocking());
    }

    /// Learns how many partitions a topic has; the number never changes while a process runs.
    async fn learn(&mut self, topic: &Topic) -> Result<(), PublishError> {
        if self.partitions.contains_key(topic) {
            return Ok(());
        }
        let (name, timeout) = (topic.to_string(), self.config.request_timeout);
        let fetch = move |client: &ThreadedProducer<Flight>| {
            let metadata = client.client().fetch_metadata(Some(&name), timeout)?;
            Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))
        };
        let count = self.block(fetch).await.map_err(|e| self.failed(0, &e))?;
        if count == 0 {
            let why = format!("topic {topic} does not exist: create it");
            return Err(PublishError::Unavailable { acked: 0, why });
        }
        self.partitions.insert(topic.clone(), u32::try_from(count).unwrap_or(u32::MAX));
        Ok(())
    }

    async fn send(&self, records: &[Publish]) -> Result<(), PublishError> {
        let flight = Arc::clone(self.client.context());
        let mut refused = None;
        for (index, publish) in records.iter().enumerate() {
            let bytes = publish.record.key.len().saturating_add(publish.record.value.len());
            flight.room(self.config.messages_max, self.config.bytes_max.max(bytes)).await;
            if flight.has_failed() {
                break;
            }
            flight.take_off(bytes);
            if let Err(e) = self.enqueue(publish, (index, bytes)) {
                flight.never_left(bytes);
                refused = Some((index, e));
                break;
            }
        }
        flight.settled_or_failed().await;
        if flight.has_failed() {
            self.purge();
        }
        flight.settled().await;
        let acked = flight.acked_prefix();
        match (flight.failure(), refused) {
            (Some((index, e)), _) if acked == index && is_refusal(&e) => {
                Err(PublishError::Refused { acked, why: e.to_string() })
            }
            (Some((_, e)), _) => Err(self.failed(acked, &e)),
            (None, Some((_, Failure::EmptyKey))) => {
                let why = "the key is empty: it chooses the partition".to_owned();
                Err(PublishError::Refused { acked, why })
            }
            (None, Some((_, Failure::Client(e)))) if is_refusal(&e) => {
                Err(PublishError::Refused { acked, why: e.to_string() })
            }
            (None, Some((_, Failure::Client(e)))) => Err(self.failed(acked, &e)),
            (None, None) => Ok(()),
        }
    }

    fn enqueue(&self, publish: &Publish, opaque: (usize, usize)) -> Result<(), Failure> {
        let record = &publish.record;
        if record.key.is_empty() {
            return Err(Failure::EmptyKey);
        }
        let count = self.partitions.get(&publish.topic).copied().unwrap_or(1);
        let partition = positive_murmur2(&record.key).checked_rem(count).unwrap_or(0);
        let message = BaseRecord::with_opaque_to(publish.topic.as_str(), Box::new(opaque))
            .partition(i32::try_from(partition).unwrap_or(0))
            .key(record.key.as_ref())
            .payload(record.value.as_ref())
            .headers(native(&record.headers));
        self.client.send(message).map_err(|(e, _)| Failure::Client(e))
    }

    fn failed(&self, acked: usize, e: &KafkaError) -> PublishError {
        let fatal = self.client.client().fatal_error().map(|(code, _)| code);
        let fenced = |code| {
            matches!(
                code,
                RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
            )
        };
        if e.rdkafka_error_code().into_iter().chain(fatal).any(fenced) {
            return PublishError::Fenced { shard: self.lease.shard, epoch: self.lease.epoch };
        }
        unavailable(acked, e)
    }
}

enum Failure {
    EmptyKey,
    Client(KafkaError),
}

fn is_refusal(e: &KafkaError) -> bool {
    let code = e.rdkafka_error_code();
    matches!(code, Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidRecord))
}

/// Adds Debezium's `id`, equal to `ce_id`, behind ours.
fn native(headers: &Headers) -> OwnedHeaders {
    let id = headers.get("ce_id").map(|value| ("id", value));
    let into = OwnedHeaders::new_with_capacity(20);
    headers
        .iter()
        .chain(id)
        .fold(into, |into, (key, value)| into.insert(Header { key, value: Some(value) }))
}

fn unavailable(acked: usize, e: &KafkaError) -> PublishError {
    PublishError::Unavailable { acked, why: e.to_string() }
}
