//! The API of Orders: who may do what, and what is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use amarra_memory::{Effect, Faults, Hooks, Operation, Site, Verdict};
use amarra_shop::contract::api::{ApiError, Role};
use amarra_shop::contract::catalog::Quote;
use amarra_shop::contract::money::{Currency, Money};
use amarra_shop::contract::orders::{CancelOrder, OrderStatus as S, PlaceOrder};
use amarra_shop::orders::{Config, Orders};
use amarra_store::Store;

use super::bench::{Bench, caller, config, customer, line, user, with_key};
use super::saga::{bring, brought_to};

fn cancel_order() -> CancelOrder {
    CancelOrder { reason: "changed my mind".to_owned() }
}

#[test]
fn one_key_places_one_order_and_answers_the_same_for_ever() {
    let bench = Bench::new();
    let request = bench.request(&bench.quote(vec![line("A", 250, 2)]));
    let place = || bench.run(bench.orders.place(&with_key("k"), request.clone()));
    let first = place().unwrap();
    assert_eq!(bench.kinds(), ["OrderCreated"]);
    bring(&bench, first.order_id, S::Reserved);
    // Even when the quote has expired meanwhile.
    bench.harness.clock().advance(Duration::from_secs(7_200));
    assert_eq!(place().unwrap(), first);
    assert_eq!(bench.kinds(), Vec::<String>::new());
    assert_eq!(bench.db.inspect(|db| db.aggregates("order").count()), 1);
}

/// Loses the answer of the first commit.
#[derive(Debug, Default)]
struct LostAnswer(AtomicBool);

impl Faults for LostAnswer {
    fn at(&self, site: &Site<'_>) -> Verdict {
        let first = || !self.0.swap(true, Ordering::SeqCst);
        match site.operation {
            Operation::Commit { .. } if first() => Verdict::of(Effect::LoseReply),
            _ => Verdict::PROCEED,
        }
    }
}

#[test]
fn a_commit_whose_answer_is_lost_places_one_order_all_the_same() {
    let bench = Bench::faulty(config(), Hooks::default().with_faults(Arc::<LostAnswer>::default()));
    let id = bench.place_with("k");
    assert_eq!(bench.kinds(), ["OrderCreated"]);
    assert_eq!(bench.status(id), S::Pending);
    assert_eq!(bench.db.inspect(|db| db.aggregates("order").count()), 1);
}

#[test]
fn a_key_in_use_is_a_conflict() {
    let bench = Bench::new();
    let request = bench.request(&bench.quote(vec![line("A", 250, 2)]));
    let key = amarra_store::IdempotencyKey {
        principal: user(1).to_string().into(),
        route: Orders::PLACE_ROUTE.into(),
        key: "k".into(),
        request_hash: *blake3::hash(&serde_json::to_vec(&request).unwrap()).as_bytes(),
    };
    bench.run(async {
        let mut running = bench.store.begin().await.unwrap();
        running.begin_idempotent(&key).await.unwrap();
        let second = bench.orders.place(&with_key("k"), request.clone()).await;
        assert!(matches!(second, Err(ApiError::Conflict(_))), "{second:?}");
        drop(running);
        bench.orders.place(&with_key("k"), request.clone()).await.unwrap();
    });
}

#[test]
fn a_key_belongs_to_one_request_of_one_user() {
    let bench = Bench::new();
    let request = bench.request(&bench.quote(vec![line("A", 250, 2)]));
    bench.run(bench.orders.place(&with_key("k"), request.clone())).unwrap();
    let other = PlaceOrder { payment_token: "tok_other".to_owned(), ..request };
    let refused = bench.run(bench.orders.place(&with_key("k"), other));
    assert_eq!(refused.unwrap_err().status(), 422);

    let quote = Quote { user_id: user(2), ..bench.quote(vec![line("A", 250, 2)]) };
    let second = amarra_shop::contract::api::Caller {
        idempotency_key: Some("k".into()),
        ..caller(2, &[Role::Customer])
    };
    let request = bench.request(&quote);
    bench.run(bench.orders.place(&second, request)).unwrap();
    assert_eq!(bench.db.inspect(|db| db.aggregates("order").count()), 2);
}

#[test]
fn a_refused_order_does_not_use_its_key_up() {
    let bench = Bench::with(Config { open_orders_max: 1, ..config() });
    let first = bench.place_with("first");
    let request = bench.request(&bench.quote(vec![line("A", 1, 1)]));
    let again = || bench.run(bench.orders.place(&with_key("second"), request.clone()));
    assert_eq!(again().unwrap_err().status(), 429);
    bring(&bench, first, S::Confirmed);
    settle(&bench);
    again().unwrap();
}

#[test]
fn an_idempotency_key_is_required_and_bounded() {
    let bench = Bench::new();
    let request = bench.request(&bench.quote(vec![line("A", 250, 2)]));
    let long = "k".repeat(129);
    for caller in [customer(), with_key(""), with_key(&long)] {
        let refused = bench.run(bench.orders.place(&caller, request.clone()));
        assert!(matches!(refused, Err(ApiError::BadRequest(_))), "{refused:?}");
    }
}

#[test]
fn an_order_that_cannot_be_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    let good = || bench.quote(vec![line("A", 250, 2), line("B", 100, 1)]);
    let check = |what: &str, change: &dyn Fn(&mut Quote)| {
        let mut quote = good();
        change(&mut quote);
        let refused = bench.run(bench.orders.place(&with_key(what), bench.request(&quote)));
        assert_eq!(refused.unwrap_err().status(), 422, "{what}");
    };
    check("foreign", &|q| q.user_id = user(2));
    check("expired", &|q| q.expires_at = bench.env.now());
    check("wrong total", &|q| q.total.minor += 1);
    check("no lines", &|q| (q.lines, q.total.minor) = (Vec::new(), 0));
    check("no quantity", &|q| (q.lines[0].qty, q.total.minor) = (0, 100));
    check("free", &|q| (q.lines[0].unit_price.minor, q.total.minor) = (0, 100));
    check("negative", &|q| (q.lines[0].unit_price.minor, q.total.minor) = (-10, 80));
    check("too many pieces", &|q| (q.lines[0].qty, q.total.minor) = (1_001, 250_350));
    check("mixed currencies", &|q| q.lines[1].unit_price.currency = "USD".parse().unwrap());
    check("overflow", &|q| {
        (q.lines[0].unit_price.minor, q.total.minor) = (i64::MAX, i64::MAX);
    });
    check("too many lines", &|q| {
        let lines = (0..21).map(|n| line(&format!("S{n}"), 1, 1)).collect();
        (q.lines, q.total) = (lines, Money::new(21, Currency::EUR));
    });
    let mut unsigned = bench.request(&good());
    unsigned.quote.signature = "forged".to_owned();
    let refused = bench.run(bench.orders.place(&with_key("forged"), unsigned));
    assert_eq!(refused.unwrap_err().status(), 422);
    assert_eq!(bench.db.inspect(|db| db.aggregates("order").count()), 0);
    assert_eq!(bench.kinds(), Vec::<String>::new());
}

#[test]
fn a_payment_token_is_no_card_number() {
    let bench = Bench::new();
    let good = bench.request(&bench.quote(vec![line("A", 250, 2)]));
    let long = "t".repeat(201);
    let bad = ["4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "", "a b", &long];
    for (n, token) in bad.iter().enumerate() {
        let request = PlaceOrder { payment_token: (*token).to_owned(), ..good.clone() };
        let refused = bench.run(bench.orders.place(&with_key(&n.to_string()), request));
        let refused = refused.unwrap_err();
        assert_eq!(refused.status(), 422, "{token:?}");
        assert!(token.is_empty() || !refused.to_string().contains(token), "token in an error");
    }
}

#[test]
fn a_user_has_so_many_open_orders_and_no_more() {
    let bench = Bench::with(Config { open_orders_max: 2, ..config() });
    let first = bench.place_with("1");
    let second = bench.place_with("2");
    let request = bench.request(&bench.quote(vec![line("A", 1, 1)]));
    let third = |key: &str| bench.run(bench.orders.place(&with_key(key), request.clone()));
    assert!(matches!(third("3"), Err(ApiError::TooMany { .. })));
    // A confirmed order is no longer open, nor one that ended.
    settle(&bench);
    bring(&bench, first, S::Confirmed);
    settle(&bench);
    third("3").unwrap();
    let short = super::play::returned(
        second,
        amarra_shop::contract::inventory::CompensationCause::Shortage,
        &super::saga::action(second, "reserve"),
    );
    bench.say(second, &short).unwrap();
    settle(&bench);
    third("4").unwrap();
    assert!(matches!(third("5"), Err(ApiError::TooMany { .. })));
}

/// Lets the projection see everything that was published so far.
fn settle(bench: &Bench) {
    super::views::project_all(bench);
}

#[test]
fn an_order_is_cancelled_by_its_owner_or_support_only() {
    for (who, expect) in [
        (customer(), Ok(S::Compensating)),
        (caller(9, &[Role::Support]), Ok(S::Compensating)),
        (caller(9, &[Role::Admin]), Ok(S::Compensating)),
        (caller(9, &[Role::Customer]), Err(404)),
        (caller(9, &[Role::CatalogAdmin, Role::InventoryAdmin]), Err(404)),
    ] {
        let bench = Bench::new();
        let id = bench.place();
        let result = bench.run(bench.orders.cancel(&who, id, cancel_order()));
        let result = result.map(|accepted| accepted.status).map_err(|e| e.status());
        assert_eq!(result, expect, "{who:?}");
        assert_eq!(bench.status(id) == S::Pending, expect.is_err());
    }
    let bench = Bench::new();
    let none = amarra_shop::contract::ids::OrderId::from(uuid::Uuid::from_u128(404));
    let missing = bench.run(bench.orders.cancel(&customer(), none, cancel_order()));
    assert_eq!(missing.unwrap_err().status(), 404);
}

#[test]
fn a_cancellation_is_idempotent_until_it_is_too_late() {
    let bench = Bench::new();
    let id = bench.place();
    let cancel = || bench.run(bench.orders.cancel(&customer(), id, cancel_order()));
    let first = cancel().unwrap();
    assert_eq!(bench.kinds().len(), 2);
    assert_eq!(cancel().unwrap(), first);
    assert_eq!(bench.kinds(), Vec::<String>::new());

    let id = brought_to(&Bench::new(), S::Pending);
    let long = CancelOrder { reason: "x".repeat(201) };
    let refused = bench.run(bench.orders.cancel(&customer(), id, long));
    assert!(matches!(refused, Err(ApiError::BadRequest(_))));

    let bench = Bench::new();
    let id = brought_to(&bench, S::Confirmed);
    let stock = caller(9, &[Role::InventoryAdmin]);
    bench.run(bench.orders.ship(&stock, id, "T-1")).unwrap();
    let late = bench.run(bench.orders.cancel(&customer(), id, cancel_order()));
    assert!(matches!(late, Err(ApiError::Conflict(_))), "{late:?}");
    assert_eq!(bench.status(id), S::Fulfilling);
}

#[test]
fn the_staff_ships_and_delivers_in_this_order() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Confirmed);
    let orders: &Orders = &bench.orders;
    let staff = caller(9, &[Role::InventoryAdmin]);
    assert_eq!(bench.run(orders.deliver(&staff, id)).unwrap_err().status(), 409);
    let shipped = bench.run(orders.ship(&staff, id, "T-1")).unwrap();
    assert_eq!(shipped.status, S::Fulfilling);
    let event: amarra_shop::contract::orders::OrderFulfilled = bench.one();
    assert_eq!(event.tracking, "T-1");
    assert_eq!(bench.run(orders.ship(&staff, id, "T-2")).unwrap(), shipped);
    let delivered = bench.run(orders.deliver(&caller(9, &[Role::Support]), id)).unwrap();
    assert_eq!(delivered.status, S::Completed);
    assert_eq!(bench.kinds(), ["OrderCompleted"]);
    assert_eq!(bench.order(id).tracking.as_deref(), Some("T-1"));
}

#[test]
fn nobody_else_ships_or_delivers() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Confirmed);
    for who in [customer(), caller(9, &[Role::CatalogAdmin, Role::PaymentsAdmin])] {
        let ship = bench.run(bench.orders.ship(&who, id, "T-1"));
        assert_eq!(ship, Err(ApiError::Forbidden));
        assert_eq!(bench.run(bench.orders.deliver(&who, id)), Err(ApiError::Forbidden));
    }
    let early = Bench::new();
    let id = brought_to(&early, S::Capturing);
    let staff = caller(9, &[Role::Support]);
    assert_eq!(early.run(early.orders.ship(&staff, id, "T")).unwrap_err().status(), 409);
    let long = "x".repeat(201);
    assert_eq!(early.run(early.orders.ship(&staff, id, &long)).unwrap_err().status(), 400);
}
