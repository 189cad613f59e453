//! What every client of the cluster has in common.

use rdkafka::ClientConfig;

use crate::config::KafkaConfig;

/// How soon a lost connection is made again, in milliseconds, and at the latest.
const RECONNECT: (&str, &str) = ("20", "500");

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
