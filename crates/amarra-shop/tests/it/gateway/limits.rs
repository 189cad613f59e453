//! Rate limits and load: who asks too much waits, and checkout goes before browsing.

use std::time::Duration;

use amarra_resilience::bulkhead::BulkheadConfig;
use amarra_resilience::limiter::LimiterConfig;
use amarra_shop::gateway::Config;
use bytes::Bytes;
use http::{Request, Response};

use super::bench::{Act, Bench, config, keys, problem, request, set, user};

fn tight() -> LimiterConfig {
    LimiterConfig { calls: 1, period: Duration::from_secs(10), burst: 2, keys_max: 100 }
}

fn from(bench: &Bench, peer: &str, asked: Request<Bytes>) -> Response<Bytes> {
    bench.harness.block_on(bench.gateway.handle(asked, peer))
}

fn limited(response: &Response<Bytes>) {
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "10");
    problem(response);
}

#[test]
fn an_address_that_asks_too_much_waits_and_others_do_not() {
    let bench = Bench::new(Config { address: tight(), ..config() });
    let browse = || request("GET", "/v1/products", "");
    for _ in 0..2 {
        assert_eq!(from(&bench, "192.0.2.1", browse()).status(), 200);
    }
    limited(&from(&bench, "192.0.2.1", browse()));
    limited(&from(&bench, "192.0.2.1", request("GET", "/nothing", "")));
    assert_eq!(from(&bench, "192.0.2.2", browse()).status(), 200);
    bench.wait(Duration::from_secs(10));
    assert_eq!(from(&bench, "192.0.2.1", browse()).status(), 200);
    assert_eq!(bench.seen().len(), 4, "what was refused reached nobody");
}

#[test]
fn guessing_passwords_is_limited_apart() {
    let bench = Bench::new(Config { credentials: tight(), ..config() });
    let login = || request("POST", "/v1/sessions", "{}");
    bench.send(login());
    bench.send(request("POST", "/v1/sessions/refresh", "{}"));
    limited(&bench.send(login()));
    limited(&bench.send(request("POST", "/v1/users", "{}")));
    assert_eq!(bench.send(request("GET", "/v1/products", "")).status(), 200);
}

#[test]
fn a_user_who_asks_too_much_waits_from_whatever_address() {
    let bench = Bench::new(Config { principal: tight(), ..config() });
    let me = |n: u128| {
        let mut asked = request("GET", "/v1/me", "");
        set(&mut asked, "authorization", &bench.token_of(keys(0, None), user(n), &[]));
        asked
    };
    for peer in ["192.0.2.1", "192.0.2.2"] {
        assert_eq!(from(&bench, peer, me(7)).status(), 200);
    }
    limited(&from(&bench, "192.0.2.3", me(7)));
    assert_eq!(from(&bench, "192.0.2.1", me(8)).status(), 200);
}

#[test]
fn under_load_browsing_is_refused_before_checkout() {
    let bulkhead = BulkheadConfig { concurrency_max: 4, queue_max: 0, ..BulkheadConfig::default() };
    let bench = Bench::new(Config { bulkhead, ..config() });
    let quote = || {
        let mut asked = request("POST", "/v1/quotes", "{}");
        set(&mut asked, "authorization", &bench.token(&[]));
        asked
    };
    // Two requests hang: Catalog is half full.
    bench.line((0..2).map(|_| Act::Hang(Duration::from_secs(2))));
    for _ in 0..2 {
        let (gateway, asked) = (std::sync::Arc::clone(&bench.gateway), quote());
        bench.harness.spawn(async move {
            gateway.handle(asked, "192.0.2.9").await;
        });
    }
    let (browse, quoted) = bench.harness.block_on(async {
        bench.harness.environment("test").sleep(Duration::from_millis(1)).await;
        let browse = request("GET", "/v1/products", "");
        let browse = bench.gateway.handle(browse, "192.0.2.1").await;
        (browse, bench.gateway.handle(quote(), "192.0.2.1").await)
    });
    assert_eq!(browse.status(), 503);
    assert!(problem(&browse).contains("overload"));
    assert!(browse.headers().contains_key("retry-after"));
    assert_eq!(quoted.status(), 200);
}

#[test]
fn one_full_service_does_not_fill_the_others() {
    let bulkhead = BulkheadConfig { concurrency_max: 1, queue_max: 0, ..BulkheadConfig::default() };
    let bench = Bench::new(Config { bulkhead, ..config() });
    bench.line([Act::Hang(Duration::from_secs(2))]);
    let gateway = std::sync::Arc::clone(&bench.gateway);
    bench.harness.spawn(async move {
        gateway.handle(request("POST", "/v1/sessions", "{}"), "192.0.2.9").await;
    });
    let (full, other) = bench.harness.block_on(async {
        bench.harness.environment("test").sleep(Duration::from_millis(1)).await;
        let login = request("POST", "/v1/sessions", "{}");
        let full = bench.gateway.handle(login, "192.0.2.1").await;
        (full, bench.gateway.handle(request("GET", "/v1/products", ""), "192.0.2.1").await)
    });
    assert_eq!((full.status().as_u16(), other.status().as_u16()), (503, 200));
}

#[test]
fn limits_that_cannot_be_are_named() {
    let none = LimiterConfig { calls: 0, ..LimiterConfig::default() };
    let check = |config: Config, field| {
        let bench = Bench::new(super::bench::config());
        let made = amarra_shop::gateway::Gateway::new(
            bench.harness.environment("gateway"),
            std::sync::Arc::clone(&bench.verifier),
            std::sync::Arc::clone(&bench.services) as _,
            config,
        );
        assert_eq!(made.unwrap_err().field, field);
    };
    check(Config { address: none, ..config() }, "gateway.address");
    check(Config { principal: none, ..config() }, "gateway.principal");
    check(Config { target_bytes_max: 10, ..config() }, "gateway.target_bytes_max");
    check(Config { retry_after: Duration::ZERO, ..config() }, "gateway.retry_after");
}
