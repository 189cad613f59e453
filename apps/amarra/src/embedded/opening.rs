//! Opens the embedded shop: its first products, and what to try.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Class, Classify, Environment};
use amarra_http::upstream::HttpUpstream;
use amarra_resilience::retry::BudgetConfig;
use amarra_resilience::{Budget, CallOptions, Jitter, Pipeline, Policy, deadline};
use amarra_shop::Callee;
use amarra_shop::contract::users::Secret;
use amarra_shop::gateway::{Upstream, UpstreamError};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::args::Serve;
use crate::compose::Context;
use crate::http::health::Health;
use crate::name::Name;
use crate::output;
use crate::refusal::{Failure, Refuse};

/// The first products: SKU, name, price in cents, pieces in stock.
const PRODUCTS: [(&str, &str, i64, i64); 4] = [
    ("TEA-1", "Black tea, 100 g", 450, 500),
    ("CUP-2", "Cup", 1250, 200),
    ("POT-3", "Teapot", 3999, 100),
    ("TIN-4", "Tea tin", 899, 300),
];
/// How long each step of the opening may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause before a step is tried again, or readiness is asked for.
const PAUSE: Duration = Duration::from_millis(200);
/// Tries of one step; the patience ends before.
const TRIES_MAX: u32 = 200;

/// The opening of the shop.
#[derive(Debug)]
pub(super) struct Opening {
    env: Environment,
    gateway: Callee<dyn Upstream>,
    health: Arc<Health>,
    admin: (String, Secret),
    password_file: PathBuf,
    done_file: PathBuf,
    address: SocketAddr,
    auto_verify: bool,
    json: bool,
}

impl Opening {
    /// Prepares the opening.
    pub(super) fn new(cx: &Context, args: &Serve, address: SocketAddr) -> Result<Self, Failure> {
        let keys = &cx.config.keys;
        let password = cx.config.secret("keys.admin_password", keys.admin_password.as_ref())?;
        let data = args.data.canonicalize().refuse()?;
        Ok(Self {
            env: cx.env.clone(),
            gateway: gateway(cx)?,
            health: Arc::clone(&cx.health),
            admin: (cx.config.users.admin_email.clone(), password),
            password_file: args.data.join("keys/admin.password"),
            done_file: data.join("opened"),
            address,
            auto_verify: cx.config.users.auto_verify.unwrap_or(false),
            json: args.json,
        })
    }

    /// Opens the shop, once in the life of its folder, and says how to use it.
    pub(super) async fn run(self) {
        let give_up = self.env.monotonic().plus(PATIENCE);
        let mut asked = self.health.readiness().await;
        while asked.0 != StatusCode::OK && self.env.monotonic() < give_up {
            self.env.sleep(PAUSE).await;
            asked = self.health.readiness().await;
        }
        if asked.0 != StatusCode::OK {
            output::complain(&format!("not ready after {PATIENCE:?}: {}", asked.1));
        }
        if !self.done_file.exists() {
            match self.stock().await {
                // Without the file the next start goes through the same keyed commands again.
                Ok(()) => drop(std::fs::write(&self.done_file, "the first products are there\n")),
                Err(why) => output::complain(&format!("the first products are not there: {why}")),
            }
        }
        self.tell();
    }

    async fn stock(&self) -> Result<(), String> {
        let (email, password) = &self.admin;
        let login = json!({"email": email, "password": password.expose()});
        let tokens = self.ask(("POST", "/v1/sessions"), ("", ""), &login, 200).await?;
        let token = tokens.get("access_token").and_then(Value::as_str).unwrap_or_default();
        for (sku, name, price, pieces) in PRODUCTS {
            let ask = async |method, path: &str, key: &str, body: Value, status| {
                let key = format!("opening-{key}-{sku}");
                self.ask((method, path), (token, &key), &body, status).await
            };
            let body = json!({"sku": sku, "name": name});
            let made = ask("POST", "/v1/products", "create", body, 201).await?;
            let version = made.get("version").and_then(Value::as_u64).unwrap_or(1);
            let price = json!({"minor": price, "currency": "EUR"});
            let body = json!({"price": price, "expected_version": version});
            ask("PUT", &format!("/v1/products/{sku}/price"), "price", body, 200).await?;
            let path = format!("/v1/products/{sku}/publish");
            ask("POST", &path, "publish", json!({}), 200).await?;
            let body = json!({"delta": pieces, "reason": "opening"});
            ask("POST", &format!("/v1/stock/{sku}/receive"), "stock", body, 200).await?;
        }
        Ok(())
    }

    /// Asks the gateway until it answers for good: every step may be repeated.
    async fn ask(
        &self,
        (method, path): (&str, &str),
        (token, key): (&str, &str),
        body: &Value,
        status: u16,
    ) -> Result<Value, String> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Bytes::from(body.to_string())).map_err(|e| e.to_string())?;
        let options = CallOptions::idempotent();
        let answer = self.gateway.call(&self.env, options, |way, attempt| {
            let mut request = request.clone();
            let left = attempt.deadline.encode(self.env.monotonic());
            if let Ok(left) = left.try_into() {
                request.headers_mut().insert(deadline::HEADER, left);
            }
            async move { judged(way.send(Name::Gateway.as_str(), request).await, status) }
        });
        let answer = answer.await.map_err(|failed| match failed.error {
            amarra_resilience::Error::Call(no) => format!("{method} {path} was answered {no}"),
            error => format!("{method} {path}: {error}"),
        })?;
        serde_json::from_slice(&answer).map_err(|e| e.to_string())
    }

    fn tell(&self) {
        let url = format!("http://{}", self.address);
        if self.json {
            output::say(
                &json!({"kind": "ready", "url": url, "pid": std::process::id()}).to_string(),
            );
            return;
        }
        let verify = if self.auto_verify {
            "Accounts are active at once, without a proof of the address (users.auto_verify)."
        } else {
            "Tokens that prove an address are written to users.verification_log."
        };
        let file = self.password_file.display();
        let admin = &self.admin.0;
        output::say(&format!(
            "The shop is open at {url}\n\n{verify}\nThe administrator is {admin}; the password is \
             in {file}\n\nTry an order:\n\n{}\n\nCtrl-C ends it; everything is kept. \
             See also /readyz and /metrics.",
            sample(&url)
        ));
    }
}

/// Makes the way to the gateway, as patient as somebody who waits for a shop to open.
fn gateway(cx: &Context) -> Result<Callee<dyn Upstream>, Failure> {
    let upstream: Arc<dyn Upstream> = Arc::new(HttpUpstream::new(Arc::clone(&cx.client)));
    let policy = Policy {
        attempts_max: TRIES_MAX,
        base: PAUSE,
        cap: PAUSE.saturating_mul(5),
        jitter: Jitter::Equal,
        ..Policy::default()
    };
    // Nobody else asks yet, so what is tried again adds to no load.
    let budget = BudgetConfig { tokens_max: TRIES_MAX, ..BudgetConfig::default() };
    let pipeline = Pipeline::builder("opening")
        .deadline(PATIENCE)
        .retry(policy, Arc::new(Budget::new(budget).refuse()?))
        .timeout(PATIENCE)
        .refuse()?;
    Ok(Callee::new(upstream, pipeline))
}

/// Why a step has no good answer yet, or never will.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct NoGood {
    class: Class,
    text: String,
}

impl Classify for NoGood {
    fn class(&self) -> Class {
        self.class
    }
}

/// Sorts the answer of a step that is to be answered with `status`.
fn judged(
    answer: Result<http::Response<Bytes>, UpstreamError>,
    status: u16,
) -> Result<Bytes, NoGood> {
    let answer = answer.map_err(|e| NoGood { class: e.class(), text: e.to_string() })?;
    if answer.status().as_u16() == status {
        return Ok(answer.into_body());
    }
    let again = answer.status().is_server_error() || answer.status() == 429;
    let class = if again { Class::Transient } else { Class::Rejected };
    Err(NoGood { class, text: String::from_utf8_lossy(answer.body()).into_owned() })
}

/// Returns the commands that place an order and show it confirmed.
fn sample(url: &str) -> String {
    format!(
        r#"  A={url}; J='content-type: application/json'
  W='{{"email":"ana@example.org","password":"a long enough password"}}'
  curl -s $A/v1/users -H "$J" -d "$W"
  T=$(curl -s $A/v1/sessions -H "$J" -d "$W" | sed -E 's/.*"access_token":"([^"]+)".*/\1/')
  Q=$(curl -s $A/v1/quotes -H "$J" -H "authorization: Bearer $T" \
      -d '{{"lines":[{{"sku":"TEA-1","qty":2}}]}}')
  O=$(curl -s $A/v1/orders -H "$J" -H "authorization: Bearer $T" \
      -H "idempotency-key: $(date +%s%N)" -d "{{\"quote\":$Q,\"payment_token\":\"tok_ok\"}}" \
      | sed -E 's/.*"order_id":"([^"]+)".*/\1/')
  sleep 2; curl -s $A/v1/orders/$O -H "authorization: Bearer $T""#
    )
}
