//! A gateway before services that are played by the test.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amarra_conformance::Harness;
use amarra_core::Environment;
use amarra_resilience::limiter::LimiterConfig;
use amarra_shop::Guard;
use amarra_shop::auth::{
    KeyConfig, Revocations, Subject, TokenConfig, TokenSigner, TokenVerifier, VerifierConfig,
};
use amarra_shop::contract::users::Secret;
use amarra_shop::contract::{Role, UserId};
use amarra_shop::gateway::{Config, Gateway, Upstream, UpstreamError};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::Value;

pub(super) const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
pub(super) const SEEDS: [&str; 2] =
    ["AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE", "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI"];

/// What a service does with one request.
pub(super) enum Act {
    Answer(Response<Bytes>),
    Fail(UpstreamError),
    Hang(Duration),
}

impl Act {
    pub(super) fn status(status: u16) -> Self {
        let mut response = Response::new(Bytes::from_static(b"{}"));
        *response.status_mut() = status.try_into().unwrap();
        response.headers_mut().insert("content-type", "application/json".parse().unwrap());
        Self::Answer(response)
    }

    pub(super) fn not_sent() -> Self {
        Self::Fail(UpstreamError::NotSent { why: "refused".into() })
    }

    pub(super) fn unknown() -> Self {
        Self::Fail(UpstreamError::Unknown { why: "reset".into() })
    }
}

/// Plays every service: does what is in line, and answers 200 when nothing is.
pub(super) struct Services {
    env: Environment,
    pub(super) line: Mutex<VecDeque<Act>>,
    pub(super) seen: Mutex<Vec<(String, Request<Bytes>)>>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Services")
    }
}

#[async_trait]
impl Upstream for Services {
    async fn send(
        &self,
        service: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, UpstreamError> {
        self.seen.lock().unwrap().push((service.to_owned(), request));
        let act = self.line.lock().unwrap().pop_front();
        match act.unwrap_or_else(|| Act::status(200)) {
            Act::Answer(response) => Ok(response),
            Act::Fail(error) => Err(error),
            Act::Hang(time) => {
                self.env.sleep(time).await;
                Ok(Response::new(Bytes::from_static(b"late")))
            }
        }
    }
}

pub(super) struct Bench {
    pub(super) harness: Harness,
    pub(super) gateway: Arc<Gateway>,
    pub(super) services: Arc<Services>,
    pub(super) verifier: Arc<TokenVerifier>,
    pub(super) revocations: Arc<Revocations>,
    entropy: Environment,
}

pub(super) fn user(n: u128) -> UserId {
    uuid::Uuid::from_u128(n).into()
}

pub(super) fn keys(active: usize, standby: Option<usize>) -> KeyConfig {
    let seed = |n: usize| Secret::new(SEEDS[n]);
    KeyConfig { active: seed(active), standby: standby.map(seed) }
}

/// Limits that nothing here meets unless it sets them.
pub(super) fn config() -> Config {
    let wide = LimiterConfig { calls: 100_000, burst: 100_000, ..LimiterConfig::default() };
    Config { address: wide, credentials: wide, principal: wide, ..Config::default() }
}

impl Bench {
    pub(super) fn new(config: Config) -> Self {
        let harness = Harness::new(3);
        let env = harness.environment("gateway");
        let signer = TokenSigner::new(TokenConfig::new(keys(0, None))).unwrap();
        let revocations = Arc::new(Revocations::default());
        let verifier = TokenVerifier::new(
            VerifierConfig::default(),
            signer.key_set().clone(),
            harness.clock(),
            Arc::clone(&revocations),
        );
        let verifier = Arc::new(verifier.unwrap());
        let services =
            Arc::new(Services { env: env.clone(), line: Mutex::default(), seen: Mutex::default() });
        let upstream = Arc::clone(&services) as Arc<dyn Upstream>;
        let gateway = Gateway::new(env, Arc::clone(&verifier), upstream, config).unwrap();
        let entropy = harness.environment("tokens");
        Self { harness, gateway, services, verifier, revocations, entropy }
    }

    pub(super) fn token_of(&self, keys: KeyConfig, who: UserId, roles: &[Role]) -> String {
        let signer = TokenSigner::new(TokenConfig::new(keys)).unwrap();
        let roles = roles.iter().copied().collect();
        let subject = Subject { user_id: who, roles, version: 5 };
        let token = signer.issue(&subject, self.entropy.now(), self.entropy.entropy.as_ref());
        format!("Bearer {}", token.expose())
    }

    pub(super) fn token(&self, roles: &[Role]) -> String {
        self.token_of(keys(0, None), user(7), roles)
    }

    pub(super) fn line(&self, acts: impl IntoIterator<Item = Act>) {
        self.services.line.lock().unwrap().extend(acts);
    }

    pub(super) fn send(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.harness.block_on(self.gateway.handle(request, "192.0.2.1"))
    }

    /// What reached the services since the last call.
    pub(super) fn seen(&self) -> Vec<(String, Request<Bytes>)> {
        std::mem::take(&mut *self.services.seen.lock().unwrap())
    }

    pub(super) fn guard(&self, service: &str) -> Arc<Guard> {
        let mut guards = self.gateway.guards().into_iter();
        guards.find(|guard| guard.name() == service).unwrap()
    }

    pub(super) fn wait(&self, d: Duration) {
        self.harness.clock().advance(d);
    }
}

/// Makes a request; one with a body has a JSON body.
pub(super) fn request(method: &str, path: &str, body: &str) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from(body.to_owned()));
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = path.parse().unwrap();
    if !body.is_empty() {
        set(&mut request, "content-type", "application/json");
    }
    request
}

pub(super) fn set(request: &mut Request<Bytes>, name: &'static str, value: &str) {
    request.headers_mut().insert(name, value.parse().unwrap());
}

/// An order by the user of `token`, under a key.
pub(super) fn order(token: &str) -> Request<Bytes> {
    let mut order = request("POST", "/v1/orders", "{}");
    set(&mut order, "authorization", token);
    set(&mut order, "idempotency-key", "k-1");
    order
}

/// Checks that a response is the problem document of its status, and returns its detail.
pub(super) fn problem(response: &Response<Bytes>) -> String {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body["status"], response.status().as_u16());
    assert!(body["type"].is_string() && body["title"].is_string() && body["instance"].is_string());
    body["detail"].as_str().unwrap().to_owned()
}
