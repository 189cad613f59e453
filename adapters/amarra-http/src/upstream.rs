//! The gateway's way to the services, over the pooled client.

use std::sync::Arc;

use amarra_core::{Class, Classify};
use amarra_shop::gateway::{Upstream, UpstreamError};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};

use crate::client::HttpClient;

/// Services over HTTP.
#[derive(Debug, Clone)]
pub struct HttpUpstream {
    client: Arc<HttpClient>,
}

impl HttpUpstream {
    /// Reaches services through `client`.
    #[must_use]
    pub fn new(client: Arc<HttpClient>) -> Self {
        Self { client }
    }
}

#[async_trait]
impl Upstream for HttpUpstream {
    async fn send(
        &self,
        service: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, UpstreamError> {
        self.client.send(service, request).await.map_err(|e| match e.class() {
            Class::Transient => UpstreamError::NotSent { why: e.to_string() },
            _ => UpstreamError::Unknown { why: e.to_string() },
        })
    }
}
