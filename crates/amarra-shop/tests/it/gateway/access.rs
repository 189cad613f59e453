//! The matrix of routes and roles, written a second time by hand, and the tokens that are no
//! tokens.

use std::collections::BTreeSet;

use amarra_shop::contract::Role;
use amarra_shop::gateway::ROUTES;

use super::bench::{Bench, ID, config, keys, problem, request, set, user};

use Role::{Admin, Auditor, CatalogAdmin, Customer, InventoryAdmin, PaymentsAdmin, Support};

const ROLES: [Role; 7] =
    [Customer, Support, CatalogAdmin, InventoryAdmin, PaymentsAdmin, Auditor, Admin];

enum Who {
    Everybody,
    AnyUser,
    Only(&'static [Role]),
}

use Who::{AnyUser, Everybody, Only};

const MATRIX: &[(&str, &str, Who)] = &[
    ("POST", "/v1/users", Everybody),
    ("POST", "/v1/users/{id}/verify", Everybody),
    ("GET", "/v1/users/{id}", AnyUser),
    ("PUT", "/v1/users/{id}/roles", Only(&[Admin])),
    ("POST", "/v1/sessions", Everybody),
    ("POST", "/v1/sessions/refresh", Everybody),
    ("DELETE", "/v1/sessions", AnyUser),
    ("GET", "/v1/me", AnyUser),
    ("GET", "/v1/jwks", Everybody),
    ("GET", "/v1/products", Everybody),
    ("GET", "/v1/products/{sku}", Everybody),
    ("POST", "/v1/products", Only(&[CatalogAdmin, Admin])),
    ("POST", "/v1/products/{sku}/publish", Only(&[CatalogAdmin, Admin])),
    ("POST", "/v1/products/{sku}/discontinue", Only(&[CatalogAdmin, Admin])),
    ("PUT", "/v1/products/{sku}/price", Only(&[CatalogAdmin, Admin])),
    ("POST", "/v1/quotes", AnyUser),
    ("POST", "/v1/orders", AnyUser),
    ("GET", "/v1/orders", AnyUser),
    ("GET", "/v1/orders/{id}", AnyUser),
    ("GET", "/v1/orders/{id}/timeline", AnyUser),
    ("POST", "/v1/orders/{id}/cancel", AnyUser),
    ("POST", "/v1/orders/{id}/ship", Only(&[InventoryAdmin, Support, Admin])),
    ("POST", "/v1/orders/{id}/deliver", Only(&[InventoryAdmin, Support, Admin])),
    ("GET", "/v1/stock/{sku}", Only(&[InventoryAdmin, Support, Admin])),
    ("POST", "/v1/stock/{sku}/adjust", Only(&[InventoryAdmin, Admin])),
    ("POST", "/v1/stock/{sku}/receive", Only(&[InventoryAdmin, Admin])),
    ("GET", "/v1/payments/{order}", Only(&[PaymentsAdmin, Support, Admin])),
    ("GET", "/v1/journal", Only(&[PaymentsAdmin, Auditor, Admin])),
    ("POST", "/v1/webhooks/provider", Everybody),
    ("GET", "/v1/notifications/{order}", AnyUser),
    ("GET", "/v1/preferences", AnyUser),
    ("PUT", "/v1/preferences", AnyUser),
];

/// Sends a well-formed request for a row of the matrix.
fn status(bench: &Bench, (method, pattern): (&str, &str), token: Option<&str>) -> u16 {
    let path = pattern.replace("{id}", ID).replace("{order}", ID).replace("{sku}", "A-1");
    let body = if matches!(method, "POST" | "PUT") { "{}" } else { "" };
    let mut asked = request(method, &path, body);
    set(&mut asked, "idempotency-key", "k-1");
    if let Some(token) = token {
        set(&mut asked, "authorization", token);
    }
    let response = bench.send(asked);
    let reached = !bench.seen().is_empty();
    assert_eq!(reached, response.status().is_success(), "{method} {pattern}");
    response.status().as_u16()
}

#[test]
fn every_route_has_a_row_and_every_row_a_route() {
    let table: BTreeSet<_> = ROUTES.iter().map(|r| (r.verb.as_str(), r.pattern)).collect();
    let matrix: BTreeSet<_> = MATRIX.iter().map(|(method, path, _)| (*method, *path)).collect();
    assert_eq!(table, matrix);
    assert_eq!(ROUTES.len(), MATRIX.len());
}

#[test]
fn gwy_1_each_role_reaches_exactly_its_routes() {
    let bench = Bench::new(config());
    for (method, pattern, who) in MATRIX {
        let row = (*method, *pattern);
        let anonymous = if matches!(who, Everybody) { 200 } else { 401 };
        assert_eq!(status(&bench, row, None), anonymous, "{method} {pattern} without a token");
        for role in ROLES {
            let allowed = match who {
                Everybody | AnyUser => true,
                Only(roles) => roles.contains(&role),
            };
            let expect = if allowed { 200 } else { 403 };
            let token = bench.token(&[role]);
            assert_eq!(status(&bench, row, Some(&token)), expect, "{method} {pattern} {role:?}");
        }
        let expect = if matches!(who, Only(_)) { 403 } else { 200 };
        let token = bench.token(&[]);
        assert_eq!(status(&bench, row, Some(&token)), expect, "{method} {pattern} no role");
    }
}

#[test]
fn what_is_no_valid_token_opens_nothing() {
    let bench = Bench::new(config());
    let good = bench.token(&[Admin]);
    let token = good.strip_prefix("Bearer ").unwrap();
    let foreign = bench.token_of(keys(1, None), user(7), &[Admin]);
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.e30.";
    let bad = [
        String::new(),
        "Bearer".into(),
        token.to_owned(),
        format!("Basic {token}"),
        format!("Bearer {token}x"),
        format!("Bearer {token}, Bearer {token}"),
        format!("Bearer {none}"),
        foreign,
    ];
    for text in &bad {
        let mut asked = request("GET", "/v1/me", "");
        set(&mut asked, "authorization", text);
        let response = bench.send(asked);
        assert_eq!(response.status(), 401, "{text}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        problem(&response);
    }
    // One token, not two: which of them counts must not be a matter of who reads them.
    let mut twice = request("GET", "/v1/me", "");
    set(&mut twice, "authorization", &good);
    twice.headers_mut().append("authorization", good.parse().unwrap());
    assert_eq!(bench.send(twice).status(), 401);
    // A token in the query is no token.
    let query = request("GET", &format!("/v1/me?access_token={token}"), "");
    assert_eq!(bench.send(query).status(), 401);
    assert!(bench.seen().iter().all(|(_, request)| request.uri().path() == "/v1/jwks"));
}

#[test]
fn an_expired_and_a_revoked_token_say_so() {
    let bench = Bench::new(config());
    let ask = |token: &str| {
        let mut asked = request("GET", "/v1/me", "");
        set(&mut asked, "authorization", token);
        bench.send(asked)
    };
    let token = bench.token(&[Customer]);
    assert_eq!(ask(&token).status(), 200);
    bench.revocations.revoke_below(user(7), 6);
    assert!(problem(&ask(&token)).contains("revoked"));
    let other = bench.token_of(keys(0, None), user(8), &[Customer]);
    assert_eq!(ask(&other).status(), 200);
    bench.wait(std::time::Duration::from_secs(960));
    let expired = ask(&other);
    assert_eq!(expired.status(), 401);
    assert!(problem(&expired).contains("expired"));
}

#[test]
fn rotated_keys_are_fetched_once_in_a_while() {
    let bench = Bench::new(config());
    let rotated =
        amarra_shop::auth::TokenSigner::new(amarra_shop::auth::TokenConfig::new(keys(1, Some(0))));
    let jwks = serde_json::to_vec(&rotated.unwrap().key_set().to_jwks()).unwrap();
    let mut answer = http::Response::new(bytes::Bytes::from(jwks));
    answer.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let ask = |token: &str| {
        let mut asked = request("GET", "/v1/me", "");
        set(&mut asked, "authorization", token);
        bench.send(asked).status().as_u16()
    };
    let (old, new) = (bench.token(&[]), bench.token_of(keys(1, None), user(7), &[]));
    // Users is away: the known keys stay, and the next try is a while later.
    bench.line([super::bench::Act::status(404)]);
    assert_eq!(ask(&new), 401);
    assert_eq!(ask(&new), 401);
    assert_eq!(bench.seen().len(), 1, "a flood of unknown keys is no flood of requests");
    assert_eq!(ask(&old), 200);
    bench.seen();
    bench.wait(std::time::Duration::from_secs(10));
    bench.line([super::bench::Act::Answer(answer)]);
    assert_eq!(ask(&new), 200);
    assert_eq!(ask(&old), 200, "both are live");
    let paths: Vec<_> = bench.seen().iter().map(|(_, r)| r.uri().path().to_owned()).collect();
    assert_eq!(paths, ["/v1/jwks", "/v1/me", "/v1/me"]);
    assert!(bench.verifier.authenticate(&new).is_ok());
}
