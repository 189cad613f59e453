//! Puts Payments together.

use std::sync::Arc;

use amarra_http::provider::HttpProvider;
use amarra_http::services;
use amarra_resilience::bulkhead::BulkheadConfig;
use amarra_shop::payments::{self, Payments};
use axum::Router;

use super::Host;
use crate::name::Name;
use crate::refusal::{Failure, Refuse};

pub(super) async fn compose(host: &mut Host<'_>) -> Result<Router, Failure> {
    let (cx, section) = (host.cx, &host.cx.config.payments);
    let webhook = cx.secret("keys.webhook", cx.config.keys.webhook.as_ref())?;
    let defaults = payments::Config::new(webhook);
    let concurrency_max = section.in_flight_max;
    let config = payments::Config {
        call_timeout: section.call_timeout.0,
        call_patience: section.call_patience.0,
        retry: section.retry.policy(defaults.retry),
        budget: section.retry.budget(defaults.budget),
        breaker: section.breaker.over(defaults.breaker),
        backoff_max: section.backoff_max.0.max(defaults.backoff),
        bulkhead: BulkheadConfig { concurrency_max, ..defaults.bulkhead },
        ..defaults
    };
    let provider = HttpProvider::new(Arc::clone(&cx.client), Name::Provider.as_str());
    let payments = Payments::new(host.ports()?, Arc::new(provider), config).refuse()?;
    host.guarded(payments.guards());
    host.drive(Payments::SOURCE, payments.handlers(), payments.due_handlers()).await?;
    Ok(services::payments::router(&host.api(payments)?))
}
