//! Reads a request into what a service's operation needs, or a clear refusal.

use std::collections::BTreeMap;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Environment, TraceParent};
use amarra_resilience::{Deadline, deadline};
use amarra_shop::auth::TokenVerifier;
use amarra_shop::contract::{ApiError, Caller};
use axum::body::Body;
use axum::extract::{FromRequestParts, Query, RawPathParams, Request};
use bytes::Bytes;
use http::{HeaderMap, Response, header};
use serde::de::DeserializeOwned;

use crate::respond::{Outcome, respond};

/// The longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 128;

/// What the routes of one service share.
#[derive(Debug)]
pub struct Api<S> {
    /// The service.
    pub service: Arc<S>,
    /// Verifies access tokens, again after the gateway did.
    pub verifier: Arc<TokenVerifier>,
    /// Draws trace ids for requests that bring none.
    pub env: Environment,
    /// Largest request body, in bytes.
    pub request_bytes_max: usize,
}

impl<S> Clone for Api<S> {
    fn clone(&self) -> Self {
        Self {
            service: Arc::clone(&self.service),
            verifier: Arc::clone(&self.verifier),
            env: self.env.clone(),
            request_bytes_max: self.request_bytes_max,
        }
    }
}

/// A request as read.
#[derive(Debug)]
pub struct Call {
    params: Vec<(String, String)>,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
    caller: Result<Caller, ApiError>,
    deadline: Option<Deadline>,
}

impl Call {
    /// Returns the authenticated caller.
    ///
    /// # Errors
    /// [`ApiError::Unauthenticated`].
    pub fn caller(&self) -> Result<&Caller, ApiError> {
        self.caller.as_ref().map_err(Clone::clone)
    }

    /// Returns a part of the path, parsed; one that does not parse names nothing that exists.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub fn param<T: FromStr>(&self, name: &str) -> Result<T, ApiError> {
        let text = self.params.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        text.and_then(|t| t.parse().ok()).ok_or(ApiError::NotFound)
    }

    /// Returns a part of the query, parsed, or none.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] names the part.
    pub fn query<T: FromStr<Err: ToString>>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.query.get(name) else { return Ok(None) };
        let bad = |e: T::Err| ApiError::BadRequest(format!("query {name}: {}", e.to_string()));
        text.parse().map(Some).map_err(bad)
    }

    /// Returns the body, decoded from JSON.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] says where it does not fit.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.body).map_err(|e| {
            // Only the place: the text of the error may hold what was sent, a password even.
            ApiError::BadRequest(format!(
                "the body is not the JSON this operation takes, see line {} column {}",
                e.line(),
                e.column()
            ))
        })
    }

    /// Returns the body as it came.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the idempotency key, none when the caller gave none.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] when it is not of the documented form.
    pub fn idempotency_key(&self) -> Result<Option<Arc<str>>, ApiError> {
        self.headers
            .get("idempotency-key")
            .map(|v| idempotency_key(v.to_str().unwrap_or_default()))
            .transpose()
    }

    /// Returns when the caller stops waiting, none when it did not say: to be given to every call
    /// that is made for this request.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    /// Returns a header's text, none when it is missing or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

/// Makes an axum handler that reads the request, runs `operation`, and answers with its outcome.
pub(crate) fn handle<S, F, R>(
    api: &Api<S>,
    operation: F,
) -> impl Fn(Request) -> std::pin::Pin<Box<dyn Future<Output = Response<Body>> + Send>>
+ Clone
+ Send
+ Sync
+ 'static
where
    S: Send + Sync + 'static,
    F: Fn(Arc<S>, Call) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    let api = api.clone();
    move |request: Request| {
        let (api, operation) = (api.clone(), operation.clone());
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let outcome = match read(&api, request).await {
                Ok(call) => operation(Arc::clone(&api.service), call).await,
                Err(error) => Err(error),
            };
            respond(outcome, &path)
        })
    }
}

async fn read<S>(api: &Api<S>, request: Request) -> Result<Call, ApiError> {
    let (mut parts, body) = request.into_parts();
    let arrived = deadline(api, &parts.headers)?;
    let params = RawPathParams::from_request_parts(&mut parts, &())
        .await
        .map_err(|_| ApiError::BadRequest("the path is not valid UTF-8".to_owned()))?;
    let params = params.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let Query(query) = Query::try_from_uri(&parts.uri)
        .map_err(|_| ApiError::BadRequest("the query is not well formed".to_owned()))?;
    let caller = caller(api, &parts.headers);
    let body = axum::body::to_bytes(body, api.request_bytes_max)
        .await
        .map_err(|_| ApiError::TooLarge { bound_bytes: api.request_bytes_max })?;
    // Nothing is begun for nobody: reading the body may have taken all the time there was.
    if arrived.is_some_and(|deadline| deadline.is_past(api.env.monotonic())) {
        let retry_after = Duration::ZERO;
        return Err(ApiError::Unavailable {
            why: "no time left",
            retry_after,
            outcome_unknown: false,
        });
    }
    Ok(Call { params, query, headers: parts.headers, body, caller, deadline: arrived })
}

/// Reads when the caller stops waiting.
fn deadline<S>(api: &Api<S>, headers: &HeaderMap) -> Result<Option<Deadline>, ApiError> {
    let Some(value) = headers.get(deadline::HEADER) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let limits = deadline::Limits::default();
    let read = Deadline::decode(text, api.env.monotonic(), &limits);
    read.map(Some).map_err(|e| ApiError::BadRequest(e.to_string()))
}

fn caller<S>(api: &Api<S>, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let authorization = text(header::AUTHORIZATION.as_str())
        .ok_or(ApiError::Unauthenticated("send an access token as Authorization: Bearer"))?;
    let principal = api.verifier.authenticate(authorization)?;
    let traceparent = text("traceparent")
        .and_then(|t| t.parse().ok())
        .unwrap_or_else(|| TraceParent::root(api.env.entropy.as_ref()));
    let idempotency_key = text("idempotency-key").map(idempotency_key).transpose()?;
    Ok(Caller { principal, traceparent, idempotency_key })
}

fn idempotency_key(text: &str) -> Result<Arc<str>, ApiError> {
    let fits =
        (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        return Err(ApiError::BadRequest(format!(
            "Idempotency-Key must be 1 to {KEY_BYTES_MAX} visible ASCII characters"
        )));
    }
    Ok(Arc::from(text))
}
