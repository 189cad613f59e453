//! The transport port: sessions that are fenced by newer ones.

use std::sync::Arc;

use amarra_messaging::outbox::Lease;
use amarra_messaging::transport::Publish;
use amarra_messaging::{PublishError, Session, Transport};
use async_trait::async_trait;

use super::request::{Request, SessionKey};
use super::{Gone, Shared};

/// Opens publishing sessions for the shards of one outbox.
#[derive(Debug, Clone)]
pub struct SqliteTransport {
    shared: Arc<Shared>,
    source: Arc<str>,
}

impl SqliteTransport {
    pub(super) fn new(shared: Arc<Shared>, source: Arc<str>) -> Self {
        Self { shared, source }
    }
}

#[async_trait]
impl Transport for SqliteTransport {
    async fn open(&self, lease: &Lease) -> Result<Box<dyn Session>, PublishError> {
        let key =
            SessionKey { source: Arc::clone(&self.source), shard: lease.shard, epoch: lease.epoch };
        let session = key.clone();
        let opened = self.shared.ask(|reply| Request::Open { session, reply }).await;
        let number = opened.unwrap_or_else(|gone| Err(unavailable(&gone)))?;
        Ok(Box::new(SqliteSession { shared: Arc::clone(&self.shared), key, number }))
    }
}

/// A session; the writer knows its number, and no other of its shard.
///
/// A call is one request: all of its records, or those before one that is refused, are written in
/// one transaction. Nothing is retried inside, so nothing is ever stored twice by it.
#[derive(Debug)]
struct SqliteSession {
    shared: Arc<Shared>,
    key: SessionKey,
    number: u64,
}

#[async_trait]
impl Session for SqliteSession {
    async fn publish(&mut self, records: &[Publish]) -> Result<(), PublishError> {
        let (session, number, records) = (self.key.clone(), self.number, records.to_vec());
        let request = |reply| Request::Publish { session, number, records, reply };
        self.shared.ask(request).await.unwrap_or_else(|gone| Err(unavailable(&gone)))
    }
}

fn unavailable(_: &Gone) -> PublishError {
    PublishError::Unavailable { acked: 0, why: Gone::WHY.to_owned() }
}
