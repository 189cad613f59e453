//! Installs the servers once for every process of this machine.

mod kafka;
mod postgres;
mod tools;

use std::path::PathBuf;

use crate::error::Error;
use crate::home::Home;
use crate::postgres::PgVersion;

pub(crate) use self::tools::run;

/// Something that can be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// A version of PostgreSQL, with an initialised data folder to copy.
    Postgres(PgVersion),
    /// Apache Kafka.
    Kafka,
}

impl Part {
    /// Everything.
    pub const ALL: [Self; 3] =
        [Self::Postgres(PgVersion::V18), Self::Postgres(PgVersion::V15), Self::Kafka];
}

/// Installs what is missing; does nothing when all is there.
///
/// # Errors
/// Says which program is missing, or which command failed, and what to do.
pub fn install(parts: &[Part]) -> Result<(), Error> {
    let home = Home::find()?;
    for part in parts {
        match part {
            Part::Postgres(version) => drop(postgres(&home, *version)?),
            Part::Kafka => drop(kafka(&home)?),
        }
    }
    Ok(())
}

/// An installed PostgreSQL.
#[derive(Debug)]
pub(crate) struct PgInstalled {
    /// Holds `postgres` and `initdb`.
    pub(crate) bin: PathBuf,
    /// An initialised data folder.
    pub(crate) template: PathBuf,
}

pub(crate) fn postgres(home: &Home, version: PgVersion) -> Result<PgInstalled, Error> {
    let _lock = home.lock(&format!("postgres-{}", version.number()))?;
    postgres::install(home, version)
}

/// An installed Kafka.
#[derive(Debug)]
pub(crate) struct KafkaInstalled {
    /// The folder of jars.
    pub(crate) jars: PathBuf,
    /// Formatted data folders, `node-1` to `node-3`.
    pub(crate) templates: PathBuf,
}

pub(crate) fn kafka(home: &Home) -> Result<KafkaInstalled, Error> {
    let _lock = home.lock("kafka")?;
    kafka::install(home)
}
