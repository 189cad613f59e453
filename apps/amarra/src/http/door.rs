//! The inner door: services answer nobody who does not bring the token they share.

use std::sync::Arc;

use amarra_http::Peer;
use amarra_shop::contract::ApiError;
use amarra_shop::contract::users::Secret;
use amarra_shop::gateway::{Upstream, UpstreamError};
use amarra_shop::problem;
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use bytes::Bytes;
use http::{HeaderValue, Response};

use crate::refusal::{Failure, Refuse};

/// The header of the token.
const HEADER: &str = "amarra-internal-token";

/// Puts a lock on a service's router.
pub(crate) fn locked(router: Router, token: &Secret) -> Router {
    let token: Arc<str> = Arc::from(token.expose());
    router.layer(from_fn(move |request: Request, next: Next| {
        let token = Arc::clone(&token);
        async move {
            let brought = request.headers().get(HEADER).map(HeaderValue::as_bytes);
            if brought.is_some_and(|brought| same(brought, token.as_bytes())) {
                return next.run(request).await;
            }
            refused(&request)
        }
    }))
}

/// Lets in whose certificate has one of these names: for services that are reached by TLS alone.
pub(crate) fn known(router: Router, callers: Vec<String>) -> Router {
    let callers = Arc::new(callers);
    router.layer(from_fn(move |request: Request, next: Next| {
        let callers = Arc::clone(&callers);
        async move {
            let identity = request.extensions().get::<Peer>().and_then(|p| p.identity.clone());
            if identity.is_some_and(|id| callers.iter().any(|caller| **caller == *id)) {
                return next.run(request).await;
            }
            refused(&request)
        }
    }))
}

fn refused(request: &Request) -> Response<Body> {
    let refused = ApiError::Unauthenticated("this service answers the gateway only");
    problem::problem(&refused, request.uri().path()).map(Body::from)
}

/// Compares in a time that does not tell how much of it fits.
fn same(brought: &[u8], token: &[u8]) -> bool {
    let differs = brought.iter().zip(token).fold(0, |differs, (a, b)| differs | (a ^ b));
    differs == 0 && brought.len() == token.len()
}

/// Brings the token along to every service.
#[derive(Debug)]
pub(crate) struct WithToken {
    inner: Arc<dyn Upstream>,
    token: HeaderValue,
}

impl WithToken {
    /// Makes it.
    pub(crate) fn new(inner: Arc<dyn Upstream>, token: &Secret) -> Result<Self, Failure> {
        let refused = "http.internal_token: must be visible ASCII characters";
        let mut token = HeaderValue::from_str(token.expose()).map_err(|_| refused).refuse()?;
        token.set_sensitive(true);
        Ok(Self { inner, token })
    }
}

#[async_trait]
impl Upstream for WithToken {
    async fn send(
        &self,
        service: &str,
        mut request: http::Request<Bytes>,
    ) -> Result<Response<Bytes>, UpstreamError> {
        request.headers_mut().insert(HEADER, self.token.clone());
        self.inner.send(service, request).await
    }
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn only_the_whole_token_fits() {
        assert!(same(b"abc", b"abc"));
        for wrong in [&b"abd"[..], b"ab", b"abcd", b""] {
            assert!(!same(wrong, b"abc"));
        }
    }
}
