//! The provider's router: bad requests are refused, good ones served, and one may stay silent.

use std::sync::{Arc, Mutex};

use amarra_conformance::harness::Harness;
use amarra_core::Timestamp;
use amarra_http::provider::{ProviderNode, Refused, router};
use amarra_shop::provider::{Config, Provider, ProviderRequest, ProviderResponse};
use async_trait::async_trait;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use tower::ServiceExt;

#[derive(Debug)]
struct Node {
    ledger: Mutex<Provider>,
    down: bool,
}

#[async_trait]
impl ProviderNode for Node {
    async fn serve(&self, request: ProviderRequest) -> Option<Result<ProviderResponse, Refused>> {
        if self.down {
            return Some(Err(Refused));
        }
        Some(Ok(self.ledger.lock().unwrap().serve(&request, Timestamp::EPOCH)))
    }
}

fn ask(down: bool, request: Request<Body>) -> (u16, Vec<u8>) {
    let ledger = Mutex::new(Provider::new(Config::default()).unwrap());
    let router = router(Arc::new(Node { ledger, down }));
    Harness::new(1).block_on(async move {
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    })
}

fn post(body: impl Into<Body>) -> Request<Body> {
    Request::post("/v1/operations").body(body.into()).unwrap()
}

#[test]
fn a_query_is_served() {
    let body = "{\"status\":\"01890a5d-ac96-774b-bcce-b302099a8057\"}";
    let (status, answer) = ask(false, post(body));
    assert_eq!((status, answer.as_slice()), (200, b"{\"operations\":[]}".as_slice()));
}

#[test]
fn bad_requests_are_refused() {
    assert_eq!(ask(false, post("{")).0, 400);
    assert_eq!(ask(false, post("x".repeat(20_000))).0, 413);
    assert_eq!(ask(false, Request::get("/v1/operations").body(Body::empty()).unwrap()).0, 405);
    assert_eq!(ask(false, Request::get("/").body(Body::empty()).unwrap()).0, 404);
}

#[test]
fn an_outage_is_said_before_the_request_is_looked_at() {
    let body = "{\"status\":\"01890a5d-ac96-774b-bcce-b302099a8057\"}";
    assert_eq!(ask(true, post(body)).0, 503);
}
