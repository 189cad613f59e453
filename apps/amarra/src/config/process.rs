//! How a process ends, serves and calls, and where its secrets are.

use std::path::PathBuf;
use std::time::Duration;

use amarra_http::net::{ListenConfig, TlsConfig};
use serde::Deserialize;

use super::source::Source;
use super::wait::Wait;
use crate::name::Name;

/// How the process ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProcessSection {
    /// How long `/readyz` answers 503 while requests are still taken, so that load balancers notice
    /// before the door closes. 500 ms.
    pub(crate) stop_grace: Wait,
    /// How long requests in flight, consumers and relays may take to end, in all; above zero. Those
    /// that take longer are cut. 20 s, shorter than the 30 s after which orchestrators kill.
    pub(crate) drain_timeout: Wait,
}

impl Default for ProcessSection {
    fn default() -> Self {
        Self { stop_grace: Wait::millis(500), drain_timeout: Wait::secs(20) }
    }
}

impl ProcessSection {
    /// Checks the ranges.
    pub(super) fn validate(&self) -> Result<(), String> {
        match self.drain_timeout.0 {
            Duration::ZERO => Err("process.drain_timeout must be above zero".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Servers and clients.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpSection {
    /// Connections open at once of one listener, at least 1. 1024.
    pub(crate) connections_max: usize,
    /// Whether plain HTTP may be served on an address that other machines reach. No.
    pub(crate) plain_off_loopback: bool,
    /// Largest request body a service reads, in bytes. 64 KiB.
    pub(crate) request_bytes_max: usize,
    /// Idle connections kept to each service. 64.
    pub(crate) idle_connections_max: usize,
    /// How long opening a connection may take. 1 s.
    pub(crate) connect_timeout: Wait,
    /// The token without which a service answers nobody: the gateway and the services share it.
    /// Needed where there is no `tls`.
    pub(crate) internal_token: Option<Source>,
    /// Mutual TLS between the gateway and the services.
    pub(crate) tls: Option<TlsSection>,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            plain_off_loopback: false,
            request_bytes_max: 64 * 1024,
            idle_connections_max: 64,
            connect_timeout: Wait::secs(1),
            internal_token: None,
            tls: None,
        }
    }
}

impl HttpSection {
    /// Returns the bounds of a listener.
    pub(crate) fn listener(&self, address: std::net::SocketAddr) -> ListenConfig {
        ListenConfig {
            connections_max: self.connections_max,
            plain_off_loopback: self.plain_off_loopback,
            ..ListenConfig::new(address)
        }
    }

    /// Returns the bounds of the client.
    pub(crate) fn client(&self) -> amarra_http::Config {
        amarra_http::Config {
            request_bytes_max: self.request_bytes_max,
            idle_connections_max: self.idle_connections_max,
            connect_timeout: self.connect_timeout.0,
            ..amarra_http::Config::default()
        }
    }
}

/// The files a process proves itself with; `{service}` in a path stands for the process's name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    /// The certificate chain, PEM, own certificate first; its DNS name is the service's name.
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM.
    pub(crate) key: PathBuf,
    /// The authority that every peer's certificate must come from, PEM.
    pub(crate) authority: PathBuf,
    /// Who may ask a service, by the URI name of their certificate. The gateway.
    #[serde(default = "gateway_alone")]
    pub(crate) callers: Vec<String>,
}

fn gateway_alone() -> Vec<String> {
    vec!["spiffe://amarra/gateway".to_owned()]
}

impl TlsSection {
    /// Returns the files of a process, relative ones from `folder` on.
    pub(crate) fn files(&self, folder: &std::path::Path, name: Name) -> TlsConfig {
        let file = |path: &PathBuf| {
            folder.join(path.to_string_lossy().replace("{service}", name.as_str()))
        };
        TlsConfig {
            certificate: file(&self.certificate),
            key: file(&self.key),
            authority: file(&self.authority),
        }
    }
}

/// Where the secrets are; each process needs only some.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KeysSection {
    /// The seed that signs access tokens, 32 bytes as base64url: Users alone.
    pub(crate) token_seed: Option<Source>,
    /// The public keys that verify access tokens, a JSON key set: everybody else.
    pub(crate) token_public: Option<Source>,
    /// The seed that signs quotes, 32 bytes as base64url: Catalog alone.
    pub(crate) quote_seed: Option<Source>,
    /// The public keys that verify quotes, a JSON key set: Orders.
    pub(crate) quote_public: Option<Source>,
    /// The key of keyed hashes, 32 bytes as base64url: Users alone.
    pub(crate) users_hash: Option<Source>,
    /// What the provider signs webhooks with, at least 16 bytes: Payments and the provider.
    pub(crate) webhook: Option<Source>,
    /// The first administrator's password: Users, and only until there is one.
    pub(crate) admin_password: Option<Source>,
}

/// The supervisor.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SupervisorSection {
    /// The wait before a process that died is started again; it doubles with each death in a row.
    /// Above zero. 200 ms.
    pub(crate) backoff_min: Wait,
    /// The longest such wait, at least `backoff_min`. 5 s.
    pub(crate) backoff_max: Wait,
    /// A process that lived so long is started again as if it were the first time. 10 s.
    pub(crate) steady_after: Wait,
    /// How long a process may take to end once it was asked to; then it is killed. 30 s.
    pub(crate) stop_patience: Wait,
}

impl Default for SupervisorSection {
    fn default() -> Self {
        Self {
            backoff_min: Wait::millis(200),
            backoff_max: Wait::secs(5),
            steady_after: Wait::secs(10),
            stop_patience: Wait::secs(30),
        }
    }
}

impl SupervisorSection {
    /// Checks the ranges.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.backoff_min.0.is_zero() || self.backoff_max.0 < self.backoff_min.0 {
            let why = "must be above zero and at most supervisor.backoff_max";
            return Err(format!("supervisor.backoff_min {why}"));
        }
        Ok(())
    }
}

/// What is deleted when.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UpkeepSection {
    /// The time between two rounds, above zero. 1 min.
    pub(crate) every: Wait,
    /// For how long the embedded shop keeps messages that were relayed. 1 h.
    pub(crate) outbox_age: Wait,
    /// For how long the embedded shop remembers which messages it applied; longer than the week
    /// for which its bus keeps them. 192 h.
    pub(crate) inbox_age: Wait,
    /// Rows deleted in one transaction, at least 1. 10,000.
    pub(crate) rows_max: usize,
}

impl Default for UpkeepSection {
    fn default() -> Self {
        let hour = 3_600;
        Self {
            every: Wait::secs(60),
            outbox_age: Wait::secs(hour),
            inbox_age: Wait::secs(8 * 24 * hour),
            rows_max: 10_000,
        }
    }
}

impl UpkeepSection {
    /// Checks the ranges.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.every.0.is_zero() || self.rows_max == 0 {
            return Err("upkeep.every and upkeep.rows_max must be above zero".to_owned());
        }
        Ok(())
    }
}
