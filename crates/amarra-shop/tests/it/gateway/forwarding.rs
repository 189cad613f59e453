//! What a service is given, and what of its answer reaches the client.

use amarra_core::TraceParent;
use bytes::Bytes;
use http::Response;

use super::bench::{Act, Bench, ID, config, order, problem, request, set};

#[test]
fn gwy_4_a_service_sees_the_headers_on_the_list_and_no_others() {
    let bench = Bench::new(config());
    let token = bench.token(&[]);
    let mut asked = order(&token);
    for (name, value) in [
        ("cookie", "session=1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-user-id", "root"),
        ("host", "evil.example"),
        ("connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("provider-signature", "t=1,v1=0"),
    ] {
        set(&mut asked, name, value);
    }
    assert_eq!(bench.send(asked).status(), 200);
    let (service, seen) = bench.seen().remove(0);
    assert_eq!(service, "orders");
    let mut names: Vec<_> = seen.headers().keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let list =
        ["amarra-deadline", "authorization", "content-type", "idempotency-key", "traceparent"];
    assert_eq!(names, list);
    assert_eq!(seen.headers()["authorization"], *token);
    assert_eq!(seen.headers()["idempotency-key"], "k-1");
    assert_eq!(seen.body(), &Bytes::from_static(b"{}"));
}

#[test]
fn a_public_route_has_no_use_for_a_token_and_a_webhook_keeps_its_signature() {
    let bench = Bench::new(config());
    let mut browse = request("GET", "/v1/products", "");
    set(&mut browse, "authorization", &bench.token(&[]));
    set(&mut browse, "idempotency-key", "not one");
    bench.send(browse);
    let mut webhook = request("POST", "/v1/webhooks/provider", "{}");
    set(&mut webhook, "provider-signature", "t=1,v1=0");
    bench.send(webhook);
    let seen = bench.seen();
    assert!(!seen[0].1.headers().contains_key("authorization"));
    assert!(!seen[0].1.headers().contains_key("idempotency-key"));
    assert_eq!(seen[1].0, "payments");
    assert_eq!(seen[1].1.headers()["provider-signature"], "t=1,v1=0");
}

#[test]
fn path_and_query_go_on_as_they_came() {
    let bench = Bench::new(config());
    let target = format!("/v1/orders/{ID}?min_version=4&x=%2F..%2f");
    let mut asked = request("GET", &target, "");
    set(&mut asked, "authorization", &bench.token(&[]));
    bench.send(asked);
    assert_eq!(bench.seen()[0].1.uri().to_string(), target);
}

#[test]
fn a_trace_goes_on_and_a_malformed_one_starts_anew() {
    let bench = Bench::new(config());
    let trace_of = |given: Option<&str>| -> TraceParent {
        let mut asked = request("GET", "/v1/products", "");
        if let Some(given) = given {
            set(&mut asked, "traceparent", given);
        }
        assert_eq!(bench.send(asked).status(), 200);
        bench.seen()[0].1.headers()["traceparent"].to_str().unwrap().parse().unwrap()
    };
    let given = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";
    let client: TraceParent = given.parse().unwrap();
    let child = trace_of(Some(given));
    assert_eq!(child.trace_id(), client.trace_id());
    assert_ne!(child, client, "a span of its own");
    let fresh = [trace_of(None), trace_of(Some("00-xyz")), trace_of(Some("junk"))];
    assert_ne!(fresh[0].trace_id(), fresh[1].trace_id());
    assert_ne!(fresh[1].trace_id(), fresh[2].trace_id());
}

#[test]
fn a_deadline_goes_on_and_a_client_may_only_shorten_it() {
    let bench = Bench::new(config());
    let given_on = |given: Option<&str>| {
        let mut asked = request("GET", "/v1/products", "");
        if let Some(given) = given {
            set(&mut asked, "amarra-deadline", given);
        }
        bench.send(asked);
        bench.seen()[0].1.headers()["amarra-deadline"].to_str().unwrap().to_owned()
    };
    assert_eq!(given_on(None), "3000;hops=15", "one try of three seconds");
    assert_eq!(given_on(Some("500;hops=200")), "500;hops=15");
    assert_eq!(given_on(Some("3600000;hops=1")), "3000;hops=15");
}

#[test]
fn the_client_sees_the_headers_on_the_list_and_the_safe_ones() {
    let bench = Bench::new(config());
    let mut answer = Response::new(Bytes::from_static(b"{\"order\":1}"));
    *answer.status_mut() = http::StatusCode::CREATED;
    for (name, value) in [
        ("content-type", "application/json"),
        ("location", "/v1/orders/1"),
        ("set-cookie", "a=b"),
        ("server", "hyper/1"),
        ("x-internal", "10.0.0.3"),
        ("cache-control", "public"),
    ] {
        answer.headers_mut().insert(name, value.parse().unwrap());
    }
    bench.line([Act::Answer(answer)]);
    let got = bench.send(order(&bench.token(&[])));
    assert_eq!(got.status(), 201);
    assert_eq!(got.body(), &Bytes::from_static(b"{\"order\":1}"));
    let mut headers: Vec<_> = got
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    headers.sort_unstable();
    let expect = [
        ("cache-control", "no-store"),
        ("content-type", "application/json"),
        ("location", "/v1/orders/1"),
        ("x-content-type-options", "nosniff"),
    ];
    assert_eq!(headers, expect);
}

#[test]
fn a_services_refusal_passes_and_a_strangers_words_do_not() {
    let bench = Bench::new(config());
    let refusal = amarra_shop::problem::problem(
        &amarra_shop::contract::ApiError::Conflict("the order is shipped".into()),
        "/v1/orders",
    );
    bench.line([Act::Answer(refusal)]);
    let got = bench.send(order(&bench.token(&[])));
    assert_eq!((got.status().as_u16(), problem(&got).as_str()), (409, "the order is shipped"));

    for status in [400, 404, 500, 502] {
        let mut page = Response::new(Bytes::from_static(b"<h1>panicked at src/secret.rs</h1>"));
        *page.status_mut() = status.try_into().unwrap();
        page.headers_mut().insert("content-type", "text/html".parse().unwrap());
        bench.line([Act::Answer(page)]);
        let mut login = request("POST", "/v1/sessions", "{}");
        set(&mut login, "content-type", "application/json");
        let got = bench.send(login);
        assert_eq!(got.status(), status);
        assert!(!problem(&got).contains("secret"));
    }
}
