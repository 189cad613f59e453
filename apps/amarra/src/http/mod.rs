//! What every process serves besides its own API: probes, metrics, and the inner door's lock.

mod callee;
pub(crate) mod door;
pub(crate) mod health;
pub(crate) mod local;
pub(crate) mod metrics;
pub(crate) mod outlets;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use http::{Response, StatusCode, header};

use self::health::Health;
use self::metrics::Metrics;

/// Makes the router of `/healthz`, `/readyz` and `/metrics`.
pub(crate) fn operators(health: &Arc<Health>, metrics: &Arc<Metrics>) -> Router {
    let metrics = Arc::clone(metrics);
    let figures = move || {
        let metrics = Arc::clone(&metrics);
        async move {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            answer(StatusCode::OK, kind, metrics.render().await)
        }
    };
    probes(health).route("/metrics", get(figures))
}

/// Makes the router of `/healthz` and `/readyz` alone: for doors that customers stand at.
pub(crate) fn probes(health: &Arc<Health>) -> Router {
    let health = Arc::clone(health);
    let ready = move || {
        let health = Arc::clone(&health);
        async move {
            let (status, body) = health.readiness().await;
            answer(status, "application/json", body.to_string())
        }
    };
    Router::new()
        .route("/healthz", get(async || answer(StatusCode::OK, "application/json", ALIVE.into())))
        .route("/readyz", get(ready))
}

/// What `/healthz` answers: that the process runs at all.
const ALIVE: &str = r#"{"alive":true}"#;

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

/// Counts every request of a router.
pub(crate) fn counted(router: Router, service: &'static str, metrics: &Arc<Metrics>) -> Router {
    let metrics = Arc::clone(metrics);
    router.layer(from_fn(move |request: Request, next: Next| {
        let metrics = Arc::clone(&metrics);
        async move {
            let timer = metrics.request(service, request.method(), request.uri().path());
            let response = next.run(request).await;
            timer.answered(response.status());
            response
        }
    }))
}
