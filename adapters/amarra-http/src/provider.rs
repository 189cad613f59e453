//! The payment provider's API, both ends: a router for its node and the client Payments uses.

use std::fmt;
use std::sync::Arc;

use amarra_core::{Class, Classify};
use amarra_shop::contract::OrderId;
use amarra_shop::payments::provider_port::{
    AuthorizeRequest, CaptureRequest, Operation, PaymentProvider, ProviderAnswer, ProviderError,
    RefundRequest, VoidRequest,
};
use amarra_shop::provider::{ProviderRequest, ProviderResponse};
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::post;
use bytes::Bytes;
use http::{Response, StatusCode};

use crate::client::HttpClient;
use crate::respond;

/// The one path of the provider's API.
const PATH: &str = "/v1/operations";
/// Largest request the provider reads, in bytes.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Serves the provider's requests; its node decides when and whether to answer.
#[async_trait]
pub trait ProviderNode: Send + Sync + fmt::Debug + 'static {
    /// Serves one request, or `None` when the node does not answer at all.
    async fn serve(&self, request: ProviderRequest) -> Option<Result<ProviderResponse, Refused>>;
}

/// The provider turns a request away before it looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// Makes the router of the provider's node.
pub fn router(node: Arc<dyn ProviderNode>) -> Router {
    let handler = move |request: Request| {
        let node = Arc::clone(&node);
        async move { answer(node.as_ref(), request).await }
    };
    Router::new()
        .route(PATH, post(handler))
        .method_not_allowed_fallback(respond::wrong_verb)
        .fallback(respond::not_found)
}

async fn answer(node: &dyn ProviderNode, request: Request) -> Response<Body> {
    let status = |status: StatusCode| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        response
    };
    let Ok(body) = axum::body::to_bytes(request.into_body(), REQUEST_BYTES_MAX).await else {
        return status(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let Ok(request) = serde_json::from_slice(&body) else { return status(StatusCode::BAD_REQUEST) };
    match node.serve(request).await {
        Some(Ok(answer)) => match serde_json::to_vec(&answer) {
            Ok(body) => Response::new(Body::from(body)),
            Err(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
        },
        Some(Err(Refused)) => status(StatusCode::SERVICE_UNAVAILABLE),
        // The caller's timeout ends this; a provider that lost an answer sends none.
        None => std::future::pending().await,
    }
}

/// The provider over HTTP.
#[derive(Debug, Clone)]
pub struct HttpProvider {
    client: Arc<HttpClient>,
    service: String,
}

impl HttpProvider {
    /// Reaches the provider under the name `service`.
    #[must_use]
    pub fn new(client: Arc<HttpClient>, service: impl Into<String>) -> Self {
        Self { client, service: service.into() }
    }

    async fn call(&self, request: &ProviderRequest) -> Result<ProviderResponse, ProviderError> {
        let unknown = |why: String| ProviderError::Unknown { why };
        let body = serde_json::to_vec(request).map_err(|e| unknown(e.to_string()))?;
        let request = http::Request::post(PATH)
            .body(Bytes::from(body))
            .map_err(|e| unknown(e.to_string()))?;
        let response = match self.client.send(&self.service, request).await {
            Ok(response) => response,
            Err(e) if e.class() == Class::Transient => {
                return Err(ProviderError::Transient { why: e.to_string() });
            }
            Err(e) => return Err(unknown(e.to_string())),
        };
        match response.status() {
            StatusCode::OK => {
                serde_json::from_slice(response.body()).map_err(|e| unknown(e.to_string()))
            }
            // The provider says so before it looks at the request.
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                Err(ProviderError::Transient { why: response.status().to_string() })
            }
            status => Err(unknown(format!("status {status}"))),
        }
    }
}

#[async_trait]
impl PaymentProvider for HttpProvider {
    async fn authorize(&self, request: &AuthorizeRequest) -> Result<ProviderAnswer, ProviderError> {
        self.call(&ProviderRequest::Authorize(request.clone())).await?.into_answer()
    }

    async fn capture(&self, request: &CaptureRequest) -> Result<ProviderAnswer, ProviderError> {
        self.call(&ProviderRequest::Capture(request.clone())).await?.into_answer()
    }

    async fn void(&self, request: &VoidRequest) -> Result<ProviderAnswer, ProviderError> {
        self.call(&ProviderRequest::Void(request.clone())).await?.into_answer()
    }

    async fn refund(&self, request: &RefundRequest) -> Result<ProviderAnswer, ProviderError> {
        self.call(&ProviderRequest::Refund(request.clone())).await?.into_answer()
    }

    async fn status(&self, order_id: OrderId) -> Result<Vec<Operation>, ProviderError> {
        self.call(&ProviderRequest::Status(order_id)).await?.into_operations()
    }
}
