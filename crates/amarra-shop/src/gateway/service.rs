//! Takes a request from outside through every check to a service and back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use amarra_core::{Environment, Monotonic, TraceParent};
use amarra_resilience::limiter::LimiterConfig;
use amarra_resilience::{
    Breaker, Budget, Bulkhead, CallOptions, Deadline, Error, KeyedLimiter, Pipeline, deadline,
};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Request, Response};

use super::config::{Config, within};
use super::forward::{IDEMPOTENCY_KEY, Outgoing, TRACEPARENT, returned};
use super::refusal::{Refusal, of_failure, of_token};
use super::routes::{Access, KeyRule, Match, ROUTES, Route, find};
use super::upstream::{Setback, Upstream};
use crate::auth::{Jwks, KeySet, TokenError, TokenVerifier};
use crate::callee::{Callee, Guard};
use crate::contract::{ApiError, Principal, UserId};
use crate::ports::ConfigError;

/// The longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 128;
/// The longest path that a problem document repeats, in bytes.
const INSTANCE_BYTES_MAX: usize = 256;

/// The gateway.
///
/// # Laws
/// - GWY-1 what is not in [`ROUTES`] is refused, and each route only admits whom it names.
/// - GWY-2 no bad request makes it answer 500, and every refusal is a problem document.
/// - GWY-3 a request is sent again after a doubtful try only if the route is idempotent, or honours
///   the idempotency key that it carries.
/// - GWY-4 a service is given a deadline, a trace, and only the headers on the list.
#[derive(Debug)]
pub struct Gateway {
    env: Environment,
    config: Config,
    verifier: Arc<TokenVerifier>,
    services: BTreeMap<&'static str, Callee<dyn Upstream>>,
    addresses: KeyedLimiter<String>,
    credentials: KeyedLimiter<String>,
    principals: KeyedLimiter<UserId>,
    keys_fetched: Mutex<Option<Monotonic>>,
}

impl Gateway {
    /// Makes the gateway.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn new(
        env: Environment,
        verifier: Arc<TokenVerifier>,
        upstream: Arc<dyn Upstream>,
        config: Config,
    ) -> Result<Arc<Self>, ConfigError> {
        config.validate()?;
        let mut services = BTreeMap::new();
        for route in ROUTES {
            if !services.contains_key(route.service) {
                let pipeline = pipeline(route.service, &config, &env)?;
                services.insert(route.service, Callee::new(Arc::clone(&upstream), pipeline));
            }
        }
        Ok(Arc::new(Self {
            addresses: limiter("gateway.address", config.address)?,
            credentials: limiter("gateway.credentials", config.credentials)?,
            principals: KeyedLimiter::new(config.principal)
                .map_err(|e| within("gateway.principal", e))?,
            keys_fetched: Mutex::new(None),
            env,
            config,
            verifier,
            services,
        }))
    }

    /// Returns the guards of the calls to each service, to be looked at.
    #[must_use]
    pub fn guards(&self) -> Vec<Arc<Guard>> {
        self.services.values().map(|service| Arc::clone(service.guard())).collect()
    }

    /// Returns the largest body of any route, in bytes: a transport reads no more.
    #[must_use]
    pub fn body_bytes_max(&self) -> usize {
        ROUTES.iter().map(|route| route.body_bytes_max).max().unwrap_or(0)
    }

    /// Answers a request; `peer` is the address it came from, without the port.
    ///
    /// # Cancellation
    /// A dropped future drops the try where it stands: the service may have acted.
    pub async fn handle(&self, request: Request<Bytes>, peer: &str) -> Response<Bytes> {
        let path = request.uri().path();
        let instance: String = path.chars().take(INSTANCE_BYTES_MAX).collect();
        match self.admit(&request, peer).await {
            Ok(route) => {
                let answer = self.forward(route, request).await;
                let answer = answer.unwrap_or_else(|refusal| refusal.into_response(&instance));
                returned(route, answer, &instance)
            }
            Err(refusal) => refusal.into_response(&instance),
        }
    }

    /// Takes the request through the checks, the cheapest first.
    async fn admit(&self, request: &Request<Bytes>, peer: &str) -> Result<&'static Route, Refusal> {
        let now = self.env.monotonic();
        let peer = peer.to_owned();
        self.addresses.admit(&peer, now).map_err(|l| Refusal::limited(l.retry_after))?;
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        if target > self.config.target_bytes_max {
            return Err(Refusal::Target);
        }
        let route = match find(request.method(), request.uri().path()) {
            Match::Found(route) => route,
            Match::OtherVerbs(verbs) => return Err(Refusal::Method(verbs)),
            Match::Nothing => return Err(ApiError::NotFound.into()),
        };
        if route.credentials {
            self.credentials.admit(&peer, now).map_err(|l| Refusal::limited(l.retry_after))?;
        }
        body(route, request)?;
        key(route, request.headers())?;
        if route.access != Access::Public {
            let principal = self.authenticate(request.headers()).await?;
            self.principals
                .admit(&principal.user_id, now)
                .map_err(|l| Refusal::limited(l.retry_after))?;
            if !route.access.admits(&principal) {
                return Err(ApiError::Forbidden.into());
            }
        }
        Ok(route)
    }

    async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Refusal> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(ApiError::Unauthenticated("send one bearer token").into());
        };
        let value = value.to_str().map_err(|_| of_token(TokenError::Malformed))?;
        match self.verifier.authenticate(value) {
            Err(TokenError::UnknownKey) if self.may_fetch_keys() => {
                // The keys may have been rotated; when they cannot be had, the old ones decide.
                let _ = self.fetch_keys().await;
                self.verifier.authenticate(value).map_err(of_token)
            }
            other => other.map_err(of_token),
        }
    }

    /// Fetches the keys of Users and trusts them from now on.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] when Users does not answer with a key set; the known ones stay.
    pub async fn fetch_keys(&self) -> Result<(), ApiError> {
        let unavailable = ApiError::Unavailable {
            why: "no keys",
            retry_after: self.config.retry_after,
            outcome_unknown: false,
        };
        let route = ROUTES.iter().find(|route| route.pattern == "/v1/jwks");
        let route = route.ok_or_else(|| unavailable.clone())?;
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = http::Uri::from_static("/v1/jwks");
        let answer = self.forward(route, request).await.map_err(|_| unavailable.clone())?;
        let jwks: Jwks = serde_json::from_slice(answer.body()).map_err(|_| unavailable.clone())?;
        let keys = KeySet::from_jwks(&jwks).map_err(|_| unavailable)?;
        self.verifier.replace_keys(keys);
        Ok(())
    }

    /// Tells whether the keys may be fetched now: a flood of forged key ids must not become one of
    /// requests to Users.
    fn may_fetch_keys(&self) -> bool {
        let now = self.env.monotonic();
        let mut fetched = self.keys_fetched.lock().unwrap_or_else(PoisonError::into_inner);
        if fetched.is_some_and(|at| now.since(at) < self.config.keys_refetch_after) {
            return false;
        }
        *fetched = Some(now);
        true
    }

    async fn forward(
        &self,
        route: &'static Route,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Refusal> {
        let service = self.services.get(route.service).ok_or(ApiError::NotFound)?;
        self.fail_fast(service)?;
        let deadline = self.deadline(route, request.headers())?;
        let keyed =
            route.key != KeyRule::Ignored && request.headers().contains_key(IDEMPOTENCY_KEY);
        let options =
            CallOptions { idempotent: route.idempotent || keyed, ..CallOptions::default() }
                .by(deadline)
                .of_priority(route.priority);
        let trace = self.trace(request.headers());
        let outgoing = Outgoing::new(route, request, &trace);
        let answer = service
            .call(&self.env, options, |way, attempt| {
                let request = outgoing.request(attempt.deadline, self.env.monotonic());
                async move {
                    let request = request.map_err(|e| {
                        let why = e.to_string();
                        Setback::Silence(super::upstream::UpstreamError::NotSent { why })
                    })?;
                    Setback::of(way.send(route.service, request).await)
                }
            })
            .await;
        match answer {
            Ok(response) => Ok(response),
            // The service's own words, unless an earlier try makes them wrong.
            Err(failed) if matches!(failed.error, Error::Call(Setback::Unwell(_))) => {
                let in_doubt = failed.in_doubt;
                let told = of_failure(&failed, self.config.retry_after);
                match failed.into_call() {
                    Some(Setback::Unwell(response)) if !in_doubt => Ok(*response),
                    _ => Err(told.into()),
                }
            }
            Err(failed) => Err(of_failure(&failed, self.config.retry_after).into()),
        }
    }

    /// Refuses at once while the service's breaker is open: the pipeline would wait for it to
    /// close, and hold the client's connection meanwhile.
    fn fail_fast(&self, service: &Callee<dyn Upstream>) -> Result<(), Refusal> {
        match service.refuses_for(&self.env) {
            None => Ok(()),
            Some(wait) => Err(ApiError::Unavailable {
                why: "the service is recovering",
                retry_after: wait.max(self.config.retry_after),
                outcome_unknown: false,
            }
            .into()),
        }
    }

    /// Returns when the client stops waiting: as the route says, or sooner as the client says.
    fn deadline(&self, route: &Route, headers: &HeaderMap) -> Result<Deadline, Refusal> {
        let now = self.env.monotonic();
        let own = Deadline::after(now, route.timeout, self.config.deadline.hops_max);
        let Some(value) = headers.get(deadline::HEADER) else { return Ok(own) };
        let bad = |why: String| ApiError::BadRequest(why);
        let text = value.to_str().map_err(|e| bad(format!("{}: {e}", deadline::HEADER)))?;
        let given = Deadline::decode(text, now, &self.config.deadline);
        let given = given.map_err(|e| bad(e.to_string()))?;
        // How many services a request may go through is not the client's to say.
        Ok(own.no_later_than(given.at()))
    }

    /// Continues the client's trace, or starts one: a malformed trace is no reason to refuse.
    fn trace(&self, headers: &HeaderMap) -> TraceParent {
        let given = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
        let entropy = self.env.entropy.as_ref();
        match given.and_then(|text| text.parse::<TraceParent>().ok()) {
            Some(trace) => trace.child(entropy),
            None => TraceParent::root(entropy),
        }
    }
}

fn limiter(
    field: &'static str,
    config: LimiterConfig,
) -> Result<KeyedLimiter<String>, ConfigError> {
    KeyedLimiter::new(config).map_err(|e| within(field, e))
}

fn pipeline(
    service: &'static str,
    config: &Config,
    env: &Environment,
) -> Result<Pipeline, ConfigError> {
    let breaker = Breaker::seeded(service, config.breaker, env.entropy.as_ref())
        .map_err(|e| within("gateway.breaker", e))?;
    let budget = Budget::new(config.budget).map_err(|e| within("gateway.budget", e))?;
    let bulkhead = Bulkhead::new(config.bulkhead).map_err(|e| within("gateway.bulkhead", e))?;
    let patience = ROUTES.iter().map(|route| route.timeout).max().unwrap_or_default();
    Pipeline::builder(service)
        .deadline(patience)
        .retry(config.retry, Arc::new(budget))
        .breaker(Arc::new(breaker))
        .shed(config.shed)
        .bulkhead(Arc::new(bulkhead))
        .timeout(config.try_timeout)
        .map_err(|e| within("gateway.retry", e))
}

/// Checks the body against the route.
fn body(route: &Route, request: &Request<Bytes>) -> Result<(), Refusal> {
    let bound_bytes = route.body_bytes_max;
    if request.body().len() > bound_bytes {
        return Err(ApiError::TooLarge { bound_bytes }.into());
    }
    let media = request.headers().get(CONTENT_TYPE).map(|value| value.as_bytes());
    let json = media.is_some_and(|media| {
        let essence = media.split(|b| *b == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
    });
    if !request.body().is_empty() && !json {
        return Err(Refusal::MediaType);
    }
    Ok(())
}

/// Checks the idempotency key against the route.
fn key(route: &Route, headers: &HeaderMap) -> Result<(), Refusal> {
    if route.key == KeyRule::Ignored {
        return Ok(());
    }
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let bad = |why: String| Err(ApiError::BadRequest(why).into());
    match (values.next(), values.next()) {
        (None, _) if route.key == KeyRule::Required => {
            bad("send an Idempotency-Key header: a retry must not do it twice".into())
        }
        (None, _) => Ok(()),
        (Some(value), None)
            if (1..=KEY_BYTES_MAX).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic) =>
        {
            Ok(())
        }
        _ => bad(format!("send one Idempotency-Key of 1 to {KEY_BYTES_MAX} visible characters")),
    }
}
