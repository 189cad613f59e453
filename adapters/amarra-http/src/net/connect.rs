//! Opens TCP connections to services by name, with TLS where it is configured.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::NetError;
use super::tls::ClientTls;
use crate::client::{Connect, Io, Spawn};

/// Opens connections to the replicas of a service in turn.
///
/// The pool of idle connections is [`HttpClient`](crate::HttpClient)'s.
#[derive(Debug)]
pub struct TcpConnect {
    services: BTreeMap<String, Vec<String>>,
    tls: Option<ClientTls>,
    turn: AtomicUsize,
}

impl TcpConnect {
    /// Knows services by name, each with its `host:port` addresses; names resolve at each connect.
    ///
    /// With `tls` a server must prove the service's name by its certificate.
    ///
    /// # Errors
    /// [`NetError::Address`].
    pub fn new(
        services: BTreeMap<String, Vec<String>>,
        tls: Option<ClientTls>,
    ) -> Result<Self, NetError> {
        for (service, addresses) in &services {
            if let Some(bad) = addresses.iter().find(|address| !is_host_port(address)) {
                let (service, address) = (service.clone(), bad.clone());
                return Err(NetError::Address { service, address });
            }
        }
        Ok(Self { services, tls, turn: AtomicUsize::new(0) })
    }

    async fn open(&self, service: &str, address: &str) -> std::io::Result<Box<dyn Io>> {
        let stream = TcpStream::connect(address).await?;
        // A request is one write; waiting for a second one only adds latency.
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(service.to_owned()).map_err(std::io::Error::other)?;
        let connector = TlsConnector::from(tls.0.clone());
        Ok(Box::new(connector.connect(name, stream).await?))
    }
}

#[async_trait]
impl Connect for TcpConnect {
    async fn connect(&self, service: &str) -> std::io::Result<Box<dyn Io>> {
        let addresses = self.services.get(service).map(Vec::as_slice).unwrap_or_default();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut error = std::io::Error::new(
            std::io::ErrorKind::NotFound,
            format!("service {service} has no configured address"),
        );
        let in_turn =
            addresses.iter().cycle().skip(first.checked_rem(addresses.len()).unwrap_or(0));
        for address in in_turn.take(addresses.len()) {
            match self.open(service, address).await {
                Ok(io) => return Ok(io),
                Err(e) => error = e,
            }
        }
        Err(error)
    }
}

fn is_host_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

/// Starts the client's connection tasks on the current tokio runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokioSpawn;

impl Spawn for TokioSpawn {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(task);
    }
}
