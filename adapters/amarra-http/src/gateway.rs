//! The gateway's router: every request goes to the transport-free gateway.

use std::sync::Arc;

use amarra_shop::contract::ApiError;
use amarra_shop::gateway::Gateway;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use http::Response;

use crate::respond::respond;

/// Makes the router; `peer` names the address that limits are counted by.
///
/// The gateway knows its routes as data and answers unknown ones itself, so there is one fallback
/// here and no second route table to keep equal.
pub fn router(gateway: &Arc<Gateway>, peer: impl Into<Arc<str>>) -> Router {
    let (gateway, peer) = (Arc::clone(gateway), peer.into());
    Router::new().fallback(move |request: Request| {
        let (gateway, peer) = (Arc::clone(&gateway), Arc::clone(&peer));
        async move { forward(&gateway, &peer, request).await }
    })
}

async fn forward(gateway: &Gateway, peer: &str, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let bound_bytes = gateway.body_bytes_max();
    let Ok(body) = axum::body::to_bytes(body, bound_bytes).await else {
        return respond(Err(ApiError::TooLarge { bound_bytes }), parts.uri.path());
    };
    gateway.handle(http::Request::from_parts(parts, body), peer).await.map(Body::from)
}
