//! The provider's way to its merchant: webhooks, behind the same guards as every other call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Class, Classify, Environment};
use amarra_resilience::{Breaker, Bulkhead, CallOptions, Pipeline, breaker, bulkhead};
use async_trait::async_trait;
use bytes::Bytes;

use crate::callee::{Callee, Guard};
use crate::payments::provider_port::WebhookEvent;
use crate::payments::{SignedWebhook, WebhookKey};
use crate::ports::ConfigError;

/// Names the merchant in figures.
const MERCHANT: &str = "merchant";

/// Takes webhooks: the merchant's own door, over whatever transport.
#[async_trait]
pub trait Merchant: Send + Sync + fmt::Debug {
    /// Hands over one webhook, once.
    ///
    /// # Errors
    /// [`NotTaken`]; the same webhook may be handed over again, whatever the class.
    ///
    /// # Cancellation
    /// A dropped future may have handed it over.
    async fn take(&self, webhook: &SignedWebhook) -> Result<(), NotTaken>;
}

/// Why the merchant did not take a webhook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// It was not reached, or turned the webhook away unread. Class `Transient`.
    #[error("merchant unavailable: {why}")]
    Unavailable {
        /// What the way to it said.
        why: String,
    },
    /// It may have taken it. Class `Unknown`.
    #[error("no answer from the merchant: {why}")]
    NoAnswer {
        /// What the way to it said.
        why: String,
    },
    /// It refused, which says nothing against its health. Class `Rejected`: deliver again later,
    /// and have somebody look at the keys of both sides.
    #[error("refused by the merchant with status {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
}

impl Classify for NotTaken {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } => Class::Transient,
            Self::NoAnswer { .. } => Class::Unknown,
            Self::Refused { .. } => Class::Rejected,
        }
    }
}

/// How webhooks are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookConfig {
    /// How long one delivery may take; above zero. 2 s. After it the webhook is delivered again.
    pub timeout: Duration,
    /// When the merchant is believed ill. An open period is at most 5 s, since orders wait for
    /// webhooks whose answers were lost.
    pub breaker: breaker::Config,
    /// How many deliveries run at once.
    pub bulkhead: bulkhead::BulkheadConfig,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(2),
            breaker: breaker::Config {
                open_wait: Duration::from_secs(1),
                open_wait_max: Duration::from_secs(5),
                ..breaker::Config::default()
            },
            bulkhead: bulkhead::BulkheadConfig::default(),
        }
    }
}

/// Delivers webhooks to the merchant, signed as they leave.
///
/// A call makes one try: whoever hosts the ledger goes round until each webhook is taken.
#[derive(Debug)]
pub struct Webhooks {
    env: Environment,
    key: WebhookKey,
    merchant: Callee<dyn Merchant>,
}

impl Webhooks {
    /// Puts the guards in front of the merchant.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn new(
        env: Environment,
        key: WebhookKey,
        merchant: Arc<dyn Merchant>,
        config: &WebhookConfig,
    ) -> Result<Self, ConfigError> {
        let nested = |field| {
            move |e: amarra_resilience::ConfigError| ConfigError { field, why: e.to_string() }
        };
        let breaker = Breaker::seeded(MERCHANT, config.breaker, env.entropy.as_ref());
        let bulkhead = Bulkhead::new(config.bulkhead).map_err(nested("provider.bulkhead"))?;
        let pipeline = Pipeline::builder(MERCHANT)
            .deadline(config.timeout)
            .breaker(Arc::new(breaker.map_err(nested("provider.breaker"))?))
            .bulkhead(Arc::new(bulkhead))
            .timeout(config.timeout)
            .map_err(nested("provider.timeout"))?;
        Ok(Self { env, key, merchant: Callee::new(merchant, pipeline) })
    }

    /// Returns the guards of the deliveries, to be looked at.
    #[must_use]
    pub fn guard(&self) -> &Arc<Guard> {
        self.merchant.guard()
    }

    /// Delivers a webhook; false when it has to be delivered again.
    ///
    /// # Cancellation
    /// A dropped future may have delivered it.
    pub async fn deliver(&self, event: &WebhookEvent) -> bool {
        let Ok(body) = serde_json::to_vec(event) else { return false };
        let body = Bytes::from(body);
        let options = CallOptions::idempotent();
        let taken = self.merchant.call(&self.env, options, |way, _| {
            let webhook = self.key.sign(body.clone(), self.env.now());
            async move { way.take(&webhook).await }
        });
        taken.await.is_ok()
    }
}
