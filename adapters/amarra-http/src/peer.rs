//! Who is at the other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

/// The other end of the connection a request came on; a server over sockets adds it to the
/// extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address. Behind a load balancer that is the balancer's.
    pub address: SocketAddr,
    /// The first URI name of its certificate, for example `spiffe://amarra/orders`; none on a plain
    /// connection. It is proved: the certificate was verified against the configured authority.
    pub identity: Option<Arc<str>>,
}
