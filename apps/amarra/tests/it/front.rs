//! A customer with a tiny HTTP client: one connection a request, no library of ours.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How long something that has to happen may take, on a machine that is busy otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The way to a listener.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    address: String,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    method: &'a str,
    path: &'a str,
    token: &'a str,
    key: &'a str,
    body: Value,
}

impl<'a> Ask<'a> {
    /// Makes a request without a body.
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: "GET", path, token: "", key: "", body: Value::Null }
    }

    /// Makes a request with a body.
    pub(crate) fn post(path: &'a str, body: Value) -> Self {
        Self { method: "POST", body, ..Self::get(path) }
    }

    /// Makes a request that sets something.
    pub(crate) fn put(path: &'a str, body: Value) -> Self {
        Self { method: "PUT", body, ..Self::get(path) }
    }

    /// Authenticates it.
    pub(crate) fn by(self, token: &'a str) -> Self {
        Self { token, ..self }
    }

    /// Makes it safe to send again.
    pub(crate) fn keyed(self, key: &'a str) -> Self {
        Self { key, ..self }
    }
}

impl Front {
    /// Reaches `http://host:port`.
    pub(crate) fn new(url: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/').to_owned();
        Self { address }
    }

    /// Asks once; nothing when there was no answer.
    pub(crate) fn text(&self, ask: &Ask<'_>) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(ANSWER)).ok()?;
        let body = if ask.body.is_null() { String::new() } else { ask.body.to_string() };
        let (method, path, host) = (ask.method, ask.path, &self.address);
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        if !ask.token.is_empty() {
            head.push_str(&format!("authorization: Bearer {}\r\n", ask.token));
        }
        if !ask.key.is_empty() {
            head.push_str(&format!("idempotency-key: {}\r\n", ask.key));
        }
        if !body.is_empty() {
            let length = body.len();
            head.push_str("content-type: application/json\r\n");
            head.push_str(&format!("content-length: {length}\r\n"));
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// Asks once; status 0 when there was no answer.
    pub(crate) fn ask(&self, ask: &Ask<'_>) -> (u16, Value) {
        match self.text(ask) {
            Some((status, body)) => (status, serde_json::from_str(&body).unwrap_or(Value::Null)),
            None => (0, Value::Null),
        }
    }

    /// Asks until the answer is `status`: for requests that are safe to send again.
    pub(crate) fn until(&self, ask: &Ask<'_>, status: u16) -> Value {
        let mut last = (0, Value::Null);
        until(&format!("{} {} is answered {status}", ask.method, ask.path), || {
            last = self.ask(ask);
            assert!(
                !matches!(last.0, 400 | 403 | 404 | 422),
                "{} {}: {last:?}",
                ask.method,
                ask.path
            );
            last.0 == status
        });
        last.1
    }

    /// Registers a customer, or one who is there, and logs in; returns the access token.
    pub(crate) fn customer(&self, name: &str) -> String {
        let account =
            json!({"email": format!("{name}@example.org"), "password": "a long password"});
        let register = Ask::post("/v1/users", account.clone());
        self.until(&register.keyed(&format!("register-{name}")), 201);
        let tokens = self.until(&Ask::post("/v1/sessions", account), 200);
        tokens["access_token"].as_str().unwrap().to_owned()
    }

    /// Logs a user in; returns the access token.
    pub(crate) fn login(&self, email: &str, password: &str) -> String {
        let login = json!({"email": email, "password": password});
        let tokens = self.until(&Ask::post("/v1/sessions", login), 200);
        tokens["access_token"].as_str().unwrap().to_owned()
    }

    /// Asks for a quote for one piece, and makes of it what places an order.
    pub(crate) fn quoted(&self, token: &str, sku: &str) -> Value {
        let lines = json!({"lines": [{"sku": sku, "qty": 1}]});
        let quote = self.until(&Ask::post("/v1/quotes", lines).by(token), 200);
        json!({"quote": quote, "payment_token": "tok_ok"})
    }

    /// Places an order; returns its id. The same key gives the same order.
    pub(crate) fn place(&self, token: &str, quoted: &Value, key: &str) -> String {
        let place = Ask::post("/v1/orders", quoted.clone()).by(token).keyed(key);
        self.until(&place, 201)["order_id"].as_str().unwrap().to_owned()
    }

    /// Places an order for one piece; returns its id.
    pub(crate) fn order(&self, token: &str, sku: &str, key: &str) -> String {
        self.place(token, &self.quoted(token, sku), key)
    }

    /// Waits until an order has a status.
    pub(crate) fn until_order(&self, token: &str, order: &str, status: &str) {
        let path = format!("/v1/orders/{order}");
        until(&format!("order {order} is {status}"), || {
            let (_, view) = self.ask(&Ask::get(&path).by(token));
            view["status"] == status
        });
    }
}

/// Looks again and again until something is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < give_up, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
