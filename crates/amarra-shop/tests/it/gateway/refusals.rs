//! Bad requests: each has its status and problem document, none is a 500, none reaches a service.

use bytes::Bytes;
use http::Request;
use proptest::prelude::*;

use super::bench::{Bench, config, order, problem, request, set};

fn check(bench: &Bench, asked: Request<Bytes>, status: u16, detail: &str) {
    let what = format!("{} {}", asked.method(), asked.uri());
    let response = bench.send(asked);
    assert_eq!(response.status(), status, "{what}");
    let got = problem(&response);
    assert!(got.contains(detail), "{what}: {got:?} lacks {detail:?}");
    assert!(bench.seen().is_empty(), "{what} reached a service");
}

#[test]
fn unknown_paths_and_verbs() {
    let bench = Bench::new(config());
    for path in
        ["/", "/v1", "/v1/nothing", "/v1/orders/7", "/v1/products/lower", "/v1/me/", "/V1/me"]
    {
        check(&bench, request("GET", path, ""), 404, "not found");
    }
    check(&bench, request("GET", "/v1/sessions", ""), 405, "use POST, DELETE");
    check(&bench, request("BREW", "/v1/me", ""), 405, "use GET");
    let response = bench.send(request("PATCH", "/v1/orders", ""));
    assert_eq!(response.headers()["allow"], "POST, GET");
    let long = format!("/v1/products?after={}", "A".repeat(3_000));
    check(&bench, request("GET", &long, ""), 414, "too long");
}

#[test]
fn bodies_that_are_too_large_or_no_json() {
    let bench = Bench::new(config());
    let large = "x".repeat(16_385);
    check(&bench, request("POST", "/v1/sessions", &large), 413, "16384");
    check(&bench, request("GET", "/v1/products", "{}"), 413, "0 bytes");
    let mut form = request("POST", "/v1/sessions", "a=b");
    set(&mut form, "content-type", "application/x-www-form-urlencoded");
    check(&bench, form, 415, "application/json");
    let mut untyped = request("POST", "/v1/sessions", "{}");
    untyped.headers_mut().remove("content-type");
    check(&bench, untyped, 415, "application/json");
    let mut charset = request("POST", "/v1/sessions", "{}");
    set(&mut charset, "content-type", "application/json; charset=utf-8");
    assert_eq!(bench.send(charset).status(), 200);
    assert!(bench.gateway.body_bytes_max() >= 16_384);
}

#[test]
fn idempotency_keys_that_are_missing_or_no_keys() {
    let bench = Bench::new(config());
    let token = bench.token(&[]);
    let mut keyless = order(&token);
    keyless.headers_mut().remove("idempotency-key");
    check(&bench, keyless, 400, "Idempotency-Key");
    for bad in ["", "a b", &"k".repeat(129), "k\u{e9}"] {
        let mut asked = order(&token);
        let value = http::HeaderValue::from_bytes(bad.as_bytes()).unwrap();
        asked.headers_mut().insert("idempotency-key", value);
        check(&bench, asked, 400, "Idempotency-Key");
    }
    let mut twice = order(&token);
    twice.headers_mut().append("idempotency-key", "k-2".parse().unwrap());
    check(&bench, twice, 400, "Idempotency-Key");
}

#[test]
fn deadlines_that_are_none() {
    let bench = Bench::new(config());
    for bad in ["soon", "-1;hops=1", "5", "1;hops=x", &"9".repeat(40)] {
        let mut asked = request("GET", "/v1/products", "");
        set(&mut asked, "amarra-deadline", bad);
        check(&bench, asked, 400, "deadline");
    }
    // A client that asks for no hops at all is not taken at its word, and it is no error of ours.
    let mut hopless = request("GET", "/v1/products", "");
    set(&mut hopless, "amarra-deadline", "1000;hops=0");
    assert_eq!(bench.send(hopless).status(), 200);
    bench.seen();
    let mut over = request("GET", "/v1/products", "");
    set(&mut over, "amarra-deadline", "0;hops=3");
    check(&bench, over, 503, "no time left");
}

#[test]
fn a_refusal_repeats_a_bounded_part_of_the_path() {
    let bench = Bench::new(config());
    let response = bench.send(request("GET", &format!("/{}", "a".repeat(1_500)), ""));
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body["instance"].as_str().unwrap().len(), 256);
}

fn path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("v1".to_owned()),
        Just("orders".to_owned()),
        Just("users".to_owned()),
        Just("sessions".to_owned()),
        Just("products".to_owned()),
        Just(super::bench::ID.to_owned()),
        "[A-Za-z0-9%.~{}-]{0,12}".prop_map(|s| s.replace('%', "%25").replace(['{', '}'], "")),
    ];
    proptest::collection::vec(piece, 0..5).prop_map(|pieces| format!("/{}", pieces.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever comes in, what goes out is an answer of a service or a problem that is not ours.
    #[test]
    fn gwy_2_no_request_is_answered_with_a_500(
        method in "(GET|POST|PUT|DELETE|HEAD|OPTIONS|[A-Z]{1,8})",
        path in path(),
        query in "[a-z=&0-9%]{0,20}",
        names in proptest::collection::vec(0_usize..5, 0..4),
        values in proptest::collection::vec(proptest::collection::vec(32_u8..=126, 0..40), 4),
        body in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let bench = Bench::new(config());
        let uri = format!("{path}?{}", query.replace('%', "%25"));
        let Ok(uri) = uri.parse::<http::Uri>() else { return Ok(()) };
        let mut asked = Request::new(Bytes::from(body));
        *asked.method_mut() = method.parse().unwrap();
        *asked.uri_mut() = uri;
        let known =
            ["authorization", "content-type", "idempotency-key", "amarra-deadline", "traceparent"];
        for (name, value) in names.iter().zip(&values) {
            let value = http::HeaderValue::from_bytes(value).unwrap();
            asked.headers_mut().append(known[*name], value);
        }
        let response = bench.send(asked);
        if bench.seen().is_empty() {
            prop_assert!(response.status().is_client_error() || response.status() == 503);
            problem(&response);
        } else {
            prop_assert_eq!(response.status(), 200);
        }
    }
}
