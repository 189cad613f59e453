//! Requests to the gateway, sent again as a careful client does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::Environment;
use amarra_http::net::{TcpConnect, TokioSpawn};
use amarra_http::{Config, HttpClient};
use bytes::Bytes;
use serde_json::Value;

/// How long one try waits for its answer.
const TRY: Duration = Duration::from_secs(10);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The gateway as the customers reach it, and their tokens.
#[derive(Debug)]
pub(super) struct Front {
    client: HttpClient,
    env: Environment,
    /// The staff's access token.
    pub(super) staff: String,
    /// The customers' access tokens.
    pub(super) tokens: Vec<String>,
    /// The products, the most wanted first.
    pub(super) skus: Vec<String>,
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    method: &'static str,
    path: String,
    token: Option<String>,
    key: Option<String>,
    body: Value,
}

/// An answer: the status, 0 when none came, and the body.
pub(super) type Answer = (u16, Value);

impl Ask {
    /// Makes a request of a guest.
    pub(super) fn guest(method: &'static str, path: impl Into<String>, body: Value) -> Self {
        Self { method, path: path.into(), token: None, key: None, body }
    }

    /// Makes a request without a body.
    pub(super) fn get(path: impl Into<String>, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..Self::guest("GET", path, Value::Null) }
    }

    /// Makes a request with a body.
    pub(super) fn send(
        method: &'static str,
        path: impl Into<String>,
        token: &str,
        body: Value,
    ) -> Self {
        Self { token: Some(token.to_owned()), ..Self::guest(method, path, body) }
    }

    /// Names the command, so that it may be sent again.
    pub(super) fn keyed(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Describes it without its token and body.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl Front {
    /// Reaches the gateway at `address`.
    ///
    /// # Errors
    /// When it is no `host:port`.
    pub(super) fn new(env: Environment, address: &str, connections: u32) -> Result<Self, String> {
        let services = BTreeMap::from([("gateway".to_owned(), vec![address.to_owned()])]);
        let connect = TcpConnect::new(services, None).map_err(|e| e.to_string())?;
        let config = Config {
            idle_connections_max: usize::try_from(connections).unwrap_or(64),
            ..Config::default()
        };
        let client = HttpClient::new(Arc::new(connect), Arc::new(TokioSpawn), env.clone(), config);
        Ok(Self { client, env, staff: String::new(), tokens: Vec::new(), skus: Vec::new() })
    }

    /// Sends a request once.
    pub(super) async fn once(&self, ask: &Ask) -> Answer {
        let mut request = http::Request::builder().method(ask.method).uri(&ask.path);
        if let Some(token) = &ask.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(key) = &ask.key {
            request = request.header("idempotency-key", key);
        }
        let body = if ask.body.is_null() {
            Bytes::new()
        } else {
            request = request.header("content-type", "application/json");
            Bytes::from(ask.body.to_string())
        };
        let Ok(request) = request.body(body) else { return (0, Value::Null) };
        match self.env.timeout(TRY, self.client.send("gateway", request)).await {
            Ok(Ok(response)) => {
                let body = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
                (response.status().as_u16(), body)
            }
            _ => (0, Value::Null),
        }
    }

    /// Sends a request until it is answered for good, or `patience` has passed. Only for requests
    /// that are safe to send again.
    pub(super) async fn until_answered(&self, ask: &Ask, patience: Duration) -> Answer {
        let give_up = self.env.monotonic().plus(patience);
        let mut wait = Duration::from_millis(100);
        loop {
            let answer = self.once(ask).await;
            let again = matches!(answer.0, 0 | 409 | 429 | 500..);
            if !again || self.env.monotonic() >= give_up {
                return answer;
            }
            self.env.sleep(wait).await;
            wait = wait.saturating_mul(2).min(PAUSE_MAX);
        }
    }

    /// Sends a request until it is answered, and returns the body of the answer `status`.
    ///
    /// # Errors
    /// Any other answer, with the request's line.
    pub(super) async fn expect(
        &self,
        ask: &Ask,
        status: u16,
        patience: Duration,
    ) -> Result<Value, String> {
        match self.until_answered(ask, patience).await {
            (0, _) => Err(format!("{}: the gateway does not answer", ask.line())),
            (got, body) if got == status => Ok(body),
            (got, body) => Err(format!("{} was answered {got}: {body}", ask.line())),
        }
    }
}
