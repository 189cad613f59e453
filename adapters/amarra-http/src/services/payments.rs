//! The routes of Payments.

use std::sync::Arc;

use amarra_shop::contract::ApiError;
use amarra_shop::payments::{Payments, SignedWebhook};
use axum::Router;
use axum::routing::{get, post};

use super::{PAGE, finish};
use crate::caller::{Api, Call, handle};
use crate::respond::{Outcome, Reply};

/// The header that carries a webhook's signature.
pub const SIGNATURE: &str = "provider-signature";

/// Makes the router.
pub fn router(api: &Api<Payments>) -> Router {
    finish(
        Router::new()
            .route("/v1/payments/{order}", get(handle(api, payment)))
            .route("/v1/journal", get(handle(api, journal)))
            .route("/v1/webhooks/provider", post(handle(api, webhook))),
    )
}

async fn payment(payments: Arc<Payments>, call: Call) -> Outcome {
    Reply::ok(&payments.payment(call.caller()?, call.param("order")?).await?)
}

async fn journal(payments: Arc<Payments>, call: Call) -> Outcome {
    let after: Option<String> = call.query("after")?;
    let limit = call.query("limit")?.unwrap_or(PAGE);
    Reply::ok(&payments.journal(call.caller()?, after.map(Into::into), limit).await?)
}

async fn webhook(payments: Arc<Payments>, call: Call) -> Outcome {
    let signature = call
        .header(SIGNATURE)
        .ok_or(ApiError::Unauthenticated("the webhook is not signed"))?
        .to_owned();
    let signed = SignedWebhook { signature, body: call.body().clone() };
    Reply::ok(&payments.ingest_webhook(&signed).await?)
}
