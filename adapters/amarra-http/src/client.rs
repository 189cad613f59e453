//! A small pooled HTTP/1.1 client over whatever streams the caller opens.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use amarra_core::Environment;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::Config;
use crate::error::HttpError;

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Opens connections to services by name.
#[async_trait]
pub trait Connect: Send + Sync + fmt::Debug {
    /// Opens a connection.
    ///
    /// # Errors
    /// What the network says.
    async fn connect(&self, service: &str) -> std::io::Result<Box<dyn Io>>;
}

/// Starts tasks; only the composition root knows how.
pub trait Spawn: Send + Sync + fmt::Debug {
    /// Starts a task that ends by itself.
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>);
}

type Sender = SendRequest<Full<Bytes>>;

/// An HTTP/1.1 client that keeps a bounded number of idle connections per service.
///
/// A request is never sent twice by the client: where an idle connection turns out to be closed
/// before anything was written, a new one is opened; in every other case the error says what is
/// known.
#[derive(Debug)]
pub struct HttpClient {
    connect: Arc<dyn Connect>,
    spawn: Arc<dyn Spawn>,
    env: Environment,
    config: Config,
    idle: Mutex<BTreeMap<String, Vec<Sender>>>,
}

impl HttpClient {
    /// Makes a client.
    #[must_use]
    pub fn new(
        connect: Arc<dyn Connect>,
        spawn: Arc<dyn Spawn>,
        env: Environment,
        config: Config,
    ) -> Self {
        Self { connect, spawn, env, config, idle: Mutex::default() }
    }

    /// Sends one request to a service and reads the whole response.
    ///
    /// # Errors
    /// [`HttpError`]; its class says whether the service may have acted.
    ///
    /// # Cancellation
    /// A dropped future closes its connection; the service may have acted.
    pub async fn send(
        &self,
        service: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, HttpError> {
        let mut sender = match self.take_idle(service) {
            Some(sender) => sender,
            None => self.open(service).await?,
        };
        let (mut parts, body) = request.into_parts();
        if let Ok(host) = http::HeaderValue::from_str(service) {
            parts.headers.insert(http::header::HOST, host);
        }
        let request = Request::from_parts(parts, Full::new(body));
        let no_answer = |why: String| HttpError::NoAnswer { service: service.to_owned(), why };
        if sender.ready().await.is_err() {
            sender = self.open(service).await?;
        }
        let response = sender.send_request(request).await.map_err(|e| no_answer(e.to_string()))?;
        let response = self.read(service, response).await?;
        self.give_back(service, sender);
        Ok(response)
    }

    async fn read(
        &self,
        service: &str,
        response: Response<Incoming>,
    ) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = response.into_parts();
        let limited = Limited::new(body, self.config.response_bytes_max);
        match limited.collect().await {
            Ok(body) => Ok(Response::from_parts(parts, body.to_bytes())),
            Err(e) if e.is::<http_body_util::LengthLimitError>() => {
                Err(HttpError::TooLarge { service: service.to_owned() })
            }
            Err(e) => Err(HttpError::NoAnswer { service: service.to_owned(), why: e.to_string() }),
        }
    }

    async fn open(&self, service: &str) -> Result<Sender, HttpError> {
        let not_sent = |why: String| HttpError::NotSent { service: service.to_owned(), why };
        let connecting = self.connect.connect(service);
        let io = match self.env.timeout(self.config.connect_timeout, connecting).await {
            Ok(Ok(io)) => io,
            Ok(Err(e)) => return Err(not_sent(e.to_string())),
            Err(elapsed) => return Err(not_sent(elapsed.to_string())),
        };
        let (sender, connection) =
            handshake(TokioIo::new(io)).await.map_err(|e| not_sent(e.to_string()))?;
        self.spawn.spawn(Box::pin(async move {
            // The sender reports the error to whoever waits for the response.
            let _ = connection.await;
        }));
        Ok(sender)
    }

    fn take_idle(&self, service: &str) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let senders = idle.get_mut(service)?;
        senders.retain(|s| !s.is_closed());
        senders.pop()
    }

    fn give_back(&self, service: &str, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let senders = idle.entry(service.to_owned()).or_default();
        if senders.len() < self.config.idle_connections_max && !sender.is_closed() {
            senders.push(sender);
        }
    }
}
