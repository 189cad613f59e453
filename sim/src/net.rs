//! Simulated sockets for the HTTP stack: names to addresses, connections, accept loops.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use amarra_http::{Connect, Io, Spawn, serve_connection};
use async_trait::async_trait;
use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::scenario::NODES;

/// The port every node serves HTTP on.
const PORT: u16 = 8080;

/// Returns a node's address; the workload's own node comes after those of the plan.
pub(crate) fn address(node: &str) -> IpAddr {
    let index = NODES.iter().position(|n| *n == node).unwrap_or(NODES.len());
    let host = u8::try_from(index).unwrap_or(u8::MAX - 1) + 1;
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, host))
}

/// Opens connections to the replicas of a service in turn.
#[derive(Debug)]
pub(crate) struct SimConnect {
    replicas: BTreeMap<String, Vec<SocketAddr>>,
    turn: AtomicUsize,
}

impl SimConnect {
    /// Knows every node of the cluster: `orders` stands for `orders-1` and `orders-2`.
    pub(crate) fn new() -> Self {
        let mut replicas: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
        for node in NODES {
            let service = node.split('-').next().unwrap_or(node);
            let at = SocketAddr::new(address(node), PORT);
            replicas.entry(service.to_owned()).or_default().push(at);
        }
        Self { replicas, turn: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl Connect for SimConnect {
    async fn connect(&self, service: &str) -> std::io::Result<Box<dyn Io>> {
        let replicas = self.replicas.get(service).map(Vec::as_slice).unwrap_or_default();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut error = std::io::Error::new(std::io::ErrorKind::NotFound, "no such service");
        for offset in 0..replicas.len() {
            let index = (first + offset) % replicas.len();
            let Some(at) = replicas.get(index) else { continue };
            match TcpStream::connect(*at).await {
                Ok(stream) => return Ok(Box::new(Quiet::new(stream))),
                Err(e) => error = e,
            }
        }
        Err(error)
    }
}

/// A stream that sends nothing when there is nothing to send.
///
/// A flush of a simulated stream sends a packet even when it is empty, and an empty packet wakes
/// the peer, whose HTTP stack then flushes in turn: two idle ends would keep each other busy.
#[derive(Debug)]
struct Quiet {
    stream: TcpStream,
    unsent: bool,
}

impl Quiet {
    fn new(stream: TcpStream) -> Self {
        Self { stream, unsent: false }
    }
}

impl AsyncRead for Quiet {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Quiet {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.unsent |= !buf.is_empty();
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if !std::mem::take(&mut self.unsent) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Starts tasks on the node it is called on.
#[derive(Debug)]
pub(crate) struct SimSpawn;

impl Spawn for SimSpawn {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(task);
    }
}

/// Serves a router on the node's address until the node dies.
pub(crate) async fn serve(node: &str, router: Router) {
    let at = SocketAddr::new(address(node), PORT);
    let Ok(listener) = TcpListener::bind(at).await else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let router = router.clone();
        tokio::spawn(async move {
            // A connection that breaks is the peer's to report.
            let _ = serve_connection(Box::new(Quiet::new(stream)), router).await;
        });
    }
}
