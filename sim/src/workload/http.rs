//! Requests to the gateway, sent again as a careful client does.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Environment, Monotonic};
use amarra_http::{Config, HttpClient};
use bytes::Bytes;
use serde_json::Value;

use crate::net::{SimConnect, SimSpawn};

/// How long one try waits for its answer.
const PATIENCE: Duration = Duration::from_secs(6);

/// The gateway as the customers reach it, and their tokens.
#[derive(Debug)]
pub(crate) struct Shopfront {
    client: HttpClient,
    env: Environment,
    /// The staff's access token.
    pub(crate) staff: String,
    /// The customers' access tokens.
    pub(crate) tokens: Vec<String>,
    /// The products, the most wanted first.
    pub(crate) skus: Vec<String>,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// The method.
    pub(crate) method: &'static str,
    /// The path with its query.
    pub(crate) path: String,
    /// The access token, none for a guest.
    pub(crate) token: Option<String>,
    /// The idempotency key: with one it is safe to send again.
    pub(crate) key: Option<String>,
    /// The body.
    pub(crate) body: Value,
}

impl Ask {
    /// Makes a request without a body.
    pub(crate) fn get(path: impl Into<String>, token: &str) -> Self {
        let token = Some(token.to_owned());
        Self { method: "GET", path: path.into(), token, key: None, body: Value::Null }
    }

    /// Makes a request with a body and a key.
    pub(crate) fn send(
        method: &'static str,
        path: impl Into<String>,
        token: &str,
        body: Value,
    ) -> Self {
        let token = Some(token.to_owned());
        Self { method, path: path.into(), token, key: None, body }
    }

    /// Names the command, so that it may be sent again.
    pub(crate) fn keyed(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }
}

/// An answer: the status, 0 when none came, and the body.
pub(crate) type Answer = (u16, Value);

impl Shopfront {
    /// Reaches the gateway.
    pub(crate) fn new(env: Environment) -> Self {
        let client = HttpClient::new(
            Arc::new(SimConnect::new()),
            Arc::new(SimSpawn),
            env.clone(),
            Config::default(),
        );
        Self { client, env, staff: String::new(), tokens: Vec::new(), skus: Vec::new() }
    }

    /// Reads the customers' clock.
    pub(super) fn monotonic(&self) -> Monotonic {
        self.env.monotonic()
    }

    /// Waits.
    pub(super) async fn pause(&self, d: Duration) {
        self.env.sleep(d).await;
    }

    /// Sends a request once.
    pub(crate) async fn once(&self, ask: &Ask) -> Answer {
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
        match self.env.timeout(PATIENCE, self.client.send("gateway", request)).await {
            Ok(Ok(response)) => {
                let body = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
                (response.status().as_u16(), body)
            }
            _ => (0, Value::Null),
        }
    }

    /// Sends a request until it is answered for good, or `patience` has passed. Only for requests
    /// that are safe to send again.
    pub(crate) async fn until_answered(&self, ask: &Ask, patience: Duration) -> Answer {
        let give_up = self.env.monotonic().plus(patience);
        let mut wait = Duration::from_millis(100);
        loop {
            let answer = self.once(ask).await;
            // A skewed clock makes a good token look expired; that passes as well.
            let again = matches!(answer.0, 0 | 401 | 409 | 429 | 500..);
            if !again || self.env.monotonic() >= give_up {
                return answer;
            }
            self.env.sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }
}
