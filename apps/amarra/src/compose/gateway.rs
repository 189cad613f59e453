//! Puts the gateway together.

use std::sync::Arc;

use amarra_http::upstream::HttpUpstream;
use amarra_resilience::bulkhead::BulkheadConfig;
use amarra_resilience::limiter::LimiterConfig;
use amarra_shop::auth::{RevocationFeed, Revocations};
use amarra_shop::contract::topics;
use amarra_shop::gateway::{self, Gateway, Upstream};
use axum::Router;

use super::{Host, REVOKED_USERS_MAX};
use crate::config::GatewaySection;
use crate::http::door::WithToken;
use crate::refusal::{Failure, Refuse};

/// The group of the feed of revocations.
const GROUP: &str = "gateway.revocations";
/// What limits are counted for where the connection tells no address: calls within one process.
const NO_ADDRESS: &str = "within";

pub(super) async fn compose(host: &mut Host<'_>) -> Result<Router, Failure> {
    let cx = host.cx;
    let revocations = Arc::new(Revocations::new(REVOKED_USERS_MAX));
    let verifier = cx.verifier(Arc::clone(&revocations))?;
    // What the feed says is kept in memory: each start reads it anew.
    let topics = [topics::USERS.into()];
    if let Some(broker) = &host.backing.broker {
        let member = broker.rereader(GROUP, &topics, &cx.env).await?;
        host.consume(GROUP, member, Arc::new(RevocationFeed::new(revocations)))?;
    }
    let mut upstream: Arc<dyn Upstream> = Arc::new(HttpUpstream::new(Arc::clone(&cx.client)));
    if let Some(source) = &cx.config.http.internal_token {
        let token = cx.secret("http.internal_token", Some(source))?;
        upstream = Arc::new(WithToken::new(upstream, &token)?);
    }
    let config = config(&cx.config.gateway);
    let gateway = Gateway::new(cx.env.clone(), verifier, upstream, config).refuse()?;
    host.guarded(gateway.guards());
    Ok(amarra_http::gateway::router(&gateway, NO_ADDRESS))
}

fn config(section: &GatewaySection) -> gateway::Config {
    let rate = |calls, burst| LimiterConfig { calls, burst, ..LimiterConfig::default() };
    let own = gateway::Config::default();
    gateway::Config {
        breaker: section.breaker.over(own.breaker),
        retry: section.retry.policy(own.retry),
        budget: section.retry.budget(own.budget),
        address: rate(section.address_calls, section.address_burst),
        credentials: rate(section.credentials_calls, section.credentials_burst),
        principal: rate(section.principal_calls, section.principal_burst),
        bulkhead: BulkheadConfig {
            concurrency_max: section.in_flight_max,
            queue_max: section.queue_max,
            ..BulkheadConfig::default()
        },
        try_timeout: section.try_timeout.0,
        ..own
    }
}
