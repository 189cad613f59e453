//! The provider's way to its merchant, over the pooled client.

use std::sync::Arc;

use amarra_core::{Class, Classify};
use amarra_shop::payments::SignedWebhook;
use amarra_shop::provider::{Merchant, NotTaken};
use async_trait::async_trait;
use http::StatusCode;

use crate::client::HttpClient;
use crate::services::payments::SIGNATURE;

/// The path at which the merchant takes webhooks.
const PATH: &str = "/v1/webhooks/provider";

/// The merchant over HTTP.
#[derive(Debug, Clone)]
pub struct HttpMerchant {
    client: Arc<HttpClient>,
    service: String,
}

impl HttpMerchant {
    /// Reaches the merchant under the name `service`.
    #[must_use]
    pub fn new(client: Arc<HttpClient>, service: impl Into<String>) -> Self {
        Self { client, service: service.into() }
    }
}

#[async_trait]
impl Merchant for HttpMerchant {
    async fn take(&self, webhook: &SignedWebhook) -> Result<(), NotTaken> {
        let request = http::Request::post(PATH)
            .header(SIGNATURE, &webhook.signature)
            .header("content-type", "application/json")
            .body(webhook.body.clone())
            .map_err(|e| NotTaken::Unavailable { why: e.to_string() })?;
        let response = self.client.send(&self.service, request).await.map_err(|e| {
            let why = e.to_string();
            match e.class() {
                Class::Transient => NotTaken::Unavailable { why },
                _ => NotTaken::NoAnswer { why },
            }
        })?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status @ (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => {
                Err(NotTaken::Unavailable { why: status.to_string() })
            }
            status if status.is_server_error() => {
                Err(NotTaken::NoAnswer { why: status.to_string() })
            }
            status => Err(NotTaken::Refused { status: status.as_u16() }),
        }
    }
}
