//! The gateway's router: every request goes to the transport-free gateway.

use std::sync::Arc;

use amarra_shop::contract::ApiError;
use amarra_shop::gateway::Gateway;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use http::Response;

use crate::peer::Peer;
use crate::respond::respond;

/// Makes the router; limits are counted by the address of the connection's [`Peer`], or by `peer`
/// where the server does not tell it.
///
/// The gateway knows its routes as data and answers unknown ones itself, so there is one fallback
/// here and no second route table to keep equal.
pub fn router(gateway: &Arc<Gateway>, peer: impl Into<Arc<str>>) -> Router {
    let (gateway, peer) = (Arc::clone(gateway), peer.into());
    Router::new().fallback(move |request: Request| {
        let (gateway, peer) = (Arc::clone(&gateway), Arc::clone(&peer));
        async move {
            let address = request.extensions().get::<Peer>().map(|p| p.address.ip().to_string());
            forward(&gateway, address.as_deref().unwrap_or(&peer), request).await
        }
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
