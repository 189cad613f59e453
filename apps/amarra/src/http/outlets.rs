//! Connections to services in other processes: mutual TLS within the shop, plain to the outside.

use std::collections::BTreeMap;
use std::io;

use amarra_http::net::{ClientTls, TcpConnect};
use amarra_http::{Connect, Io};
use async_trait::async_trait;

use crate::config::Config;
use crate::name::Name;
use crate::refusal::{Failure, Refuse};

/// The ways out of a process.
#[derive(Debug)]
pub(crate) struct Outlets {
    inside: TcpConnect,
    outside: TcpConnect,
}

impl Outlets {
    /// Knows every service that the configuration names.
    pub(crate) fn new(config: &Config, tls: Option<ClientTls>) -> Result<Self, Failure> {
        let (mut inside, mut outside) = (BTreeMap::new(), BTreeMap::new());
        for name in Name::ALL {
            let section = config.service(name);
            let mut addresses = section.address;
            if addresses.is_empty() {
                addresses.extend(section.listen.map(|listen| listen.to_string()));
            }
            let side = if name.has_database() { &mut inside } else { &mut outside };
            side.insert(name.as_str().to_owned(), addresses);
        }
        let inside = TcpConnect::new(inside, tls).refuse()?;
        Ok(Self { inside, outside: TcpConnect::new(outside, None).refuse()? })
    }
}

#[async_trait]
impl Connect for Outlets {
    async fn connect(&self, service: &str) -> io::Result<Box<dyn Io>> {
        let is_inside = Name::WITH_DATABASE.iter().any(|name| name.as_str() == service);
        let side = if is_inside { &self.inside } else { &self.outside };
        side.connect(service).await
    }
}
