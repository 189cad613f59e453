//! The routes of Inventory.

use std::sync::Arc;

use amarra_shop::contract::inventory::AdjustStock;
use amarra_shop::contract::{ApiError, Sku};
use amarra_shop::inventory::Inventory;
use axum::Router;
use axum::routing::{get, post};

use super::finish;
use crate::caller::{Api, Call, handle};
use crate::respond::{Outcome, Reply};

/// Makes the router.
pub fn router(api: &Api<Inventory>) -> Router {
    finish(
        Router::new()
            .route("/v1/stock/{sku}", get(handle(api, availability)))
            .route("/v1/stock/{sku}/adjust", post(handle(api, adjust)))
            .route("/v1/stock/{sku}/receive", post(handle(api, receive))),
    )
}

async fn availability(inventory: Arc<Inventory>, call: Call) -> Outcome {
    let sku: Sku = call.param("sku")?;
    let found = inventory.availability(std::slice::from_ref(&sku)).await?;
    Reply::ok(found.first().ok_or(ApiError::NotFound)?)
}

async fn adjust(inventory: Arc<Inventory>, call: Call) -> Outcome {
    let (sku, request): (Sku, AdjustStock) = (call.param("sku")?, call.json()?);
    Reply::ok(&inventory.adjust(call.caller()?, &sku, request).await?)
}

async fn receive(inventory: Arc<Inventory>, call: Call) -> Outcome {
    let (sku, request): (Sku, AdjustStock) = (call.param("sku")?, call.json()?);
    Reply::ok(&inventory.receive(call.caller()?, &sku, request).await?)
}
