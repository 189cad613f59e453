//! Bounds of a listening server.

use std::net::SocketAddr;
use std::time::Duration;

use super::error::NetError;

/// Where a server listens, and the bounds of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenConfig {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Connections open at once, at least 1; further ones wait in the kernel's queue. 1024.
    pub connections_max: usize,
    /// How long a connection may take to bring the next whole request head, idle time included;
    /// then it is closed. Above zero. 60 s, twice what clients here keep idle connections for.
    pub head_timeout: Duration,
    /// How long a TLS handshake may take, above zero. 5 s.
    pub handshake_timeout: Duration,
    /// How long requests in flight may take once a stop was requested, above zero; then their
    /// connections are cut. 10 s, the longest deadline of a route.
    pub drain_timeout: Duration,
    /// Whether to serve without TLS on an address that other machines reach. No: a bearer token on
    /// such a connection is anybody's.
    pub plain_off_loopback: bool,
}

impl ListenConfig {
    /// Listens on `address` with the default bounds.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connections_max: 1024,
            head_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(10),
            plain_off_loopback: false,
        }
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`NetError::Field`] names the field.
    pub fn validate(&self) -> Result<(), NetError> {
        let fields = [
            ("connections_max", self.connections_max == 0),
            ("head_timeout", self.head_timeout.is_zero()),
            ("handshake_timeout", self.handshake_timeout.is_zero()),
            ("drain_timeout", self.drain_timeout.is_zero()),
        ];
        match fields.into_iter().find(|(_, bad)| *bad) {
            Some((field, _)) => Err(NetError::Field { field, rule: "must be above zero" }),
            None => Ok(()),
        }
    }
}
