//! Repeated tries: only where a second one cannot do it twice, and never too many.

use std::time::Duration;

use amarra_resilience::PerMille;
use amarra_resilience::breaker::{Config as BreakerConfig, Mode, State, Window};
use amarra_shop::Ending;
use amarra_shop::gateway::Config;
use bytes::Bytes;
use http::Request;

use super::bench::{Act, Bench, ID, config, order, problem, request, set};

/// Sends a request whose first try goes as told and whose others succeed; returns the tries and the
/// status.
fn tries(bench: &Bench, asked: Request<Bytes>, first: Act) -> (usize, u16) {
    bench.line([first]);
    let response = bench.send(asked);
    bench.services.line.lock().unwrap().clear();
    (bench.seen().len(), response.status().as_u16())
}

fn by_user(bench: &Bench, method: &str, path: &str, body: &str) -> Request<Bytes> {
    let mut asked = request(method, path, body);
    set(&mut asked, "authorization", &bench.token(&[amarra_shop::contract::Role::Admin]));
    asked
}

#[test]
fn gwy_3_a_doubtful_try_is_repeated_only_where_it_is_safe() {
    let bench = Bench::new(config());
    let check = |asked: Request<Bytes>, expect| {
        let what = format!("{} {}", asked.method(), asked.uri());
        assert_eq!(tries(&bench, asked, Act::unknown()), expect, "{what}");
    };
    let token = bench.token(&[]);
    check(request("GET", "/v1/products", ""), (2, 200));
    check(by_user(&bench, "POST", "/v1/quotes", "{}"), (2, 200));
    check(by_user(&bench, "PUT", "/v1/preferences", "{}"), (2, 200));
    check(request("POST", "/v1/sessions/refresh", "{}"), (2, 200));
    check(order(&token), (2, 200));
    let mut keyed = request("POST", "/v1/users", "{}");
    set(&mut keyed, "idempotency-key", "k-1");
    check(keyed, (2, 200));
    // Without a key, or with one that the service does not look at, it may have happened.
    check(request("POST", "/v1/users", "{}"), (1, 503));
    check(request("POST", "/v1/sessions", "{}"), (1, 503));
    let cancel = format!("/v1/orders/{ID}/cancel");
    check(by_user(&bench, "POST", &cancel, "{}"), (1, 503));
    let mut keyed = by_user(&bench, "POST", &cancel, "{}");
    set(&mut keyed, "idempotency-key", "k-1");
    check(keyed, (1, 503));
}

#[test]
fn a_try_that_was_not_sent_is_always_repeated() {
    let bench = Bench::new(config());
    let login = request("POST", "/v1/sessions", "{}");
    assert_eq!(tries(&bench, login, Act::not_sent()), (2, 200));
    let login = request("POST", "/v1/sessions", "{}");
    assert_eq!(tries(&bench, login, Act::status(503)), (2, 200), "a 503 says nothing was done");
    let login = request("POST", "/v1/sessions", "{}");
    assert_eq!(tries(&bench, login, Act::status(500)), (1, 500), "a 500 does not say");
}

#[test]
fn the_repeated_request_is_the_same_one() {
    let bench = Bench::new(config());
    bench.line([Act::unknown(), Act::not_sent()]);
    assert_eq!(bench.send(order(&bench.token(&[]))).status(), 200);
    let seen = bench.seen();
    assert_eq!(seen.len(), 3);
    for (_, request) in &seen {
        assert_eq!(request.headers()["idempotency-key"], "k-1");
        assert_eq!(request.headers()["traceparent"], seen[0].1.headers()["traceparent"]);
        assert_eq!(request.body(), seen[0].1.body());
    }
}

#[test]
fn tries_end_and_the_answer_says_whether_it_may_have_happened() {
    let bench = Bench::new(config());
    let token = bench.token(&[]);
    bench.line((0..9).map(|_| Act::not_sent()));
    let surely_not = bench.send(order(&token));
    assert_eq!(bench.seen().len(), 3);
    assert_eq!(surely_not.status(), 503);
    assert!(surely_not.headers().contains_key("retry-after"));
    assert!(!surely_not.headers().contains_key("amarra-outcome"));
    bench.services.line.lock().unwrap().clear();

    bench.line([Act::unknown(), Act::not_sent(), Act::status(503)]);
    let perhaps = bench.send(order(&token));
    assert_eq!(perhaps.status(), 503);
    assert_eq!(perhaps.headers()["amarra-outcome"], "unknown", "the first try may have done it");

    bench.line([Act::unknown(), Act::unknown(), Act::unknown()]);
    let read = bench.send(request("GET", "/v1/products", ""));
    assert_eq!(read.status(), 503);
    assert!(!read.headers().contains_key("amarra-outcome"), "a read has no outcome");
}

#[test]
fn a_slow_service_is_given_up_at_the_deadline() {
    let bench = Bench::new(config());
    let token = bench.token(&[]);
    let start = bench.harness.environment("test").monotonic();
    bench.line((0..9).map(|_| Act::Hang(Duration::from_secs(60))));
    let late = bench.send(order(&token));
    let took = bench.harness.environment("test").monotonic().since(start);
    assert_eq!(late.status(), 504);
    assert_eq!(late.headers()["amarra-outcome"], "unknown");
    assert!(took <= Duration::from_secs(10), "{took:?}");
    problem(&late);
    bench.services.line.lock().unwrap().clear();
    bench.seen();

    bench.line([Act::Hang(Duration::from_secs(60))]);
    let start = bench.harness.environment("test").monotonic();
    let mut hurried = by_user(&bench, "POST", "/v1/quotes", "{}");
    set(&mut hurried, "amarra-deadline", "200;hops=9");
    assert_eq!(bench.send(hurried).status(), 504);
    let took = bench.harness.environment("test").monotonic().since(start);
    assert!(took <= Duration::from_millis(200), "{took:?}");
}

fn nervous() -> Config {
    let breaker = BreakerConfig {
        window: Window::Count { calls: 4 },
        calls_min: 4,
        failure_rate: PerMille::percent(50),
        open_wait: Duration::from_secs(5),
        ramp: Duration::ZERO,
        half_open_permits: 1,
        ..BreakerConfig::default()
    };
    Config { breaker, ..config() }
}

#[test]
fn a_service_that_fails_is_left_alone_for_a_while() {
    let bench = Bench::new(nervous());
    let login = || bench.send(request("POST", "/v1/sessions", "{}"));
    bench.line((0..4).map(|_| Act::unknown()));
    for _ in 0..4 {
        assert_eq!(login().status(), 503);
    }
    assert_eq!(bench.seen().len(), 4);
    let refused = login();
    assert_eq!(refused.status(), 503);
    assert!(problem(&refused).contains("recovering"));
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&wait), "{wait}");
    assert!(!refused.headers().contains_key("amarra-outcome"), "nothing was sent");
    assert!(bench.seen().is_empty());
    assert_eq!(bench.send(request("GET", "/v1/products", "")).status(), 200, "others are well");
    bench.wait(Duration::from_secs(6));
    assert_eq!(login().status(), 200);
    let breaker = bench.guard("users").breaker().unwrap().snapshot();
    assert_eq!(breaker.state, State::Closed);
}

#[test]
fn refusals_of_requests_say_nothing_against_a_service() {
    let bench = Bench::new(nervous());
    for status in [400, 401, 403, 404, 409, 422, 429, 429, 429, 429] {
        bench.line([Act::status(status)]);
        assert_eq!(bench.send(request("POST", "/v1/sessions", "{}")).status(), status);
    }
    assert_eq!(bench.send(request("POST", "/v1/sessions", "{}")).status(), 200);
}

#[test]
fn a_storm_of_failures_is_not_multiplied() {
    let bench = Bench::new(config());
    bench.line((0..500).map(|_| Act::unknown()));
    for _ in 0..100 {
        bench.send(request("GET", "/v1/products", ""));
    }
    let sent = bench.seen().len();
    assert!(sent <= 130, "{sent} tries for 100 requests");
}

#[test]
fn no_request_reaches_a_service_past_its_own_guards() {
    let bench = Bench::new(config());
    let services: std::collections::BTreeSet<_> =
        amarra_shop::gateway::ROUTES.iter().map(|route| route.service).collect();
    let guards = bench.gateway.guards();
    let names: Vec<_> = guards.iter().map(|guard| guard.name().to_owned()).collect();
    assert_eq!(names, services.iter().copied().collect::<Vec<_>>());
    let users = bench.guard("users");
    let breaker = users.breaker().unwrap();
    breaker.set_mode(amarra_core::Monotonic::default(), Mode::ForcedOpen);
    let login = || request("POST", "/v1/sessions", "{}");
    assert_eq!(bench.send(login()).status(), 503);
    assert!(bench.harness.block_on(bench.gateway.fetch_keys()).is_err());
    assert!(bench.seen().is_empty());
    assert_eq!((users.tries(), users.ended(Ending::BreakerOpen)), (0, 2));
    assert_eq!(bench.send(request("GET", "/v1/products", "")).status(), 200, "the others are well");
    breaker.set_mode(amarra_core::Monotonic::default(), Mode::Automatic);
    bench.line([Act::not_sent()]);
    assert_eq!(bench.send(login()).status(), 200);
    let seen = bench.seen().len();
    let tries: u64 = bench.gateway.guards().iter().map(|guard| guard.tries()).sum();
    assert_eq!(tries, u64::try_from(seen).unwrap(), "each try went through the guards");
}
