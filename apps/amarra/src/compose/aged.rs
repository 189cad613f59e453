//! Notes how old messages are when they are applied.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::Environment;
use amarra_messaging::message::Delivery;
use amarra_messaging::runtime::{ProcessError, Processor};
use amarra_messaging::wire;
use async_trait::async_trait;

use crate::http::health::MemberWatch;

/// A processor that tells its member's watch the age of what it applied: the lag that a customer
/// would notice.
#[derive(Debug)]
pub(super) struct Aged {
    inner: Arc<dyn Processor>,
    watch: Arc<MemberWatch>,
    env: Environment,
}

impl Aged {
    /// Wraps a processor.
    pub(super) fn new(
        inner: Arc<dyn Processor>,
        watch: Arc<MemberWatch>,
        env: Environment,
    ) -> Self {
        Self { inner, watch, env }
    }

    /// Returns the age of a message by its publisher's clock, none for a foreign one.
    fn age(&self, delivery: &Delivery) -> Option<Duration> {
        let published = wire::time(&delivery.record.headers)?;
        Some(self.env.now().since(published))
    }
}

#[async_trait]
impl Processor for Aged {
    async fn apply(&self, batch: &[Delivery]) -> Result<(), ProcessError> {
        self.inner.apply(batch).await?;
        if let Some(age) = batch.first().and_then(|first| self.age(first)) {
            self.watch.applied(age);
        }
        Ok(())
    }

    async fn park(&self, delivery: &Delivery, reason: &str) -> Result<(), ProcessError> {
        self.inner.park(delivery, reason).await
    }
}
