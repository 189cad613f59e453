//! The seam between the shop and where it keeps things: embedded files, or real servers.

use std::sync::Arc;

use amarra_core::Environment;
use amarra_kafka::{
    ConsumerConfig, KafkaAdmin, KafkaConfig, KafkaConsumer, KafkaEnds, KafkaError, KafkaLag,
    KafkaTransport, Mode, TopicSpec,
};
use amarra_messaging::{Consumer, Group, OutboxLog, Parked, Topic, Transport, TxError};
use amarra_postgres::{PgDatabase, PgError, PgLogConfig, PgOutboxLog, PgReadModel, PgStore};
use amarra_shop::ServicePorts;
use amarra_shop::contract::topics as names;
use amarra_sqlite::{MemberConfig, SqliteBus, SqliteDatabase};
use amarra_store::Store;
use futures_util::future::BoxFuture;

use crate::compose::feed::FromTheStart;
use crate::config::Config;
use crate::refusal::{Failure, Refuse};

/// One service's database.
#[derive(Debug, Clone)]
pub(crate) enum Storage {
    /// A file.
    Sqlite(SqliteDatabase),
    /// A database on a server.
    Postgres(PgDatabase),
}

impl Storage {
    /// Returns the ports of the service.
    pub(crate) fn ports(&self, env: &Environment) -> ServicePorts {
        let env = env.clone();
        match self {
            Self::Sqlite(database) => ServicePorts {
                store: Arc::new(database.store()),
                views: Arc::new(database.read_model()),
                env,
            },
            Self::Postgres(database) => ServicePorts {
                store: Arc::new(PgStore::new(database.clone())),
                views: Arc::new(PgReadModel::new(database.clone())),
                env,
            },
        }
    }

    /// Returns the store.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(database) => Arc::new(database.store()),
            Self::Postgres(database) => Arc::new(PgStore::new(database.clone())),
        }
    }

    /// Lists what consumers set aside, ascending by ticket, after ticket `after`, at most `limit`.
    pub(crate) async fn parked(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(Group, Parked)>, TxError> {
        match self {
            Self::Sqlite(database) => database.store().parked(after, limit).await,
            Self::Postgres(database) => PgStore::new(database.clone()).parked(after, limit).await,
        }
    }

    /// Returns the relay's side of the outbox.
    pub(crate) async fn outbox_log(&self, source: &str) -> Result<Arc<dyn OutboxLog>, Failure> {
        Ok(match self {
            Self::Sqlite(database) => Arc::new(database.outbox_log()),
            Self::Postgres(database) => {
                let opened = PgOutboxLog::open(database, PgLogConfig::new(source)).await;
                Arc::new(opened.map_err(|e| unopened(e, database.config().shards))?)
            }
        })
    }

    /// Closes every connection, after the units that hold one ended.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(database) => database.close().await,
            Self::Postgres(database) => database.close().await,
        }
    }
}

/// Says why an outbox cannot be relayed; the shards it was made with are those it keeps.
fn unopened(e: PgError, shards: u16) -> Failure {
    Failure::refused(match e {
        PgError::Setting { name: "shards", found, .. } => {
            let made = found.trim_start_matches("not ");
            format!(
                "the outbox was made with {made} shards and keeps them, postgres.shards is \
                 {shards}: set it to {made}"
            )
        }
        e => e.to_string(),
    })
}

/// A member of a consumer group.
pub(crate) struct Member {
    /// What it reads.
    pub(crate) consumer: Box<dyn Consumer>,
    /// Resolves once the member, dropped by then, has left its group: a process that ends before
    /// leaves its partitions to nobody for a while.
    pub(crate) left: BoxFuture<'static, ()>,
    /// How far its group is behind, where the broker tells.
    pub(crate) lag: Option<KafkaLag>,
}

/// The broker.
#[derive(Debug, Clone)]
pub(crate) enum Broker {
    /// A file, for the services of this process.
    Bus(SqliteBus),
    /// A cluster.
    Kafka(Box<(KafkaConfig, ConsumerConfig, KafkaEnds)>),
}

impl Broker {
    /// Reaches the cluster and checks that every topic is there.
    pub(crate) async fn kafka(config: &Config) -> Result<Self, Failure> {
        let kafka = kafka(config);
        let admin = KafkaAdmin::new(kafka.clone()).refuse_for("kafka")?;
        admin.check(&topics(config, &kafka)).await.map_err(|e| {
            let hint = match e {
                KafkaError::Missing { .. } => "; run `amarra migrate --config FILE`",
                _ => "",
            };
            Failure::refused(format!("kafka: {e}{hint}"))
        })?;
        let session_timeout = config.kafka.session_timeout.0;
        let member = ConsumerConfig { session_timeout, ..ConsumerConfig::default() };
        member.validate().refuse_for("kafka")?;
        let ends = KafkaEnds::new(&kafka).refuse_for("kafka")?;
        Ok(Self::Kafka(Box::new((kafka, member, ends))))
    }

    /// Returns the transport of the outbox that is called `source`.
    pub(crate) fn transport(&self, source: Arc<str>) -> Result<Arc<dyn Transport>, Failure> {
        match self {
            Self::Bus(bus) => Ok(Arc::new(bus.transport(source))),
            Self::Kafka(both) => {
                let transport = KafkaTransport::new(both.0.clone(), &source);
                Ok(Arc::new(transport.refuse_for("kafka")?))
            }
        }
    }

    /// Makes a member of a group.
    pub(crate) fn consumer(&self, group: &Group, topics: &[Topic]) -> Result<Member, Failure> {
        match self {
            Self::Bus(bus) => {
                let member = bus.consumer(group.clone(), topics, MemberConfig::default());
                let consumer = Box::new(member.refuse()?);
                Ok(Member { consumer, left: Box::pin(async {}), lag: None })
            }
            Self::Kafka(both) => {
                let (config, member, ends) = both.as_ref();
                let member = KafkaConsumer::new(config, group.clone(), topics, member.clone());
                let member = member.refuse_for("kafka")?;
                let (left, lag) = (Box::pin(member.left()), Some(member.lag(ends)));
                Ok(Member { consumer: Box::new(member), left, lag })
            }
        }
    }
    /// Makes the only member of a group that reads every record that is kept, at each start anew.
    pub(crate) async fn rereader(
        &self,
        name: &str,
        topics: &[Topic],
        env: &Environment,
    ) -> Result<Member, Failure> {
        match self {
            // The group is forgotten and not left uncommitted: the bus keeps what a group has still
            // to read.
            Self::Bus(bus) => {
                let group = Group::new(name);
                bus.forget_group(&group).await.refuse()?;
                self.consumer(&group, topics)
            }
            // Another group each time; without offsets the cluster forgets it by itself.
            Self::Kafka(_) => {
                let group = Group::new(format!("{name}-{:016x}", env.entropy.next_u64()));
                let member = self.consumer(&group, topics)?;
                let consumer = Box::new(FromTheStart(member.consumer));
                // It commits nothing, so all would seem to wait.
                Ok(Member { consumer, left: member.left, lag: None })
            }
        }
    }

    /// Finishes what is being written.
    pub(crate) async fn close(&self) {
        if let Self::Bus(bus) = self {
            bus.close().await;
        }
    }
}

/// Makes the topics that are missing, and checks all.
pub(crate) async fn make_topics(config: &Config) -> Result<(), Failure> {
    let kafka = kafka(config);
    let admin = KafkaAdmin::new(kafka.clone()).refuse_for("kafka")?;
    admin.ensure(&topics(config, &kafka)).await.refuse_for("kafka")
}

fn kafka(config: &Config) -> KafkaConfig {
    let section = &config.kafka;
    let mode = if section.transactional { Mode::Transactional } else { Mode::Idempotent };
    let delivery_timeout = config.relay.config().publish_timeout;
    KafkaConfig { mode, delivery_timeout, ..KafkaConfig::new(&section.bootstrap) }
}

/// Lists every topic the shop needs, as it has to be.
fn topics(config: &Config, kafka: &KafkaConfig) -> Vec<TopicSpec> {
    let section = &config.kafka;
    let replicas = Some(section.replication);
    let plain = names::ALL.iter().map(|name| TopicSpec::new(name, section.partitions));
    let all = plain.chain([TopicSpec::fences(kafka)]);
    all.map(|spec| TopicSpec { replicas, ..spec }).collect()
}
