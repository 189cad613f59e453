//! The configuration of a process: every key with its unit, range and default.

mod drivers;
mod guards;
mod parse;
mod process;
mod servers;
mod shop;
mod source;
mod wait;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use amarra_shop::contract::users::Secret;
use serde::Deserialize;

pub(crate) use drivers::{ConsumerSection, RelaySection, RelaySource, WorkerSection};
pub(crate) use parse::{load, nearest};
pub(crate) use process::{
    HttpSection, KeysSection, ProcessSection, SupervisorSection, UpkeepSection,
};
pub(crate) use servers::{KafkaSection, PostgresSection, SqliteSection};
pub(crate) use shop::{
    GatewaySection, NotificationsSection, OrdersSection, PaymentsSection, ProviderSection,
    UsersSection,
};
pub(crate) use source::Source;

use crate::name::Name;
use crate::refusal::Failure;

/// Everything a process of the shop can be told. One file may serve all processes: each reads what
/// concerns it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// How the process ends.
    pub(crate) process: ProcessSection,
    /// Servers and clients.
    pub(crate) http: HttpSection,
    /// Where the secrets are.
    pub(crate) keys: KeysSection,
    /// Each service: where it listens, and its database.
    pub(crate) services: BTreeMap<String, ServiceSection>,
    /// The databases.
    pub(crate) postgres: PostgresSection,
    /// The broker.
    pub(crate) kafka: KafkaSection,
    /// The files of the embedded shop.
    pub(crate) sqlite: SqliteSection,
    /// The gateway's limits.
    pub(crate) gateway: GatewaySection,
    /// Users.
    pub(crate) users: UsersSection,
    /// Orders.
    pub(crate) orders: OrdersSection,
    /// Payments.
    pub(crate) payments: PaymentsSection,
    /// Notifications.
    pub(crate) notifications: NotificationsSection,
    /// The payment provider.
    pub(crate) provider: ProviderSection,
    /// The relays.
    pub(crate) relay: RelaySection,
    /// The consumers.
    pub(crate) consumer: ConsumerSection,
    /// The workers of timers.
    pub(crate) worker: WorkerSection,
    /// The supervisor.
    pub(crate) supervisor: SupervisorSection,
    /// What is deleted when.
    pub(crate) upkeep: UpkeepSection,
    /// The folder that relative paths start from: the configuration's own.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
}

/// One service, as others reach it and as it reaches its database.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServiceSection {
    /// Where it listens.
    pub(crate) listen: Option<SocketAddr>,
    /// Where it serves `/healthz`, `/readyz` and `/metrics` to operators; without it they are
    /// beside everything else. Set it where `listen` is open to customers or asks for certificates.
    pub(crate) admin: Option<SocketAddr>,
    /// `host:port` of each of its replicas, as others reach them; without it, `listen`.
    pub(crate) address: Vec<String>,
    /// The URL of its database with the service's role: `postgres://role:password@host:port/name`.
    pub(crate) database: Option<Source>,
    /// The same with the role that owns the schema; only `migrate` and `provision` read it.
    pub(crate) owner: Option<Source>,
    /// The same with the role that follows the write-ahead log, which `provision` gives
    /// `REPLICATION`; needed where `relay.source` is `"wal"`, and read nowhere else.
    pub(crate) wal: Option<Source>,
}

impl Config {
    /// Returns a service's section, an empty one when there is none.
    pub(crate) fn service(&self, name: Name) -> ServiceSection {
        self.services.get(name.as_str()).cloned().unwrap_or_default()
    }

    /// Reads a secret that has to be there.
    pub(crate) fn secret(&self, key: &str, source: Option<&Source>) -> Result<Secret, Failure> {
        match source {
            Some(source) => source.read(key, &self.folder),
            None => Err(Failure::refused(format!(
                "{key} is missing: name a file or an environment variable that holds it, as in \
                 {key} = {{ file = \"PATH\" }}"
            ))),
        }
    }

    /// Checks what the parts do not check themselves.
    fn validate(&self) -> Result<(), String> {
        for name in self.services.keys() {
            let known = || Name::ALL.iter().map(|n| n.as_str());
            if !known().any(|k| k == name) {
                let hint = nearest(name, known());
                let hint = hint.map(|h| format!(", did you mean {h}?")).unwrap_or_default();
                let known: Vec<_> = known().collect();
                return Err(format!("unknown service {name}{hint} Known: {}", known.join(", ")));
            }
        }
        self.process.validate()?;
        self.postgres.validate()?;
        self.kafka.validate()?;
        self.supervisor.validate()?;
        self.upkeep.validate()?;
        self.users.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_has_one_shard_unless_told_otherwise_and_never_none() {
        let shards = |text: &str| {
            let config: Config = toml::from_str(text).unwrap();
            config.validate().map(|()| config.postgres.shards)
        };
        assert_eq!(shards(""), Ok(1));
        assert_eq!(shards("[postgres]\nshards = 8"), Ok(8));
        for wrong in ["0", "1025"] {
            let why = shards(&format!("[postgres]\nshards = {wrong}")).unwrap_err();
            assert!(why.contains("postgres.shards"), "{why}");
        }
    }

    #[test]
    fn the_example_shows_every_section_and_is_accepted() {
        let text = include_str!("../../amarra.example.toml");
        let config: Config = toml::from_str(text).unwrap();
        config.validate().unwrap();
        let shown: toml::Table = toml::from_str(text).unwrap();
        assert_eq!(shown.len(), 18, "{shown:?}");
        assert_eq!(config.services.len(), Name::ALL.len());
    }
}
