//! The accept loop: bounded connections, timeouts, and a graceful end.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use amarra_messaging::Shutdown;
use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::config::ListenConfig;
use super::error::NetError;
use super::tls::{ServerTls, identity};
use crate::client::Io;
use crate::peer::Peer;

/// How long the loop waits after the operating system refused a connection: it is out of files or
/// memory, and asking at once again would burn the processor.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// A listening HTTP/1.1 server.
///
/// # Example
/// ```no_run
/// use amarra_http::net::{HttpServer, ListenConfig};
/// use amarra_messaging::Shutdown;
/// use axum::Router;
///
/// # async fn example(router: Router) -> Result<(), amarra_http::net::NetError> {
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 8080));
/// let server = HttpServer::bind(ListenConfig::new(address), None).await?;
/// let (_stop, shutdown) = Shutdown::new();
/// server.serve(router, shutdown).await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    config: ListenConfig,
    tls: Option<ServerTls>,
}

impl HttpServer {
    /// Starts to listen; connections wait until [`serve`](Self::serve) runs.
    ///
    /// # Errors
    /// [`NetError`]; without `tls` an address that other machines reach is refused unless
    /// `plain_off_loopback` is set.
    pub async fn bind(config: ListenConfig, tls: Option<ServerTls>) -> Result<Self, NetError> {
        config.validate()?;
        let address = config.address;
        if tls.is_none() && !address.ip().is_loopback() && !config.plain_off_loopback {
            return Err(NetError::PlainOffLoopback { address });
        }
        let failed = |source| NetError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, config, tls })
    }

    /// Returns the address it listens on, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until a stop is requested; then it accepts no more, answers what is in flight, and
    /// returns after at most `drain_timeout`.
    ///
    /// # Cancellation
    /// Dropping the future closes every connection; requests in flight get no answer.
    pub async fn serve(self, router: Router, shutdown: Shutdown) {
        let room = Arc::new(Semaphore::new(self.config.connections_max));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                _ = connections.join_next(), if !connections.is_empty() => continue,
                accepted = self.accept(&room) => accepted,
            };
            let Some((stream, address, permit)) = accepted else {
                tokio::time::sleep(REFUSED_PAUSE).await;
                continue;
            };
            let connection = Connection {
                address,
                router: router.clone(),
                config: self.config,
                shutdown: shutdown.clone(),
            };
            let tls = self.tls.clone();
            connections.spawn(async move {
                connection.run(stream, tls).await;
                drop(permit);
            });
        }
        // From here on new connections are refused, not left waiting.
        drop(self.listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        // Those that take longer are cut with the set.
        let _ = tokio::time::timeout(self.config.drain_timeout, drained).await;
    }

    async fn accept(
        &self,
        room: &Arc<Semaphore>,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = Arc::clone(room).acquire_owned().await.ok()?;
        let (stream, address) = self.listener.accept().await.ok()?;
        stream.set_nodelay(true).ok()?;
        Some((stream, address, permit))
    }
}

struct Connection {
    address: SocketAddr,
    router: Router,
    config: ListenConfig,
    shutdown: Shutdown,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<ServerTls>) {
        let Some(tls) = tls else {
            let peer = Peer { address: self.address, identity: None };
            return self.serve(Box::new(stream), peer).await;
        };
        let handshake = TlsAcceptor::from(tls.0).accept(stream);
        let shaken = tokio::time::timeout(self.config.handshake_timeout, handshake).await;
        // A peer that cannot prove itself has been told so by the alert.
        let Ok(Ok(stream)) = shaken else { return };
        let identity = identity(stream.get_ref().1.peer_certificates());
        let peer = Peer { address: self.address, identity };
        self.serve(Box::new(stream), peer).await;
    }

    async fn serve(self, io: Box<dyn Io>, peer: Peer) {
        let service = self.router.map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            request
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.config.head_timeout);
        let serving = builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
        let mut serving = pin!(serving);
        // A connection that breaks is the peer's to report.
        tokio::select! {
            biased;
            _ = serving.as_mut() => return,
            () = self.shutdown.requested() => serving.as_mut().graceful_shutdown(),
        }
        let _ = serving.await;
    }
}
