//! The bounds and settings of a connection to Kafka.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use amarra_messaging::ConfigError;

/// What fences a session that lost its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// The fence topic, which a session looks at before it publishes: a zombie is bounded by
    /// `delivery_timeout`. Fast.
    #[default]
    Idempotent,
    /// The broker, by transactional id, and the fence topic; each call is one transaction.
    Transactional,
}

/// How to reach Kafka, and how to publish to it.
///
/// # Example
/// ```
/// use amarra_kafka::KafkaConfig;
/// let config = KafkaConfig { messages_max: 0, ..KafkaConfig::new("localhost:9092") };
/// assert_eq!(config.validate().unwrap_err().field, "messages_max");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `host:port`, separated by commas.
    pub bootstrap: String,
    /// What fences a session.
    pub mode: Mode,
    /// The topic that holds the newest epoch of each shard: one partition, compacted, the same for
    /// all that publish for an outbox. `amarra-fences`.
    pub fence_topic: String,
    /// How long a record may be on its way, retries included; 1 s to 60 s, and at most a third of
    /// the relay's lease, because a zombie's record may land that late. 1 s.
    pub delivery_timeout: Duration,
    /// How long a request about topics, fences or transactions may take, 100 ms to 60 s. 5 s.
    pub request_timeout: Duration,
    /// Records of a session on their way, 1 to 1,000,000; the next leave when all of them arrived.
    /// 10,000.
    pub messages_max: usize,
    /// Bytes of a session on their way, 1 KiB to 1 GiB, a larger record alone; the next leave when
    /// all of them arrived, and those of one partition as a batch at a time. 4 MiB: they have to
    /// arrive within `delivery_timeout`.
    pub bytes_max: usize,
    /// Bytes of one record with key and headers, 1,000 to 100,000,000; a larger one is refused.
    /// 1,000,000, just below what a topic of Kafka takes by default.
    pub record_bytes_max: usize,
    /// Further properties of librdkafka for every client, for example `security.protocol`,
    /// `sasl.password` or `compression.type`; their values are never shown. None of the properties
    /// that the other fields decide. Large calls are compressed with lz4 unless it names another.
    pub extra: BTreeMap<String, String>,
}

/// What `extra` must not set: the fields do, or a promise depends on it.
const DECIDED: [&str; 24] = [
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "batch.size",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.max.bytes",
    "message.timeout.ms",
    "metadata.broker.list",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "request.required.acks",
    "retries",
    "transaction.timeout.ms",
    "transactional.id",
];

impl KafkaConfig {
    /// Makes the defaults for a cluster.
    #[must_use]
    pub fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            mode: Mode::Idempotent,
            fence_topic: "amarra-fences".to_owned(),
            delivery_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(5),
            messages_max: 10_000,
            bytes_max: 4 << 20,
            record_bytes_max: 1_000_000,
            extra: BTreeMap::new(),
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = ConfigError::unless;
        let minute = Duration::from_secs(60);
        let blank = self.bootstrap.trim().is_empty();
        check(!blank, "bootstrap", "host:port, separated by commas")?;
        check(is_topic(&self.fence_topic), "fence_topic", "1 to 249 of a-z, A-Z, 0-9, . _ and -")?;
        let sound = (Duration::from_secs(1)..=minute).contains(&self.delivery_timeout);
        check(sound, "delivery_timeout", "1 s to 60 s")?;
        let sound = (Duration::from_millis(100)..=minute).contains(&self.request_timeout);
        check(sound, "request_timeout", "100 ms to 60 s")?;
        check((1..=1_000_000).contains(&self.messages_max), "messages_max", "1 to 1,000,000")?;
        check((1_024..=1 << 30).contains(&self.bytes_max), "bytes_max", "1 KiB to 1 GiB")?;
        let sound = (1_000..=100_000_000).contains(&self.record_bytes_max);
        check(sound, "record_bytes_max", "1,000 to 100,000,000")?;
        let decided = |key: &String| DECIDED.contains(&key.as_str());
        let sound = !self.extra.keys().any(decided);
        check(sound, "extra", "without properties that the other fields or a promise decide")
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extra: Vec<_> = self.extra.keys().collect();
        f.debug_struct("KafkaConfig")
            .field("bootstrap", &self.bootstrap)
            .field("mode", &self.mode)
            .field("fence_topic", &self.fence_topic)
            .field("delivery_timeout", &self.delivery_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("messages_max", &self.messages_max)
            .field("bytes_max", &self.bytes_max)
            .field("record_bytes_max", &self.record_bytes_max)
            .field("extra", &extra)
            .finish()
    }
}

/// Tells whether Kafka takes `name` for a topic.
pub(crate) fn is_topic(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=249).contains(&name.len()) && name.bytes().all(legal) && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_out_of_range_is_named() {
        let check = |change: fn(&mut KafkaConfig), field: &str| {
            let mut config = KafkaConfig::new("localhost:9092");
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().field, field);
        };
        check(|c| c.bootstrap = " ".into(), "bootstrap");
        check(|c| c.fence_topic = "a b".into(), "fence_topic");
        check(|c| c.delivery_timeout = Duration::from_millis(999), "delivery_timeout");
        check(|c| c.request_timeout = Duration::from_secs(61), "request_timeout");
        check(|c| c.messages_max = 1_000_001, "messages_max");
        check(|c| c.bytes_max = 1, "bytes_max");
        check(|c| c.record_bytes_max = 999, "record_bytes_max");
        check(|c| drop(c.extra.insert("acks".into(), "1".into())), "extra");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let mut config = KafkaConfig::new("localhost:9092");
        config.extra.insert("sasl.password".into(), "hunter2".into());
        let shown = format!("{config:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
    }
}
