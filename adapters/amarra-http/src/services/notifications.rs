//! The routes of Notifications.

use std::sync::Arc;

use amarra_shop::notifications::Notifications;
use axum::Router;
use axum::routing::get;

use super::finish;
use crate::caller::{Api, Call, handle};
use crate::respond::{Outcome, Reply};

/// Makes the router.
pub fn router(api: &Api<Notifications>) -> Router {
    finish(
        Router::new().route("/v1/notifications/{order}", get(handle(api, by_order))).route(
            "/v1/preferences",
            get(handle(api, preferences)).put(handle(api, set_preferences)),
        ),
    )
}

async fn by_order(notifications: Arc<Notifications>, call: Call) -> Outcome {
    Reply::ok(&notifications.by_order(call.caller()?, call.param("order")?).await?)
}

async fn preferences(notifications: Arc<Notifications>, call: Call) -> Outcome {
    Reply::ok(&notifications.preferences(call.caller()?).await?)
}

async fn set_preferences(notifications: Arc<Notifications>, call: Call) -> Outcome {
    Reply::ok(&notifications.set_preferences(call.caller()?, call.json()?).await?)
}
