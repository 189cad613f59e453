//! Bounds and times of a bus and of its members.

use std::path::{Path, PathBuf};
use std::time::Duration;

use amarra_messaging::{ConfigError, Topic};
use serde::Deserialize;

use crate::config::Synchronous;
use crate::error::OpenError;
use crate::file::beside;

/// A topic and in how many partitions it is split.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicConfig {
    /// Its name.
    pub topic: Topic,
    /// Partitions, 1 to 1024; a record's is murmur2 of its key modulo this number. Fixed when the
    /// topic is made, since it decides where a key's records are. It bounds how many members of a
    /// group work on the topic at once.
    pub partitions: u32,
}

impl TopicConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`OpenError::Config`] for the first field out of range.
    pub fn validate(&self) -> Result<(), OpenError> {
        let named = !self.topic.as_str().is_empty();
        ConfigError::unless(named, "topic", "a name")?;
        let bounds = 1..=1024;
        ConfigError::unless(bounds.contains(&self.partitions), "partitions", "from 1 to 1024")?;
        Ok(())
    }
}

/// How a bus behaves.
///
/// # Example
/// ```
/// use amarra_sqlite::{BusConfig, TopicConfig};
///
/// let topics = vec![TopicConfig { topic: "orders".into(), partitions: 4 }];
/// let config = BusConfig::new("data/amarra-bus.sqlite", topics);
/// assert!(config.validate().is_ok());
/// let bad = BusConfig { batch_max: 0, ..config };
/// assert!(bad.validate().unwrap_err().to_string().contains("batch_max"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    /// The file; it is made when it is not there, its folder is not.
    pub path: PathBuf,
    /// The topics this program uses. One that the file has and this list has not stays as it is.
    pub topics: Vec<TopicConfig>,
    /// When a published record is on the disk.
    pub synchronous: Synchronous,
    /// When a committed offset is on the disk, in a transaction that publishes nothing; one that
    /// does takes it along. `Normal`, since an offset lost with the machine's power only brings
    /// records again, which the inbox knows from any other redelivery.
    pub offsets_synchronous: Synchronous,
    /// How long SQLite waits for a file lock somebody else holds, above zero. Only a tool that
    /// looks into the file can hold one: the process lock keeps other services out.
    pub busy_timeout: Duration,
    /// Connections that read, 1 to 64, each with a thread of its own. Members that keep up read
    /// from memory; these serve the ones that lag.
    pub readers: u32,
    /// Bytes of one record with its key and headers, at least 1; a larger one is refused. Above the
    /// outbox's own bound, for the headers.
    pub record_bytes_max: usize,
    /// Requests that wait for the writer, at least 1; a caller past it waits to be let in.
    pub queue_max: usize,
    /// Requests written in one transaction, at least 1. They share its `fsync`.
    pub batch_max: usize,
    /// Bytes of the records written in one transaction, at least 1; the request that passes it is
    /// the transaction's last.
    pub batch_bytes: usize,
    /// Bytes of the newest records that are kept in memory for members that keep up; zero for none.
    pub cache_bytes: usize,
    /// Records that a member which lags reads ahead of each partition, at least 1.
    pub read_ahead: usize,
    /// Bytes that a member which lags reads ahead of each partition, at least 1; the record that
    /// passes it is the last.
    pub read_ahead_bytes: usize,
    /// How long a record is kept after it was published, above zero; it is then deleted once every
    /// known group has read it. A week, for looking at what happened.
    pub retention: Duration,
    /// Bytes of the file, at least 1 MiB. Past it records that every known group has read are
    /// deleted before their time, and where that is not enough publishing is refused as
    /// unavailable: nothing is deleted that a group has still to read.
    pub file_bytes_max: u64,
    /// Records deleted in one transaction, at least 1.
    pub prune_max: usize,
}

impl Default for BusConfig {
    /// Durable against loss of power, 2 MiB records, a week and 16 GiB; no path and no topics.
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            topics: Vec::new(),
            synchronous: Synchronous::Full,
            offsets_synchronous: Synchronous::Normal,
            busy_timeout: Duration::from_secs(5),
            readers: 4,
            record_bytes_max: 2 << 20,
            queue_max: 1024,
            batch_max: 256,
            batch_bytes: 8 << 20,
            cache_bytes: 32 << 20,
            read_ahead: 512,
            read_ahead_bytes: 4 << 20,
            retention: Duration::from_secs(7 * 24 * 3600),
            file_bytes_max: 16 << 30,
            prune_max: 1000,
        }
    }
}

impl BusConfig {
    /// Makes the default configuration of a bus in the file `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, topics: Vec<TopicConfig>) -> Self {
        Self { path: path.into(), topics, ..Self::default() }
    }

    /// Names the bus's file beside a database: `PATH-bus`.
    #[must_use]
    pub fn path_beside(database: impl AsRef<Path>) -> PathBuf {
        beside(database.as_ref(), "bus")
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`OpenError::Config`] for the first field out of range.
    pub fn validate(&self) -> Result<(), OpenError> {
        let unless = ConfigError::unless;
        unless(!self.path.as_os_str().is_empty(), "path", "a file")?;
        for (index, topic) in self.topics.iter().enumerate() {
            let twice = self.topics.iter().skip(index.saturating_add(1));
            unless({ twice }.all(|t| t.topic != topic.topic), "topics", "each there once")?;
            topic.validate()?;
        }
        unless(!self.busy_timeout.is_zero(), "busy_timeout", "above zero")?;
        unless((1..=64).contains(&self.readers), "readers", "from 1 to 64")?;
        unless(self.record_bytes_max > 0, "record_bytes_max", "at least 1")?;
        unless(self.queue_max > 0, "queue_max", "at least 1")?;
        unless(self.batch_max > 0, "batch_max", "at least 1")?;
        unless(self.batch_bytes > 0, "batch_bytes", "at least 1")?;
        unless(self.read_ahead > 0, "read_ahead", "at least 1")?;
        unless(self.read_ahead_bytes > 0, "read_ahead_bytes", "at least 1")?;
        unless(!self.retention.is_zero(), "retention", "above zero")?;
        unless(self.file_bytes_max >= 1 << 20, "file_bytes_max", "at least 1 MiB")?;
        unless(self.prune_max > 0, "prune_max", "at least 1")?;
        Ok(())
    }
}

/// How one member of a group behaves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemberConfig {
    /// How long after its last poll ended a member is taken for dead, above zero. Ten seconds: a
    /// member that works polls all the time, one that is dropped leaves at once.
    pub session_timeout: Duration,
}

impl Default for MemberConfig {
    /// Ten seconds.
    fn default() -> Self {
        Self { session_timeout: Duration::from_secs(10) }
    }
}

impl MemberConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`OpenError::Config`] for the first field out of range.
    pub fn validate(&self) -> Result<(), OpenError> {
        ConfigError::unless(!self.session_timeout.is_zero(), "session_timeout", "above zero")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus() -> BusConfig {
        BusConfig::new("bus", vec![TopicConfig { topic: "t".into(), partitions: 1 }])
    }

    fn topics(of: &[(&str, u32)]) -> Vec<TopicConfig> {
        of.iter().map(|&(t, partitions)| TopicConfig { topic: t.into(), partitions }).collect()
    }

    #[test]
    fn every_bad_field_is_named() {
        let check = |config: BusConfig, field: &str| {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with(field), "{message:?} does not name {field}");
        };
        bus().validate().unwrap();
        check(BusConfig { path: PathBuf::new(), ..bus() }, "path");
        check(BusConfig { topics: topics(&[("t", 1), ("t", 2)]), ..bus() }, "topics");
        check(BusConfig { topics: topics(&[("t", 0)]), ..bus() }, "partitions");
        check(BusConfig { topics: topics(&[("", 1)]), ..bus() }, "topic");
        check(BusConfig { busy_timeout: Duration::ZERO, ..bus() }, "busy_timeout");
        check(BusConfig { readers: 65, ..bus() }, "readers");
        check(BusConfig { record_bytes_max: 0, ..bus() }, "record_bytes_max");
        check(BusConfig { queue_max: 0, ..bus() }, "queue_max");
        check(BusConfig { batch_max: 0, ..bus() }, "batch_max");
        check(BusConfig { batch_bytes: 0, ..bus() }, "batch_bytes");
        check(BusConfig { read_ahead: 0, ..bus() }, "read_ahead");
        check(BusConfig { read_ahead_bytes: 0, ..bus() }, "read_ahead_bytes");
        check(BusConfig { retention: Duration::ZERO, ..bus() }, "retention");
        check(BusConfig { file_bytes_max: 1, ..bus() }, "file_bytes_max");
        check(BusConfig { prune_max: 0, ..bus() }, "prune_max");
        let member = MemberConfig { session_timeout: Duration::ZERO };
        assert!(member.validate().unwrap_err().to_string().starts_with("session_timeout"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(serde_json::from_str::<BusConfig>(r#"{"retentio": 1}"#).is_err());
        assert!(serde_json::from_str::<MemberConfig>(r#"{"session": 1}"#).is_err());
    }
}
