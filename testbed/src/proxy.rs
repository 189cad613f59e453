//! A TCP proxy that does to a connection what networks do.

mod link;
mod state;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use self::state::Rule;
use self::state::Shared;

use crate::error::Error;
use crate::home::Home;
use crate::patience::until;
use crate::port::Port;

/// How long connections may take to end when the proxy is dropped.
const DROP_PATIENCE: Duration = Duration::from_secs(5);
/// Threads do little: they need no more stack, in bytes.
const STACK: usize = 256 << 10;
/// The longest pattern of a rule, in bytes.
const PATTERN_MAX: usize = 4_096;

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
    /// They are forwarded, and the connection is cut when the other side answers: the answer is
    /// lost, and what it answers has been done.
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
///
/// # Example
/// ```
/// use std::io::{Read, Write};
/// use std::net::{TcpListener, TcpStream};
/// use testbed::{CutAt, Direction, Proxy};
///
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let proxy = Proxy::start(server.local_addr()?)?;
/// let rule = proxy.cut_when(Direction::Up, b"COMMIT", CutAt::Before);
/// let mut client = TcpStream::connect(proxy.addr())?;
/// client.write_all(b"COMMIT")?;
/// assert!(rule.wait(std::time::Duration::from_secs(30)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
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
    pub fn start_with(target: SocketAddr, options: ProxyOptions) -> Result<Self, Error> {
        if !(1..=4_096).contains(&options.connections_max) {
            return Err(Error::Misuse("connections_max must be 1 to 4096".into()));
        }
        let port = Port::pick(&Home::find()?)?;
        let shared = Arc::new(Shared::new(target, options.connections_max));
        let proxy = Self { port, shared, acceptor: Mutex::new(None) };
        proxy.accept()?;
        Ok(proxy)
    }

    /// Where clients connect to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The port clients connect to, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Delays every byte by this much each way, without slowing the flow; zero ends it.
    pub fn latency(&self, each_way: Duration) {
        self.shared.change(|state| state.latency = each_way);
    }

    /// Refuses new connections, as a server that is down does, or accepts them again.
    ///
    /// # Errors
    /// When the port cannot be bound again.
    pub fn refuse(&self, on: bool) -> Result<(), Error> {
        if on {
            self.close()
        } else {
            self.accept()?
        }
        Ok(())
    }

    /// Holds back what passes in a direction, losing nothing, or lets it go; connections stay open.
    pub fn stall(&self, direction: Direction, on: bool) {
        self.shared.change(|state| *state.stalled.of(direction) = on);
    }

    /// Cuts every connection there is; new ones are accepted.
    pub fn cut_now(&self) {
        self.shared.cut_all();
    }

    /// Cuts the first connection in which `pattern` passes in `direction`, once; the pattern may be
    /// split over packets.
    ///
    /// # Panics
    /// When the pattern is empty or longer than 4,096 bytes.
    #[must_use = "a rule that is not asked whether it cut proves nothing"]
    pub fn cut_when(&self, direction: Direction, pattern: &[u8], at: CutAt) -> Rule {
        assert!((1..=PATTERN_MAX).contains(&pattern.len()), "a pattern has 1 to 4096 bytes");
        self.shared.arm(direction, pattern, at)
    }

    /// Forgets every rule that has not cut yet, every stall and the latency.
    pub fn heal(&self) {
        self.shared.change(state::State::heal);
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections()
    }

    /// Binds the port and accepts, unless it does.
    fn accept(&self) -> Result<(), Error> {
        let mut acceptor = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner);
        if acceptor.is_some() {
            return Ok(());
        }
        let failed = |e: io::Error| Error::command(format!("proxying on {}", self.addr()), e);
        let listener = TcpListener::bind(self.addr()).map_err(failed)?;
        self.shared.change(|state| state.refusing = false);
        let shared = Arc::clone(&self.shared);
        let accepting = move || {
            for stream in listener.incoming() {
                if shared.is_refusing() {
                    break;
                }
                if let Ok(stream) = stream {
                    link::open(&shared, stream);
                }
            }
        };
        let spawned = thread::Builder::new().stack_size(STACK).spawn(accepting).map_err(failed)?;
        *acceptor = Some(spawned);
        Ok(())
    }

    /// Closes the listening port; returns once it is closed.
    fn close(&self) {
        let mut acceptor = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(thread) = acceptor.take() else { return };
        self.shared.change(|state| state.refusing = true);
        // Wakes the acceptor, which then sees that it is to end.
        let _ = TcpStream::connect(self.addr());
        let _ = thread.join();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
        self.shared.change(|state| state.closing = true);
        self.shared.cut_all();
        until(DROP_PATIENCE, || (self.shared.connections() == 0).then_some(()));
    }
}
