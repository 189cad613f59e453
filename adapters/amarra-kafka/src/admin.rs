//! Topics: made when they are missing, checked when they are there.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amarra_messaging::{ConfigError, Topic};
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::error::{KafkaError as DriverError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;

use crate::client::{Quiet, client};
use crate::config::{KafkaConfig, is_topic};
use crate::error::{KafkaError, unmakeable};

/// How often a new topic is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// A topic as it has to be.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use amarra_kafka::TopicSpec;
///
/// let week = Duration::from_secs(7 * 24 * 3600);
/// let spec = TopicSpec { retention: Some(week), ..TopicSpec::new("orders.events", 12) };
/// assert!(spec.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name: 1 to 249 letters, digits, dots, underscores and hyphens.
    pub name: Topic,
    /// Its partitions, 1 to 100,000; a key's partition is decided by this number, so it stays.
    pub partitions: u32,
    /// Brokers that have each partition, at least 1; none for the cluster's default. Three, for
    /// what must survive a broker.
    pub replicas: Option<u16>,
    /// Brokers that must have a record before it counts as stored, 1 to `replicas`; none for the
    /// cluster's default. Two of three.
    pub in_sync_min: Option<u16>,
    /// How long records are kept, at least a second; none for the cluster's default. Longer than
    /// any consumer may be away.
    pub retention: Option<Duration>,
    /// Whether only the last record of a key is kept for ever, instead of all for `retention`.
    pub compacted: bool,
}

impl TopicSpec {
    /// Makes a topic with the cluster's defaults.
    #[must_use]
    pub fn new(name: &str, partitions: u32) -> Self {
        Self {
            name: Topic::from(name),
            partitions,
            replicas: None,
            in_sync_min: None,
            retention: None,
            compacted: false,
        }
    }

    /// Makes the fence topic of a configuration.
    #[must_use]
    pub fn fences(config: &KafkaConfig) -> Self {
        Self { compacted: true, ..Self::new(&config.fence_topic, 1) }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = ConfigError::unless;
        check(is_topic(self.name.as_str()), "name", "1 to 249 of a-z, A-Z, 0-9, . _ and -")?;
        check((1..=100_000).contains(&self.partitions), "partitions", "1 to 100,000")?;
        check(self.replicas.is_none_or(|n| n >= 1), "replicas", "at least 1")?;
        let most = self.replicas.unwrap_or(u16::MAX);
        let sound = self.in_sync_min.is_none_or(|n| (1..=most).contains(&n));
        check(sound, "in_sync_min", "1 to replicas")?;
        let sound = self.retention.is_none_or(|kept| kept >= Duration::from_secs(1));
        check(sound, "retention", "at least a second")
    }

    fn policy(&self) -> &'static str {
        if self.compacted { "compact" } else { "delete" }
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![("cleanup.policy", self.policy().to_owned())];
        if let Some(kept) = self.retention {
            settings.push(("retention.ms", kept.as_millis().to_string()));
        }
        if let Some(least) = self.in_sync_min {
            settings.push(("min.insync.replicas", least.to_string()));
        }
        settings
    }
}

/// Makes and checks topics when a process starts.
///
/// Records of at most [`KafkaConfig::record_bytes_max`] have to fit in every topic it is asked
/// about; retention and replicas of a topic that is there are the operator's.
pub struct KafkaAdmin {
    config: KafkaConfig,
    /// None only while this is dropped.
    client: Option<Arc<AdminClient<Quiet>>>,
}

impl fmt::Debug for KafkaAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaAdmin").field("config", &self.config).finish_non_exhaustive()
    }
}

impl KafkaAdmin {
    /// Makes the client; no broker has to be there yet.
    ///
    /// # Errors
    /// [`KafkaError::Field`] and [`KafkaError::Client`].
    pub fn new(config: KafkaConfig) -> Result<Self, KafkaError> {
        config.validate()?;
        let made = client(&config).create_with_context(Quiet).map_err(|e| unmakeable(&e))?;
        Ok(Self { config, client: Some(Arc::new(made)) })
    }

    /// Makes those topics that are missing, and checks all.
    ///
    /// # Errors
    /// [`KafkaError`] of the first topic that cannot be made or is not as it has to be;
    /// [`KafkaError::Unreachable`] within about `request_timeout`.
    pub async fn ensure(&self, topics: &[TopicSpec]) -> Result<(), KafkaError> {
        topics.iter().try_for_each(TopicSpec::validate)?;
        let mut missing = Vec::new();
        for spec in topics {
            if self.partitions(spec).await?.is_none() {
                missing.push(spec);
            }
        }
        self.create(&missing).await?;
        for spec in missing {
            self.wait_for(spec).await?;
        }
        self.check(topics).await
    }

    /// Checks topics, and makes none.
    ///
    /// # Errors
    /// [`KafkaError`] of the first topic that is missing or not as it has to be.
    pub async fn check(&self, topics: &[TopicSpec]) -> Result<(), KafkaError> {
        topics.iter().try_for_each(TopicSpec::validate)?;
        for spec in topics {
            let missing = || KafkaError::Missing { topic: spec.name.to_string() };
            let (found, _) = self.partitions(spec).await?.ok_or_else(missing)?;
            if found != spec.partitions {
                let remedy = "set partitions to what it has: keys would move otherwise";
                let wanted = spec.partitions.to_string();
                return Err(differs(spec, "partitions", (found.to_string(), wanted), remedy));
            }
        }
        self.check_settings(topics).await
    }

    async fn check_settings(&self, topics: &[TopicSpec]) -> Result<(), KafkaError> {
        let Some(client) = &self.client else { return Ok(()) };
        let resources: Vec<_> =
            topics.iter().map(|spec| ResourceSpecifier::Topic(spec.name.as_str())).collect();
        if resources.is_empty() {
            return Ok(());
        }
        let described = client.describe_configs(&resources, &self.options()).await;
        let what = "describe the settings of topics";
        let described = described.map_err(|e| self.failed(what, &e))?;
        for (spec, settings) in topics.iter().zip(described) {
            let settings = settings.map_err(|code| self.refused(what, code))?;
            self.check_topic(spec, &settings)?;
        }
        Ok(())
    }

    fn check_topic(&self, spec: &TopicSpec, settings: &ConfigResource) -> Result<(), KafkaError> {
        let value = |name| settings.get(name).and_then(|entry| entry.value.clone());
        let found = value("cleanup.policy").unwrap_or_default();
        if found != spec.policy() {
            let remedy = "set cleanup.policy of the topic";
            let found = (found, spec.policy().to_owned());
            return Err(differs(spec, "cleanup.policy", found, remedy));
        }
        let max = self.config.record_bytes_max;
        let found = value("max.message.bytes").unwrap_or_default();
        if found.parse::<usize>().is_ok_and(|found| found < max) {
            let remedy = "raise max.message.bytes of the topic, or lower record_bytes_max";
            let found = (found, format!("at least {max}"));
            return Err(differs(spec, "max.message.bytes", found, remedy));
        }
        let found = value("min.insync.replicas").unwrap_or_default();
        let least = spec.in_sync_min.map(u64::from).unwrap_or_default();
        if found.parse::<u64>().is_ok_and(|found| found < least) {
            let remedy = "raise min.insync.replicas of the topic, or lower in_sync_min";
            let found = (found, format!("at least {least}"));
            return Err(differs(spec, "min.insync.replicas", found, remedy));
        }
        Ok(())
    }

    async fn create(&self, topics: &[&TopicSpec]) -> Result<(), KafkaError> {
        let Some(client) = self.client.as_ref().filter(|_| !topics.is_empty()) else {
            return Ok(());
        };
        let settings: Vec<_> = topics.iter().map(|spec| spec.settings()).collect();
        let new = topics.iter().zip(&settings).map(|(spec, settings)| {
            let partitions = i32::try_from(spec.partitions).unwrap_or(i32::MAX);
            // Minus one is the cluster's default.
            let replicas = TopicReplication::Fixed(spec.replicas.map_or(-1, i32::from));
            let new = NewTopic::new(spec.name.as_str(), partitions, replicas);
            settings.iter().fold(new, |new, (key, value)| new.set(key, value))
        });
        let new: Vec<_> = new.collect();
        let created = client.create_topics(&new, &self.options()).await;
        for topic in created.map_err(|e| self.failed("create topics", &e))? {
            match topic {
                // Another process was faster; the check tells whether it is the same topic.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(self.refused(&format!("create topic {topic}"), code));
                }
            }
        }
        Ok(())
    }

    /// Waits until every partition of a new topic has a leader.
    async fn wait_for(&self, spec: &TopicSpec) -> Result<(), KafkaError> {
        let started = Instant::now();
        loop {
            if self.partitions(spec).await?.is_some_and(|(_, led)| led) {
                return Ok(());
            }
            if started.elapsed() >= self.config.request_timeout {
                let what = format!("lead topic {}", spec.name);
                let why = "its partitions have no leader within request_timeout".to_owned();
                return Err(KafkaError::Cluster { what, why });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns how many partitions a topic has, and whether all have a leader; none when there is
    /// no such topic.
    async fn partitions(&self, spec: &TopicSpec) -> Result<Option<(u32, bool)>, KafkaError> {
        let Some(client) = self.client.clone() else { return Ok(None) };
        let (name, timeout) = (spec.name.to_string(), self.config.request_timeout);
        let fetch = move || {
            let metadata = client.inner().fetch_metadata(Some(&name), timeout)?;
            Ok(metadata.topics().first().map(shape))
        };
        let what = format!("tell about topic {}", spec.name);
        match tokio::task::spawn_blocking(fetch).await {
            Ok(Ok(Some(Err(code)))) => Err(self.refused(&what, code)),
            Ok(Ok(Some(Ok(found)))) => Ok(found),
            Ok(Ok(None)) => Ok(None),
            Ok(Err(e)) => Err(self.failed(&what, &e)),
            Err(e) => Err(KafkaError::Cluster { what, why: e.to_string() }),
        }
    }

    fn options(&self) -> AdminOptions {
        let timeout = Some(self.config.request_timeout);
        AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)
    }

    fn failed(&self, what: &str, e: &DriverError) -> KafkaError {
        let code = match e {
            DriverError::AdminOp(code) => Some(*code),
            other => other.rdkafka_error_code(),
        };
        let Some(code) = code else {
            return KafkaError::Cluster { what: what.to_owned(), why: e.to_string() };
        };
        self.refused(what, code)
    }

    fn refused(&self, what: &str, code: RDKafkaErrorCode) -> KafkaError {
        use RDKafkaErrorCode as Code;
        let (what, why) = (what.to_owned(), code.to_string());
        match code {
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::Resolve => {
                KafkaError::Unreachable { bootstrap: self.config.bootstrap.clone(), why }
            }
            Code::Authentication
            | Code::ClusterAuthorizationFailed
            | Code::InvalidConfig
            | Code::InvalidReplicationFactor
            | Code::PolicyViolation
            | Code::SaslAuthenticationFailed
            | Code::TopicAuthorizationFailed => KafkaError::Refused { what, why },
            _ => KafkaError::Cluster { what, why },
        }
    }
}

impl Drop for KafkaAdmin {
    fn drop(&mut self) {
        let client = self.client.take();
        // Ending a client waits for its threads.
        std::thread::spawn(move || drop(client));
    }
}

/// Reads the partitions of a topic, none when it does not exist.
fn shape(topic: &MetadataTopic) -> Result<Option<(u32, bool)>, RDKafkaErrorCode> {
    if let Some(error) = topic.error() {
        return match RDKafkaErrorCode::from(error) {
            RDKafkaErrorCode::UnknownTopicOrPartition => Ok(None),
            // It is being made.
            RDKafkaErrorCode::LeaderNotAvailable => Ok(Some((0, false))),
            code => Err(code),
        };
    }
    let led = topic.partitions().iter().all(|p| p.leader() >= 0);
    let count = u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX);
    Ok((count > 0).then_some((count, led)))
}

fn differs(
    spec: &TopicSpec,
    setting: &'static str,
    (found, wanted): (String, String),
    remedy: &'static str,
) -> KafkaError {
    KafkaError::Differs { topic: spec.name.to_string(), setting, found, wanted, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_out_of_range_is_named() {
        let check = |change: fn(&mut TopicSpec), field: &str| {
            let mut spec = TopicSpec::new("orders.events", 3);
            change(&mut spec);
            assert_eq!(spec.validate().unwrap_err().field, field);
        };
        check(|s| s.name = Topic::from(".."), "name");
        check(|s| s.partitions = 0, "partitions");
        check(|s| s.replicas = Some(0), "replicas");
        check(|s| (s.replicas, s.in_sync_min) = (Some(2), Some(3)), "in_sync_min");
        check(|s| s.retention = Some(Duration::ZERO), "retention");
    }
}
