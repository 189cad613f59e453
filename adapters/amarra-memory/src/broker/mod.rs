//! The simulated broker: topics, fenced producers and consumer groups.

use std::sync::Arc;

use amarra_core::Environment;
use amarra_messaging::{Group, Partition, Topic};

use crate::client::ClientId;
use crate::config::{BrokerConfig, MemberOptions};
use crate::error::ConfigError;
use crate::hooks::Hooks;

/// A broker.
#[derive(Debug, Clone)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: Arc<str>,
    config: BrokerConfig,
    env: Environment,
    hooks: Hooks,
}

/// Opens publishing sessions for the shards of one outbox.
#[derive(Debug, Clone)]
pub struct MemoryTransport {
    shared: Arc<Shared>,
    client: ClientId,
    source: Arc<str>,
}

/// A member of a consumer group.
#[derive(Debug)]
pub struct MemoryConsumer {
    shared: Arc<Shared>,
    client: ClientId,
    group: Group,
    topics: Arc<[Topic]>,
    options: MemberOptions,
}

impl MemoryBroker {
    /// Starts a broker without topics.
    ///
    /// # Errors
    /// [`ConfigError::Field`] when the configuration is out of range.
    pub fn new(
        name: impl Into<Arc<str>>,
        config: BrokerConfig,
        env: Environment,
        hooks: Hooks,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { shared: Arc::new(Shared { name: name.into(), config, env, hooks }) })
    }

    /// Creates a topic; creating it again with as many partitions does nothing.
    ///
    /// # Errors
    /// [`ConfigError::TopicExists`] when it has another number of partitions.
    pub fn create_topic(
        &self,
        topic: impl Into<Topic>,
        partitions: u32,
    ) -> Result<(), ConfigError> {
        let _ = (topic.into(), partitions);
        Ok(())
    }

    /// Connects a publisher of the outbox `source`, as [`OutboxLog::source`] names it: sessions of
    /// one shard of one outbox fence each other.
    ///
    /// [`OutboxLog::source`]: amarra_messaging::OutboxLog::source
    #[must_use]
    pub fn transport(&self, client: ClientId, source: impl Into<Arc<str>>) -> MemoryTransport {
        MemoryTransport { shared: Arc::clone(&self.shared), client, source: source.into() }
    }

    /// Makes a member of a group; it joins at its first poll.
    ///
    /// # Errors
    /// [`ConfigError::Field`] when the options are out of range.
    pub fn consumer(
        &self,
        client: ClientId,
        group: impl Into<Group>,
        topics: &[Topic],
        options: MemberOptions,
    ) -> Result<MemoryConsumer, ConfigError> {
        options.validate()?;
        Ok(MemoryConsumer {
            shared: Arc::clone(&self.shared),
            client,
            group: group.into(),
            topics: topics.into(),
            options,
        })
    }

    /// Stops the broker: what was not yet replicated is lost, as are all memberships.
    pub fn crash(&self) {}

    /// Starts the broker again.
    pub fn restart(&self) {}

    /// Refuses the incarnations of a node met so far; its members go when their session times out.
    pub fn disconnect(&self, node: &str) {
        let _ = node;
    }

    /// Makes every member of a group give up its partitions and join again.
    pub fn rebalance(&self, group: &Group) {
        let _ = group;
    }

    /// Makes another replica leader of a partition: what was not yet replicated is lost.
    pub fn fail_leader(&self, topic: &Topic, partition: Partition) {
        let _ = (topic, partition);
    }
}
