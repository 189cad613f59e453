//! Whatever is wrong with a request, the answer is a problem document and never a 500.

use std::sync::Arc;

use amarra_conformance::harness::Harness;
use amarra_http::caller::Api;
use amarra_http::services;
use amarra_memory::{ClientId, DatabaseConfig, Hooks, MemoryDatabase};
use amarra_shop::ServicePorts;
use amarra_shop::auth::{
    KeyConfig, Purpose, Revocations, Subject, TokenConfig, TokenSigner, TokenVerifier,
    VerifierConfig,
};
use amarra_shop::catalog::{self, Catalog};
use amarra_shop::contract::Role;
use amarra_shop::contract::users::Secret;
use amarra_shop::inventory::{self, Inventory};
use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

const REQUEST_BYTES_MAX: usize = 1024;

struct Shop {
    harness: Harness,
    catalog: Router,
    inventory: Router,
    token: String,
}

fn keys() -> KeyConfig {
    KeyConfig { active: Secret::new("A".repeat(43)), standby: None }
}

fn shop(roles: &[Role]) -> Shop {
    let harness = Harness::new(1);
    let env = harness.environment("http");
    let ports = |name: &str| {
        let config = DatabaseConfig::default();
        let database = MemoryDatabase::new(name, config, env.clone(), Hooks::default()).unwrap();
        let store = Arc::new(database.connect(ClientId::new(name, 1)));
        ServicePorts { store: Arc::clone(&store) as _, views: store, env: env.clone() }
    };
    let signer = TokenSigner::new(TokenConfig::new(keys())).unwrap();
    let subject =
        Subject { user_id: env.new_id(), roles: roles.iter().copied().collect(), version: 1 };
    let token = signer.issue(&subject, env.now(), env.entropy.as_ref()).expose().to_owned();
    let verifier = Arc::new(
        TokenVerifier::new(
            VerifierConfig::default(),
            keys().key_set(Purpose::AccessToken).unwrap(),
            Arc::clone(&env.clock),
            Arc::new(Revocations::new(10)),
        )
        .unwrap(),
    );
    fn api<S>(
        service: Arc<S>,
        verifier: &Arc<TokenVerifier>,
        env: &amarra_core::Environment,
    ) -> Api<S> {
        let (verifier, env) = (Arc::clone(verifier), env.clone());
        Api { service, verifier, env, request_bytes_max: REQUEST_BYTES_MAX }
    }
    let catalog = Catalog::new(ports("catalog"), catalog::Config::new(keys())).unwrap();
    let inventory = Inventory::new(ports("inventory"), inventory::Config::default()).unwrap();
    Shop {
        catalog: services::catalog::router(&api(catalog, &verifier, &env)),
        inventory: services::inventory::router(&api(inventory, &verifier, &env)),
        token,
        harness,
    }
}

impl Shop {
    fn ask(&self, router: &Router, request: Request<Body>) -> (StatusCode, String, Value) {
        let router = router.clone();
        self.harness.block_on(async move {
            let response = router.oneshot(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let kind = parts.headers.get("content-type").map(|v| v.to_str().unwrap().to_owned());
            let body = body.collect().await.unwrap().to_bytes();
            let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
            (parts.status, kind.unwrap_or_default(), json)
        })
    }

    fn refuses(&self, router: &Router, request: Request<Body>, status: u16) -> Value {
        let path = request.uri().path().to_owned();
        let (got, kind, problem) = self.ask(router, request);
        assert_eq!(got.as_u16(), status, "{path}: {problem}");
        assert_eq!(kind, "application/problem+json", "{path}");
        assert_eq!(problem["status"], status, "{path}");
        assert_eq!(problem["instance"], path);
        problem
    }

    fn post(&self, path: &str, body: impl Into<Body>) -> Request<Body> {
        Request::post(path)
            .header("authorization", format!("Bearer {}", self.token))
            .body(body.into())
            .unwrap()
    }
}

#[test]
fn malformed_bodies_are_400_and_never_echoed() {
    let shop = shop(&[Role::CatalogAdmin]);
    for body in [
        "",
        "{",
        "[]",
        "null",
        "{\"sku\":1}",
        "{\"sku\":\"lower\",\"name\":\"x\"}",
        "{\"sku\":\"A\",\"name\":\"hunter2\",\"price\":1}",
        "\u{0}",
    ] {
        let problem = shop.refuses(&shop.catalog, shop.post("/v1/products", body), 400);
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
    let bytes = Body::from(vec![0xff, 0xfe, b'{']);
    shop.refuses(&shop.catalog, shop.post("/v1/products", bytes), 400);
    let deep = "[".repeat(600);
    shop.refuses(&shop.catalog, shop.post("/v1/products", deep), 400);
}

#[test]
fn oversized_bodies_are_413_with_the_bound() {
    let shop = shop(&[Role::CatalogAdmin]);
    let body = "x".repeat(REQUEST_BYTES_MAX + 1);
    let problem = shop.refuses(&shop.catalog, shop.post("/v1/products", body), 413);
    assert!(problem["detail"].as_str().unwrap().contains("1024"), "{problem}");
}

#[test]
fn missing_and_broken_tokens_are_401() {
    let shop = shop(&[Role::CatalogAdmin]);
    let body = || Body::from("{\"sku\":\"A\",\"name\":\"x\"}");
    let without = Request::post("/v1/products").body(body()).unwrap();
    shop.refuses(&shop.catalog, without, 401);
    for token in ["", "Bearer", "Bearer x", "Basic abc", "Bearer a.b.c", "bearer \u{1}"] {
        let request = Request::post("/v1/products")
            .header(
                "authorization",
                token.as_bytes().iter().map(|b| (*b).max(b' ') as char).collect::<String>(),
            )
            .body(body())
            .unwrap();
        shop.refuses(&shop.catalog, request, 401);
    }
    let mut other = shop.token.clone();
    let last = if other.pop() == Some('A') { 'B' } else { 'A' };
    other.push(last);
    let request = Request::post("/v1/products")
        .header("authorization", format!("Bearer {other}"))
        .body(body())
        .unwrap();
    shop.refuses(&shop.catalog, request, 401);
}

#[test]
fn roles_are_checked_in_the_service_again() {
    let shop = shop(&[Role::Customer]);
    let body = "{\"sku\":\"A\",\"name\":\"x\"}";
    shop.refuses(&shop.catalog, shop.post("/v1/products", body), 403);
    let body = "{\"delta\":5,\"reason\":\"gift\"}";
    shop.refuses(&shop.inventory, shop.post("/v1/stock/A/receive", body), 403);
}

#[test]
fn unknown_paths_are_404_and_wrong_verbs_405() {
    let shop = shop(&[]);
    for path in ["/", "/v1", "/v1/products/A/B/C", "/v1/orders"] {
        shop.refuses(&shop.catalog, Request::get(path).body(Body::empty()).unwrap(), 404);
    }
    let request = Request::delete("/v1/products").body(Body::empty()).unwrap();
    shop.refuses(&shop.catalog, request, 405);
    // A path part that names nothing that could exist.
    shop.refuses(
        &shop.inventory,
        Request::get("/v1/stock/nosku").body(Body::empty()).unwrap(),
        404,
    );
}

#[test]
fn queries_that_do_not_parse_are_400_and_named() {
    let shop = shop(&[]);
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let problem = shop.refuses(&shop.catalog, get("/v1/products?limit=minus"), 400);
    assert!(problem["detail"].as_str().unwrap().contains("limit"), "{problem}");
    shop.refuses(&shop.catalog, get("/v1/products?after=lower"), 400);
}

#[test]
fn idempotency_keys_have_a_form() {
    let shop = shop(&[Role::InventoryAdmin]);
    for key in ["", " ", "a b", &"k".repeat(129)] {
        let mut request = shop.post("/v1/stock/A/receive", "{\"delta\":5,\"reason\":\"gift\"}");
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        shop.refuses(&shop.inventory, request, 400);
    }
}

#[test]
fn a_good_request_is_answered() {
    let shop = shop(&[Role::CatalogAdmin, Role::InventoryAdmin]);
    let body = "{\"sku\":\"TEA-1\",\"name\":\"Tea\"}";
    let (status, kind, product) = shop.ask(&shop.catalog, shop.post("/v1/products", body));
    assert_eq!((status.as_u16(), kind.as_str()), (201, "application/json"));
    assert_eq!(product["sku"], "TEA-1");
    let body = "{\"delta\":5,\"reason\":\"gift\"}";
    let (status, _, stock) = shop.ask(&shop.inventory, shop.post("/v1/stock/TEA-1/receive", body));
    assert_eq!((status.as_u16(), &stock["available"]), (200, &Value::from(5)));
}

#[test]
fn work_that_nobody_waits_for_is_not_begun() {
    let shop = shop(&[Role::CatalogAdmin]);
    let check = |deadline: &str, status: StatusCode| {
        let request = Request::get("/v1/products")
            .header("authorization", format!("Bearer {}", shop.token))
            .header("amarra-deadline", deadline)
            .body(Body::empty());
        let (answered, ..) = shop.ask(&shop.catalog, request.unwrap());
        assert_eq!(answered, status, "{deadline}");
    };
    check("1000;hops=3", StatusCode::OK);
    check("1000;hops=0", StatusCode::OK);
    // Surely nothing was done, and no trace of doubt is in the answer.
    check("0;hops=3", StatusCode::SERVICE_UNAVAILABLE);
    check("soon", StatusCode::BAD_REQUEST);
}
