//! The transport port: sessions that are fenced by newer ones.

use std::sync::Arc;

use amarra_messaging::outbox::Lease;
use amarra_messaging::{PublishError, Session, Transport};
use async_trait::async_trait;

use super::Shared;

/// Opens publishing sessions for the shards of one outbox.
#[derive(Debug, Clone)]
pub struct SqliteTransport {
    _shared: Arc<Shared>,
    _source: Arc<str>,
}

impl SqliteTransport {
    pub(super) fn new(shared: Arc<Shared>, source: Arc<str>) -> Self {
        Self { _shared: shared, _source: source }
    }
}

#[async_trait]
impl Transport for SqliteTransport {
    async fn open(&self, _lease: &Lease) -> Result<Box<dyn Session>, PublishError> {
        Err(PublishError::Unavailable { acked: 0, why: "not written yet".to_owned() })
    }
}
