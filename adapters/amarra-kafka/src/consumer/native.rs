//! The properties of the client library that make a member.

use std::time::Duration;

use amarra_messaging::Group;
use rdkafka::ClientConfig;

use super::config::{ConsumerConfig, Isolation, Protocol};
use crate::client;
use crate::config::KafkaConfig;

/// How often topics and partitions that were added are looked for, in milliseconds.
const TOPICS_EVERY: &str = "10000";

/// Makes the properties of a member, and those to fall back on where the broker does not know the
/// group protocol.
pub(super) fn properties(
    kafka: &KafkaConfig,
    group: &Group,
    config: &ConsumerConfig,
) -> (ClientConfig, Option<ClientConfig>) {
    let base = base(kafka, group, config);
    match config.protocol {
        Protocol::Classic => (classic(base, config), None),
        Protocol::Consumer => (consumer(base), None),
        Protocol::Auto => (consumer(base.clone()), Some(classic(base, config))),
    }
}

fn base(kafka: &KafkaConfig, group: &Group, config: &ConsumerConfig) -> ClientConfig {
    let isolation = match config.isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    };
    // The broker holds a fetch that long, which is not a failure.
    let held = config.fetch_wait_max.saturating_add(Duration::from_secs(1));
    let kib = config.prefetch_bytes_max.div_ceil(1 << 10);
    // It bounds what is published, but the library wants it within what is fetched.
    let published = config.fetch_bytes_max.min(1_000_000);
    let mut client = client::client(kafka);
    client
        .set("group.id", group.as_str())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "false")
        .set("isolation.level", isolation)
        .set("max.poll.interval.ms", millis(config.max_poll_interval))
        .set("socket.timeout.ms", millis(kafka.request_timeout.max(held)))
        .set("socket.nagle.disable", "true")
        .set("message.max.bytes", published.to_string())
        .set("fetch.min.bytes", "1")
        .set("fetch.wait.max.ms", millis(config.fetch_wait_max))
        .set("fetch.max.bytes", config.fetch_bytes_max.to_string())
        .set("fetch.message.max.bytes", config.partition_bytes_max.to_string())
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "50")
        .set("queued.max.messages.kbytes", kib.to_string())
        .set("topic.metadata.refresh.interval.ms", TOPICS_EVERY);
    if let Some(id) = &config.instance_id {
        client.set("group.instance.id", id);
    }
    client
}

fn classic(mut client: ClientConfig, config: &ConsumerConfig) -> ClientConfig {
    client
        .set("group.protocol", "classic")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", millis(config.session_timeout))
        .set("heartbeat.interval.ms", millis(config.heartbeat_interval));
    client
}

fn consumer(mut client: ClientConfig) -> ClientConfig {
    client.set("group.protocol", "consumer");
    client
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
