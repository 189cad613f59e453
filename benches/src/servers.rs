//! The servers of a run: PostgreSQL and Kafka of its own, which force everything to the disk.

use amarra_kafka::KafkaConfig;
use amarra_messaging::Topic;
use amarra_postgres::{Migrations, PartitionsConfig, PgConfig, PgPartitions, migrate};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use sqlx::{Connection as _, PgConnection};
use testbed::{Kafka, KafkaOptions, PgOptions, PgVersion, Postgres};

use crate::Failure;
use crate::process::cpu_micros_of_family;

/// Sequence values of a partition of the outbox.
const PARTITION_ROWS: u64 = 1_000_000;

/// One PostgreSQL and one Kafka.
#[derive(Debug)]
pub(crate) struct Servers {
    pg: Postgres,
    kafka: Kafka,
}

impl Servers {
    /// Starts both; `more` are settings of PostgreSQL, `key=value`.
    pub(crate) fn start(more: &[String]) -> Result<Self, Failure> {
        let setting = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let more = more.iter().filter_map(|s| s.split_once('=')).map(setting);
        let settings = [
            ("shared_buffers", "1GB"),
            ("max_wal_size", "8GB"),
            ("checkpoint_timeout", "15min"),
            ("autovacuum", "on"),
        ];
        let options = PgOptions {
            fsync: true,
            settings: settings.into_iter().map(setting).chain(more).collect(),
            ..PgOptions::default()
        };
        let pg = Postgres::start(PgVersion::V18, options)?;
        let options = KafkaOptions { heap_mib: 1_024, optimized: true, ..KafkaOptions::default() };
        let kafka = Kafka::start(options)?;
        Ok(Self { pg, kafka })
    }

    /// Returns Kafka's address.
    pub(crate) fn bootstrap(&self) -> String {
        self.kafka.bootstrap()
    }

    /// Returns the URL of a database, as its superuser.
    pub(crate) fn url(&self, database: &str) -> String {
        self.pg.url(database)
    }

    /// Returns the microseconds of processor time that PostgreSQL's and Kafka's processes used.
    pub(crate) fn cpu_micros(&self) -> (u64, u64) {
        let of = |pid: Option<u32>| pid.map_or(0, cpu_micros_of_family);
        (of(self.pg.pid()), of(self.kafka.pid(1)))
    }

    /// Makes a database with our schema and room for so many outbox rows.
    pub(crate) async fn database(
        &self,
        name: &str,
        shards: u16,
        rows: u64,
    ) -> Result<PgConfig, Failure> {
        self.pg.create_database(name)?;
        let config = PgConfig { shards, ..PgConfig::new(self.pg.url(name)) };
        migrate(&config, &Migrations::default()).await?;
        let ahead = u16::try_from(rows / PARTITION_ROWS + 2)?;
        let ahead = PartitionsConfig { ahead, ..PartitionsConfig::default() };
        let mut conn = PgConnection::connect(&config.url).await?;
        PgPartitions::new(ahead)?.maintain(&mut conn, false).await?;
        conn.close().await?;
        Ok(config)
    }

    /// Removes a database, with everybody who is connected to it.
    pub(crate) fn drop_database(&self, name: &str) -> Result<(), Failure> {
        self.pg.execute("postgres", &format!("drop database {name} with (force)"))?;
        Ok(())
    }

    /// Runs SQL in a database.
    pub(crate) fn execute(&self, database: &str, sql: &str) -> Result<(), Failure> {
        self.pg.execute(database, sql)?;
        Ok(())
    }

    /// Makes a topic.
    pub(crate) async fn topic(&self, name: &str, partitions: i32) -> Result<Topic, Failure> {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        self.create(topic).await?;
        Ok(Topic::from(name))
    }

    /// Makes the topic of the sessions' epochs.
    pub(crate) async fn fences(&self) -> Result<(), Failure> {
        let fences = KafkaConfig::new("").fence_topic;
        let topic = NewTopic::new(&fences, 1, TopicReplication::Fixed(1));
        self.create(topic.set("cleanup.policy", "compact")).await
    }

    async fn create(&self, topic: NewTopic<'_>) -> Result<(), Failure> {
        let made = self.admin()?.create_topics(&[topic], &AdminOptions::new()).await?;
        for result in made {
            result.map_err(|(topic, code)| format!("topic {topic} cannot be made: {code}"))?;
        }
        Ok(())
    }

    /// Removes a topic, so that its log does not fill the disk.
    pub(crate) async fn drop_topic(&self, topic: &Topic) -> Result<(), Failure> {
        self.admin()?.delete_topics(&[topic.as_str()], &AdminOptions::new()).await?;
        Ok(())
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, Failure> {
        let mut config = ClientConfig::new();
        Ok(config.set("bootstrap.servers", self.bootstrap()).create()?)
    }
}
