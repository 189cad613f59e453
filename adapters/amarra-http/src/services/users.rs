//! The routes of Users.

use std::sync::Arc;

use amarra_core::TraceParent;
use amarra_shop::contract::ApiError;
use amarra_shop::users::{Guest, Users};
use axum::Router;
use axum::routing::{get, post, put};
use http::StatusCode;

use super::finish;
use crate::caller::{Api, Call, handle};
use crate::respond::{Outcome, Reply};

/// Makes the router.
pub fn router(api: &Api<Users>) -> Router {
    let env = api.env.clone();
    let guest = move |call: &Call| -> Result<Guest, ApiError> {
        let traceparent = call
            .header("traceparent")
            .and_then(|t| t.parse().ok())
            .unwrap_or_else(|| TraceParent::root(env.entropy.as_ref()));
        Ok(Guest { traceparent, idempotency_key: call.idempotency_key()? })
    };
    let register = {
        let guest = guest.clone();
        move |users: Arc<Users>, call: Call| {
            let guest = guest(&call);
            async move {
                let registered = users.register(&guest?, call.json()?).await?;
                Reply::json(StatusCode::CREATED, &registered)
            }
        }
    };
    let verify = {
        let guest = guest.clone();
        move |users: Arc<Users>, call: Call| {
            let guest = guest(&call);
            async move {
                users.verify(&guest?, call.json()?).await?;
                Reply::empty()
            }
        }
    };
    let login = {
        let guest = guest.clone();
        move |users: Arc<Users>, call: Call| {
            let guest = guest(&call);
            async move { Reply::ok(&users.login(&guest?, call.json()?).await?) }
        }
    };
    let refresh = move |users: Arc<Users>, call: Call| {
        let guest = guest(&call);
        async move { Reply::ok(&users.refresh(&guest?, call.json()?).await?) }
    };
    finish(
        Router::new()
            .route("/v1/users", post(handle(api, register)))
            .route("/v1/users/{id}/verify", post(handle(api, verify)))
            .route("/v1/users/{id}/roles", put(handle(api, change_role)))
            .route("/v1/users/{id}", get(handle(api, user)))
            .route("/v1/sessions", post(handle(api, login)).delete(handle(api, logout_all)))
            .route("/v1/sessions/refresh", post(handle(api, refresh)))
            .route("/v1/me", get(handle(api, me)))
            .route("/v1/jwks", get(handle(api, jwks))),
    )
}

async fn change_role(users: Arc<Users>, call: Call) -> Outcome {
    Reply::ok(&users.change_role(call.caller()?, call.param("id")?, call.json()?).await?)
}

async fn user(users: Arc<Users>, call: Call) -> Outcome {
    Reply::ok(&users.get(call.caller()?, call.param("id")?).await?)
}

async fn logout_all(users: Arc<Users>, call: Call) -> Outcome {
    users.logout_all(call.caller()?).await?;
    Reply::empty()
}

async fn me(users: Arc<Users>, call: Call) -> Outcome {
    Reply::ok(&users.me(call.caller()?).await?)
}

async fn jwks(users: Arc<Users>, _call: Call) -> Outcome {
    Reply::ok(&users.jwks())
}
