//! Products and prices: versions guard them, repetitions change nothing.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::Timestamp;
use amarra_shop::contract::catalog::{ChangePrice, CreateProduct};
use amarra_shop::contract::{ApiError, Caller, Money, Role};

use super::bench::{Bench, admin, caller, euro, sku};

#[test]
fn a_product_is_drafted_priced_published_and_discontinued() {
    let bench = Bench::new();
    assert_eq!(bench.create("A").unwrap().version, 1);
    let publish = || bench.run(bench.catalog.publish(&admin(), &sku("A")));
    assert_eq!(publish().unwrap_err().status(), 409, "not without a price");
    assert_eq!(bench.price("A", 250, 1).unwrap().price, Some(euro(250)));
    assert!(publish().unwrap().published);
    let discontinue = || bench.run(bench.catalog.discontinue(&admin(), &sku("A")));
    assert!(!discontinue().unwrap().published);
    assert_eq!(publish().unwrap().version, 5, "and back");
    let kinds: Vec<_> = bench.events().iter().map(|e| e.kind.as_ref().to_owned()).collect();
    let expect = ["PriceChanged", "ProductPublished", "ProductDiscontinued", "ProductPublished"];
    assert_eq!(kinds, expect);
    bench.check();
}

#[test]
fn repetitions_change_and_say_nothing() {
    let bench = Bench::new();
    bench.product("A", 250);
    let events = bench.events().len();
    assert_eq!(bench.create("A").unwrap_err().status(), 409, "it is no draft any more");
    let view = bench.run(bench.catalog.publish(&admin(), &sku("A"))).unwrap();
    assert_eq!((view.version, bench.events().len()), (3, events));
    bench.create("B").unwrap();
    assert_eq!(bench.create("B").unwrap().version, 1);
    assert_eq!(bench.price("B", 10, 1).unwrap().version, 2);
    assert_eq!(bench.price("B", 10, 1).unwrap().version, 2, "the retry of the same change");
    assert_eq!(bench.price("B", 11, 1).unwrap_err().status(), 409, "another one on an old version");
    bench.check();
}

#[test]
fn of_two_price_changes_on_one_version_one_wins() {
    let bench = Bench::new();
    bench.product("A", 250);
    let change = |minor| ChangePrice { price: euro(minor), expected_version: 3 };
    let (by, id) = (admin(), sku("A"));
    let (a, b) = bench.run(futures_util::future::join(
        bench.catalog.change_price(&by, &id, change(300)),
        bench.catalog.change_price(&by, &id, change(400)),
    ));
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    let lost = a.err().or(b.err()).unwrap();
    assert_eq!(lost, ApiError::Conflict("the product has version 4 now".into()));
    bench.check();
}

#[test]
fn impossible_prices_and_names_are_refused() {
    let bench = Bench::new();
    bench.create("A").unwrap();
    for minor in [0, -1, i64::MIN, i64::MAX] {
        assert_eq!(bench.price("A", minor, 1).unwrap_err().status(), 422, "{minor}");
    }
    let dollars = Money::new(5, "USD".parse().unwrap());
    let change = ChangePrice { price: dollars, expected_version: 1 };
    let refused = bench.run(bench.catalog.change_price(&admin(), &sku("A"), change));
    assert_eq!(refused.unwrap_err().status(), 422);
    let unnamed = CreateProduct { sku: sku("B"), name: String::new() };
    assert_eq!(bench.run(bench.catalog.create(&admin(), unnamed)).unwrap_err().status(), 422);
    assert_eq!(bench.price("C", 5, 1).unwrap_err(), ApiError::NotFound);
    assert!(bench.events().is_empty());
}

#[test]
fn one_key_gives_one_answer_whatever_happened_since() {
    let bench = Bench::new();
    bench.product("A", 250);
    let keyed = Caller { idempotency_key: Some(Arc::from("k-1")), ..admin() };
    let change = |minor| {
        let change = ChangePrice { price: euro(minor), expected_version: 3 };
        bench.run(bench.catalog.change_price(&keyed, &sku("A"), change))
    };
    let first = change(300).unwrap();
    bench.price("A", 400, 4).unwrap();
    assert_eq!(change(300).unwrap(), first, "the answer from before");
    assert_eq!(change(301).unwrap_err().status(), 422, "the key is another request's");
    bench.check();
}

#[test]
fn only_who_keeps_the_catalog_changes_it() {
    let bench = Bench::new();
    bench.product("A", 250);
    let others = [
        vec![],
        vec![Role::Customer, Role::Support, Role::Auditor],
        vec![Role::InventoryAdmin, Role::PaymentsAdmin],
    ];
    for roles in others {
        let by = caller(&roles);
        let create = CreateProduct { sku: sku("B"), name: "b".into() };
        let change = ChangePrice { price: euro(1), expected_version: 3 };
        let id = sku("A");
        let refused = [
            bench.run(bench.catalog.create(&by, create)).map(drop),
            bench.run(bench.catalog.publish(&by, &id)).map(drop),
            bench.run(bench.catalog.discontinue(&by, &id)).map(drop),
            bench.run(bench.catalog.change_price(&by, &id, change)).map(drop),
            bench.run(bench.catalog.price_at(&by, &id, Timestamp::EPOCH)).map(drop),
        ];
        assert!(refused.iter().all(|r| *r == Err(ApiError::Forbidden)), "{roles:?} {refused:?}");
    }
    let by = caller(&[Role::Admin]);
    assert!(bench.run(bench.catalog.discontinue(&by, &sku("A"))).is_ok());
}

#[test]
fn the_price_of_the_past_is_remembered() {
    let bench = Bench::new();
    bench.product("A", 250);
    let then = bench.harness.environment("now").now();
    bench.wait(Duration::from_secs(10));
    bench.price("A", 300, 3).unwrap();
    let at = |time| bench.run(bench.catalog.price_at(&admin(), &sku("A"), time));
    assert_eq!(at(then), Ok(euro(250)));
    assert_eq!(at(then.plus(Duration::from_secs(10))), Ok(euro(300)));
    assert_eq!(at(then.minus(Duration::from_secs(10))), Err(ApiError::NotFound));
}
