//! The routes of Catalog.

use std::sync::Arc;

use amarra_shop::catalog::Catalog;
use amarra_shop::contract::Sku;
use axum::Router;
use axum::routing::{get, post, put};
use http::StatusCode;

use super::{PAGE, finish};
use crate::caller::{Api, Call, handle};
use crate::respond::{Outcome, Reply};

/// Makes the router.
pub fn router(api: &Api<Catalog>) -> Router {
    finish(
        Router::new()
            .route("/v1/products", get(handle(api, list)).post(handle(api, create)))
            .route("/v1/products/{sku}", get(handle(api, product)))
            .route("/v1/products/{sku}/publish", post(handle(api, publish)))
            .route("/v1/products/{sku}/discontinue", post(handle(api, discontinue)))
            .route("/v1/products/{sku}/price", put(handle(api, change_price)))
            .route("/v1/quotes", post(handle(api, quote))),
    )
}

async fn list(catalog: Arc<Catalog>, call: Call) -> Outcome {
    let after: Option<Sku> = call.query("after")?;
    let limit = call.query("limit")?.unwrap_or(PAGE);
    Reply::ok(&catalog.list(after.as_ref(), limit).await?)
}

async fn create(catalog: Arc<Catalog>, call: Call) -> Outcome {
    let product = catalog.create(call.caller()?, call.json()?).await?;
    let location = format!("/v1/products/{}", product.sku);
    Ok(Reply::json(StatusCode::CREATED, &product)?.at(location))
}

async fn product(catalog: Arc<Catalog>, call: Call) -> Outcome {
    Reply::ok(&catalog.get(&call.param("sku")?, call.query("min_version")?).await?)
}

async fn publish(catalog: Arc<Catalog>, call: Call) -> Outcome {
    Reply::ok(&catalog.publish(call.caller()?, &call.param("sku")?).await?)
}

async fn discontinue(catalog: Arc<Catalog>, call: Call) -> Outcome {
    Reply::ok(&catalog.discontinue(call.caller()?, &call.param("sku")?).await?)
}

async fn change_price(catalog: Arc<Catalog>, call: Call) -> Outcome {
    let sku: Sku = call.param("sku")?;
    Reply::ok(&catalog.change_price(call.caller()?, &sku, call.json()?).await?)
}

async fn quote(catalog: Arc<Catalog>, call: Call) -> Outcome {
    Reply::ok(&catalog.quote(call.caller()?, &call.json()?).await?)
}
