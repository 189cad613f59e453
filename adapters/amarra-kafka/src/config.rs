//! The bounds and settings of a connection to Kafka.

use std::time::Duration;

use amarra_messaging::ConfigError;

/// What fences a session that lost its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// Nothing at the broker: a zombie is bounded by `delivery_timeout`. Fast.
    #[default]
    Idempotent,
    /// The broker, by transactional id; each call is one transaction, which waits about 0.1 s.
    Transactional,
}

/// How to publish to Kafka.
///
/// # Example
/// ```
/// use amarra_kafka::KafkaConfig;
/// let config = KafkaConfig { messages_max: 0, ..KafkaConfig::new("localhost:9092") };
/// assert_eq!(config.validate().unwrap_err().field, "messages_max");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `host:port`, separated by commas.
    pub bootstrap: String,
    /// What fences a session.
    pub mode: Mode,
    /// How long a record may be on its way, retries included; at least 1 s, and shorter than the
    /// lease. 1.5 s, below the relay's lease of 2 s.
    pub delivery_timeout: Duration,
    /// How long a call about topics or transactions may block, at least 100 ms. 5 s.
    pub request_timeout: Duration,
    /// Records of a session on their way, at least 1; a publish waits at it. 20,000.
    pub messages_max: usize,
    /// Bytes of a session on their way, at least 1 KiB; a publish waits at it. 32 MiB.
    pub bytes_max: usize,
    /// Bytes of one record, at least 1,000; a larger one is refused. 1,000,000, Kafka's default.
    pub record_bytes_max: usize,
}

impl KafkaConfig {
    /// Makes the defaults for a cluster.
    #[must_use]
    pub fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            mode: Mode::Idempotent,
            delivery_timeout: Duration::from_millis(1_500),
            request_timeout: Duration::from_secs(5),
            messages_max: 20_000,
            bytes_max: 32 << 20,
            record_bytes_max: 1_000_000,
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let second = Duration::from_secs(1);
        let blank = self.bootstrap.trim().is_empty();
        ConfigError::unless(!blank, "bootstrap", "host:port, separated by commas")?;
        let sound = self.delivery_timeout >= second;
        ConfigError::unless(sound, "delivery_timeout", "at least 1 s")?;
        let sound = self.request_timeout >= Duration::from_millis(100);
        ConfigError::unless(sound, "request_timeout", "at least 100 ms")?;
        ConfigError::unless(self.messages_max >= 1, "messages_max", "at least 1")?;
        ConfigError::unless(self.bytes_max >= 1_024, "bytes_max", "at least 1 KiB")?;
        let sound = (1_000..=1_000_000_000).contains(&self.record_bytes_max);
        ConfigError::unless(sound, "record_bytes_max", "1,000 to 1,000,000,000")
    }
}
