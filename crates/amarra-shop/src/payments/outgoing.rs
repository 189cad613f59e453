//! Calls to the provider, through breaker, retry budget, bulkhead and deadline.

use std::sync::Arc;

use amarra_core::{Class, Classify, Environment};
use amarra_resilience::{Breaker, Budget, Bulkhead, CallOptions, Pipeline};

use super::config::Config;
use super::model::calls::Call;
use super::provider_port::{
    Operation, OperationKind, OperationOutcome, PaymentProvider, ProviderError,
};
use crate::callee::{Callee, Guard};
use crate::contract::OrderId;
use crate::ports::ConfigError;

/// What came back of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// How the operation ended.
    Fact(Operation),
    /// Everything on record.
    Record(Vec<Operation>),
    /// Surely nothing happened.
    Nothing,
    /// The operation with this key may have happened.
    Doubt(String),
}

/// The way to the provider.
#[derive(Debug)]
pub(super) struct Outgoing {
    provider: Callee<dyn PaymentProvider>,
}

impl Outgoing {
    pub(super) fn new(
        provider: Arc<dyn PaymentProvider>,
        env: &Environment,
        config: &Config,
    ) -> Result<Self, ConfigError> {
        let pipeline = pipeline(env, config)
            .map_err(|e| ConfigError { field: e.field, why: format!("payments: {}", e.why) })?;
        Ok(Self { provider: Callee::new(provider, pipeline) })
    }

    pub(super) fn guard(&self) -> &Arc<Guard> {
        self.provider.guard()
    }

    /// Makes a call. An operation is never repeated in doubt: its outcome is asked for instead.
    pub(super) async fn make(&self, env: &Environment, order_id: OrderId, call: &Call) -> Heard {
        let provider = &self.provider;
        if let Call::Query = call {
            let options = CallOptions::idempotent();
            let record = provider.call(env, options, |way, _| way.status(order_id)).await;
            return record.map_or(Heard::Nothing, Heard::Record);
        }
        let options = CallOptions::default();
        let (kind, answer) = match call {
            Call::Authorize(r) => (
                OperationKind::Authorize,
                provider.call(env, options, |way, _| way.authorize(r)).await,
            ),
            Call::Capture(r) => {
                (OperationKind::Capture, provider.call(env, options, |way, _| way.capture(r)).await)
            }
            Call::Void(r) => {
                (OperationKind::Void, provider.call(env, options, |way, _| way.void(r)).await)
            }
            Call::Refund(r) => {
                (OperationKind::Refund, provider.call(env, options, |way, _| way.refund(r)).await)
            }
            Call::Query => return Heard::Nothing,
        };
        let key = call.key().unwrap_or_default().to_owned();
        let outcome = match answer {
            Ok(answer) => OperationOutcome::Approved(answer),
            Err(failed) => match (failed.class(), failed.into_call()) {
                (Class::Transient, _) => return Heard::Nothing,
                (Class::Rejected, Some(ProviderError::Rejected { reason, retryable })) => {
                    OperationOutcome::Rejected { reason, retryable }
                }
                _ => return Heard::Doubt(key),
            },
        };
        Heard::Fact(Operation { key, order_id, kind, outcome })
    }
}

fn pipeline(
    env: &Environment,
    config: &Config,
) -> Result<Pipeline, amarra_resilience::ConfigError> {
    let breaker = Breaker::seeded("payment-provider", config.breaker, env.entropy.as_ref())?;
    Pipeline::builder("payment-provider")
        .deadline(config.call_patience)
        .retry(config.retry, Arc::new(Budget::new(config.budget)?))
        .breaker(Arc::new(breaker))
        .bulkhead(Arc::new(Bulkhead::new(config.bulkhead)?))
        .timeout(config.call_timeout)
}
