//! The routes of Orders.

use std::sync::Arc;

use amarra_shop::contract::OrderId;
use amarra_shop::orders::Orders;
use axum::Router;
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;

use super::{PAGE, finish};
use crate::caller::{Api, Call, handle};
use crate::respond::{Outcome, Reply};

/// Makes the router.
pub fn router(api: &Api<Orders>) -> Router {
    finish(
        Router::new()
            .route("/v1/orders", get(handle(api, list)).post(handle(api, place)))
            .route("/v1/orders/{id}", get(handle(api, order)))
            .route("/v1/orders/{id}/timeline", get(handle(api, timeline)))
            .route("/v1/orders/{id}/cancel", post(handle(api, cancel)))
            .route("/v1/orders/{id}/ship", post(handle(api, ship)))
            .route("/v1/orders/{id}/deliver", post(handle(api, deliver))),
    )
}

/// Asks to hand an order to the carrier.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ship {
    tracking: String,
}

async fn place(orders: Arc<Orders>, call: Call) -> Outcome {
    let placed = orders.place(call.caller()?, call.json()?).await?;
    let location = format!("/v1/orders/{}", placed.order_id);
    Ok(Reply::json(StatusCode::CREATED, &placed)?.at(location))
}

async fn list(orders: Arc<Orders>, call: Call) -> Outcome {
    let after: Option<String> = call.query("after")?;
    let limit = call.query("limit")?.unwrap_or(PAGE);
    Reply::ok(&orders.list(call.caller()?, after.as_deref(), limit).await?)
}

async fn order(orders: Arc<Orders>, call: Call) -> Outcome {
    let id: OrderId = call.param("id")?;
    Reply::ok(&orders.get(call.caller()?, id, call.query("min_version")?).await?)
}

async fn timeline(orders: Arc<Orders>, call: Call) -> Outcome {
    Reply::ok(&orders.timeline(call.caller()?, call.param("id")?).await?)
}

async fn cancel(orders: Arc<Orders>, call: Call) -> Outcome {
    let accepted = orders.cancel(call.caller()?, call.param("id")?, call.json()?).await?;
    Reply::json(StatusCode::ACCEPTED, &accepted)
}

async fn ship(orders: Arc<Orders>, call: Call) -> Outcome {
    let body: Ship = call.json()?;
    Reply::ok(&orders.ship(call.caller()?, call.param("id")?, &body.tracking).await?)
}

async fn deliver(orders: Arc<Orders>, call: Call) -> Outcome {
    Reply::ok(&orders.deliver(call.caller()?, call.param("id")?).await?)
}
