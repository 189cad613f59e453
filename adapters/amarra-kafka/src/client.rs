//! What every client of the cluster has in common.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError as DriverError;

use crate::config::KafkaConfig;

/// How soon a lost connection is made again, in milliseconds, and at the latest.
const RECONNECT: (&str, &str) = ("20", "500");

/// Time to poll a producer for: so many milliseconds and a little more.
///
/// The wrapper waits for the whole milliseconds that are left of it, again and again until none of
/// it is left, and does not wait at all for less than one. Asked for exactly 50 it waits for 49 and
/// spins for the rest; what this adds is over by the time a wait for all 50 has woken.
pub(crate) const fn whole(millis: u64) -> Duration {
    Duration::from_micros(millis.saturating_mul(1_000).saturating_add(20))
}

/// Makes the properties that every client shares: where the cluster is, and how long it may take.
pub(crate) fn client(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("client.id", "amarra");
    for (key, value) in &config.extra {
        client.set(key, value);
    }
    let timeout = config.request_timeout.as_millis();
    client
        .set("bootstrap.servers", &config.bootstrap)
        .set("allow.auto.create.topics", "false")
        .set("socket.timeout.ms", timeout.to_string())
        .set("socket.connection.setup.timeout.ms", timeout.max(1_000).to_string())
        .set("reconnect.backoff.ms", RECONNECT.0)
        .set("reconnect.backoff.max.ms", RECONNECT.1)
        .set("topic.metadata.propagation.max.ms", "0");
    client
}

/// A client whose failures show in what it was asked.
#[derive(Debug)]
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: DriverError, _: &str) {}
}

impl ConsumerContext for Quiet {}
