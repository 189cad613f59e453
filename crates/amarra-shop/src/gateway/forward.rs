//! What goes on to a service, and what comes back: both by allow-list.

use amarra_core::TraceParent;
use amarra_resilience::{Deadline, deadline};
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Method, Request, Response};

use super::routes::{Access, KeyRule, Route, Verb};
use crate::problem::{OUTCOME, document};

/// The header of idempotency keys.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header of the trace.
pub const TRACEPARENT: &str = "traceparent";

/// The response headers that reach the client.
const RETURNED: [HeaderName; 6] =
    [CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE, ETAG, OUTCOME];

/// A request as it goes on, apart from its deadline, which each try has its own of.
#[derive(Debug)]
pub(super) struct Outgoing {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Outgoing {
    /// Keeps of a request what the service is to see.
    pub(super) fn new(route: &Route, request: Request<Bytes>, trace: &TraceParent) -> Self {
        let (parts, body) = request.into_parts();
        let mut headers = HeaderMap::new();
        let mut keep = |name: HeaderName| {
            if let Some(value) = parts.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        };
        if !body.is_empty() {
            keep(CONTENT_TYPE);
        }
        // The service verifies the token again; a public route has no use for one.
        if route.access != Access::Public {
            keep(AUTHORIZATION);
        }
        if route.key != KeyRule::Ignored {
            keep(HeaderName::from_static(IDEMPOTENCY_KEY));
        }
        if let Some(own) = route.header {
            keep(HeaderName::from_static(own));
        }
        if let Ok(value) = HeaderValue::from_str(&trace.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Self { method: parts.method, target, headers, body }
    }

    /// Makes the request of one try, with the deadline to send along.
    ///
    /// # Errors
    /// None in practice: every part was part of a request before.
    pub(super) fn request(
        &self,
        deadline: Deadline,
        now: amarra_core::Monotonic,
    ) -> Result<Request<Bytes>, http::Error> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.target.as_str())
            .body(self.body.clone())?;
        *request.headers_mut() = self.headers.clone();
        let value = HeaderValue::try_from(deadline.encode(now))?;
        request.headers_mut().insert(deadline::HEADER, value);
        Ok(request)
    }
}

/// Keeps of an answer what the client is to see.
///
/// An error status without a problem document is replaced by one: whatever wrote it is not a
/// service of ours, and its text may say too much.
pub(super) fn returned(
    route: &Route,
    response: Response<Bytes>,
    instance: &str,
) -> Response<Bytes> {
    let status = response.status();
    let is_problem = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == b"application/problem+json");
    let refused = status.is_client_error() || status.is_server_error();
    let (parts, body) = if refused && !is_problem {
        document(status, "the service refused", instance).into_parts()
    } else {
        response.into_parts()
    };
    let mut kept = Response::new(body);
    *kept.status_mut() = status;
    let headers = kept.headers_mut();
    for name in RETURNED {
        // Whether a read had an effect is no question.
        if name == OUTCOME && route.verb == Verb::Get {
            continue;
        }
        if let Some(value) = parts.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    kept
}
