//! The simulated broker: topics, fenced producers and consumer groups.

mod assignor;
mod consumer;
mod group;
mod inspect;
mod session;
mod state;
mod topic;

use std::sync::{Arc, Mutex, PoisonError};

use amarra_core::Environment;
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::{Group, Partition, Topic};

pub use consumer::MemoryConsumer;
pub use inspect::Inspection;
pub use session::MemoryTransport;

use self::state::{Event, State};
use self::topic::PartitionLog;
use crate::client::ClientId;
use crate::config::{BrokerConfig, MemberOptions};
use crate::error::{ConfigError, require};
use crate::faults::{Operation, Site, Verdict};
use crate::hooks::{Hooks, pause};

/// A broker: a model of Kafka with every replica in sync.
///
/// A record goes to the partition that murmur2 of its key chooses, as Kafka's own clients choose
/// it. It is readable once it is replicated; before that a change of leader loses it. Groups
/// rebalance eagerly: every member gives up all partitions and joins again.
///
/// Cheap to clone: all clones are one broker.
#[derive(Debug, Clone)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    name: Arc<str>,
    config: BrokerConfig,
    env: Environment,
    hooks: Hooks,
    state: Mutex<State>,
}

impl Shared {
    /// Works on the state, then tells the observer what became true.
    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let (out, events) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let out = work(&mut state);
            (out, state.events.as_mut().map(std::mem::take).unwrap_or_default())
        };
        if let Some(observer) = &self.hooks.observer {
            for event in &events {
                match event {
                    Event::Published(published) => observer.published(published),
                    Event::OffsetsCommitted(commit) => observer.offsets_committed(commit),
                    Event::Rebalanced(rebalanced) => observer.rebalanced(rebalanced),
                }
            }
        }
        out
    }

    /// Asks the fault hook about an operation and lets the request travel.
    async fn arrive(&self, client: &ClientId, operation: Operation<'_>) -> Verdict {
        let verdict = self.hooks.at(&Site { server: &self.name, client, operation });
        pause(&self.env, verdict.delay_before).await;
        verdict
    }

    fn rebalance(&self, group: &Group) {
        let until = self.env.monotonic().plus(self.config.rebalance_timeout);
        self.with(|state| {
            if let Some(group) = state.groups.get_mut(group) {
                group.prepare(until);
            }
        });
    }
}

impl MemoryBroker {
    /// Starts a broker without topics; `env` is its own: its clock decides about sessions.
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
        let state = Mutex::new(State::new(hooks.observer.is_some()));
        Ok(Self { shared: Arc::new(Shared { name: name.into(), config, env, hooks, state }) })
    }

    /// Creates a topic; creating it again with as many partitions does nothing.
    ///
    /// # Errors
    /// [`ConfigError::TopicExists`] when it has another number of partitions, and
    /// [`ConfigError::Field`] when `partitions` is zero.
    pub fn create_topic(
        &self,
        topic: impl Into<Topic>,
        partitions: u32,
    ) -> Result<(), ConfigError> {
        require(partitions > 0, "partitions", "must be at least 1")?;
        let topic = topic.into();
        let until = self.shared.env.monotonic().plus(self.shared.config.rebalance_timeout);
        self.shared.with(|state| {
            if let Some(logs) = state.topics.get(&topic) {
                let existing = u32::try_from(logs.len()).unwrap_or(u32::MAX);
                if existing == partitions {
                    return Ok(());
                }
                return Err(ConfigError::TopicExists { topic: topic.to_string(), existing });
            }
            let logs = (0..partitions).map(|_| PartitionLog::default()).collect();
            for group in state.groups.values_mut() {
                if group.members().any(|member| member.topics.contains(&topic)) {
                    group.prepare(until);
                }
            }
            state.topics.insert(topic, logs);
            Ok(())
        })
    }

    /// Connects a publisher of the outbox `source`, as [`OutboxLog::source`] names it: sessions of
    /// one shard of one outbox fence each other, and the newest one wins.
    ///
    /// [`OutboxLog::source`]: amarra_messaging::OutboxLog::source
    #[must_use]
    pub fn transport(&self, client: ClientId, source: impl Into<Arc<str>>) -> MemoryTransport {
        self.shared.with(|state| state.fence.connect(&client));
        MemoryTransport::new(Arc::clone(&self.shared), client, source.into())
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
        self.shared.with(|state| state.fence.connect(&client));
        let shared = Arc::clone(&self.shared);
        Ok(MemoryConsumer::new(shared, client, group.into(), topics.into(), options))
    }

    /// Stops the broker: what was not yet replicated is lost, as are all memberships; acknowledged
    /// records and committed offsets stay.
    pub fn crash(&self) {
        self.shared.with(State::crash);
    }

    /// Starts the broker again; members find themselves expelled and join again.
    pub fn restart(&self) {
        self.shared.with(|state| state.running = true);
    }

    /// Ends the connections of a killed process: its incarnations met so far are refused for ever,
    /// so that nothing its destructors do has any effect. The group does not learn of it: its
    /// members are expelled when their sessions time out.
    pub fn disconnect(&self, node: &str) {
        self.shared.with(|state| state.fence.disconnect(node));
    }

    /// Makes every member of a group give up its partitions and join again.
    pub fn rebalance(&self, group: &Group) {
        self.shared.rebalance(group);
    }

    /// Makes another replica the leader of a partition: what was not yet replicated is lost, and
    /// was not acknowledged.
    pub fn fail_leader(&self, topic: &Topic, partition: Partition) {
        let partition = TopicPartition { topic: topic.clone(), partition };
        self.shared.with(|state| {
            if let Some(log) = state.log_mut(&partition) {
                log.change_leader();
            }
        });
    }

    /// Looks at topics and groups, whether the broker runs or not.
    ///
    /// The broker is locked meanwhile: `look` must not call it.
    pub fn inspect<R>(&self, look: impl FnOnce(&Inspection<'_>) -> R) -> R {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        look(&Inspection::new(&state))
    }
}
