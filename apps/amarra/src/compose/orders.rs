//! Puts Orders together.

use std::sync::Arc;

use amarra_http::services;
use amarra_shop::auth::QuoteVerifier;
use amarra_shop::orders::{self, Orders};
use axum::Router;

use super::Host;
use crate::refusal::{Failure, Refuse};

pub(super) async fn compose(host: &mut Host<'_>) -> Result<Router, Failure> {
    let (cx, section) = (host.cx, &host.cx.config.orders);
    let keys = cx.key_set("keys.quote_public", cx.config.keys.quote_public.as_ref())?;
    let (step, repeat) = (section.step_timeout.0, section.repeat_after.0);
    let config = orders::Config {
        open_orders_max: section.open_orders_max,
        reserve_ttl: section.reserve_ttl.0,
        deadline: section.deadline.0,
        reserve_timeout: step,
        authorize_timeout: step,
        commit_timeout: step,
        capture_timeout: repeat,
        undo_timeout: repeat,
        ..orders::Config::default()
    };
    let verifier = Arc::new(QuoteVerifier::new(keys));
    let orders = Orders::new(host.ports()?, verifier, config).refuse()?;
    host.drive(Orders::SOURCE, orders.handlers(), orders.due_handlers()).await?;
    Ok(services::orders::router(&host.api(orders)?))
}
