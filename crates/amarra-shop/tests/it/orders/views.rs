//! The views of Orders: folded in any order of the topics, read by their owner only.

use std::time::Duration;

use amarra_core::Envelope;
use amarra_shop::contract::api::{ApiError, Role};
use amarra_shop::contract::inventory::CompensationCause;
use amarra_shop::contract::orders::{EndReason, OrderStatus as S};
use amarra_shop::contract::topics;
use amarra_shop::orders::Config;

use super::bench::{Bench, caller, config, customer, foreign, incoming};
use super::play;
use super::saga::{action, bring, cancel, compensation};

/// Returns the order events published since the last look.
fn news(bench: &Bench) -> Vec<Envelope> {
    let fresh = bench.fresh();
    let of_orders = fresh.into_iter().filter(|m| m.topic.as_str() == topics::ORDERS);
    of_orders.map(|m| m.envelope).collect()
}

fn show(bench: &Bench, envelopes: &[Envelope]) {
    for envelope in envelopes {
        bench.deliver(&bench.projection(), envelope).unwrap();
    }
}

/// Lets the projection see every event of orders, again for those it has seen.
pub(crate) fn project_all(bench: &Bench) {
    let mut rows: Vec<_> = bench.db.inspect(|db| {
        let of_orders = db.outbox().filter(|row| row.message.topic.as_str() == topics::ORDERS);
        of_orders.map(|row| (row.seq, row.message.envelope.clone())).collect()
    });
    rows.sort_by_key(|(seq, _)| *seq);
    show(bench, &rows.into_iter().map(|(_, envelope)| envelope).collect::<Vec<_>>());
}

#[test]
fn a_view_follows_the_events_of_its_order() {
    let bench = Bench::new();
    let id = bench.place_with("k");
    show(&bench, &news(&bench));
    let get = || bench.run(bench.orders.get(&customer(), id, None)).unwrap();
    let view = get();
    assert_eq!((view.status, view.version, view.total.minor), (S::Pending, 1, 600));
    assert_eq!(view.lines.len(), 2);
    let steps: [(Envelope, S); 3] = [
        (foreign(&bench.env, id, &play::reserved(id, &action(id, "reserve"))), S::Reserved),
        (foreign(&bench.env, id, &play::authorized(id, &action(id, "authorize"))), S::Committing),
        (foreign(&bench.env, id, &play::committed(id, &action(id, "commit"))), S::Capturing),
    ];
    for (envelope, status) in steps {
        show(&bench, &[envelope]);
        assert_eq!((get().status, get().version), (status, 1));
    }
    bring(&bench, id, S::Capturing);
    cancel(&bench, id);
    show(&bench, &news(&bench));
    assert!(get().cancel_requested);
    assert_eq!(get().status, S::Capturing);
    bench.say(id, &play::captured(id, &action(id, "capture"))).unwrap();
    let stock = format!("{id}/refund:restock:action");
    bench.say(id, &play::refunded(id, &format!("{id}/refund:refund:action"))).unwrap();
    bench.say(id, &play::returned(id, CompensationCause::Restock, &stock)).unwrap();
    show(&bench, &news(&bench));
    assert_eq!((get().status, get().cancel_requested), (S::Refunded, false));
}

#[test]
fn what_is_being_undone_shows_as_such() {
    for undoing in 0..3 {
        let bench = Bench::new();
        let id = bench.place_with("k");
        show(&bench, &news(&bench));
        let (env, back) = (&bench.env, compensation(id, "reserve"));
        let envelope = match undoing {
            0 => foreign(env, id, &play::declined(id, &action(id, "authorize"))),
            1 => foreign(env, id, &play::voided(id, &compensation(id, "authorize"))),
            _ => foreign(env, id, &play::returned(id, CompensationCause::OrderCancelled, &back)),
        };
        show(&bench, &[envelope]);
        let view = bench.run(bench.orders.get(&customer(), id, None)).unwrap();
        assert_eq!(view.status, S::Compensating);
    }
    // A shortage undoes nothing: the rejection follows at once.
    let bench = Bench::new();
    let id = bench.place_with("k");
    show(&bench, &news(&bench));
    let short = play::returned(id, CompensationCause::Shortage, &action(id, "reserve"));
    show(&bench, &[foreign(&bench.env, id, &short)]);
    let view = bench.run(bench.orders.get(&customer(), id, None)).unwrap();
    assert_eq!(view.status, S::Pending);
}

#[test]
fn closing_events_lock_their_buyer_first() {
    let bench = Bench::new();
    let id = bench.place_with("k");
    let created = news(&bench);
    let touched = |envelope: &Envelope| bench.projection().touches(&incoming(envelope));
    assert!(touched(&created[0]).is_empty());
    bring(&bench, id, S::Capturing);
    bench.say(id, &play::captured(id, &action(id, "capture"))).unwrap();
    let buyer = format!("buyer/{}", customer().principal.user_id);
    let names: Vec<_> = touched(&news(&bench)[0]).iter().map(ToString::to_string).collect();
    assert_eq!(names, [buyer]);
}

#[test]
fn a_timeline_is_bounded() {
    let bench = Bench::with(Config { timeline_max: 2, ..config() });
    let id = bench.place_with("k");
    show(&bench, &news(&bench));
    for _ in 0..3 {
        show(&bench, &[foreign(&bench.env, id, &play::reserved(id, &action(id, "reserve")))]);
    }
    assert_eq!(bench.run(bench.orders.timeline(&customer(), id)).unwrap().len(), 2);
}

#[test]
fn each_event_of_an_order_has_its_state() {
    let bench = Bench::new();
    let id = bench.place_with("k");
    let created = news(&bench);
    bring_with_news(&bench, id, &created);
    let get = || bench.run(bench.orders.get(&customer(), id, None)).unwrap().status;
    assert_eq!(get(), S::Confirmed);
    let staff = caller(9, &[Role::Support]);
    bench.run(bench.orders.ship(&staff, id, "T")).unwrap();
    show(&bench, &news(&bench));
    assert_eq!(get(), S::Fulfilling);
    bench.run(bench.orders.deliver(&staff, id)).unwrap();
    show(&bench, &news(&bench));
    assert_eq!(get(), S::Completed);
}

fn bring_with_news(bench: &Bench, id: amarra_shop::contract::ids::OrderId, created: &[Envelope]) {
    show(bench, created);
    bring(bench, id, S::Capturing);
    bench.say(id, &play::captured(id, &action(id, "capture"))).unwrap();
    show(bench, &news(bench));
}

#[test]
fn a_cancelled_confirmed_order_shows_as_refunding() {
    let bench = Bench::new();
    let id = bench.place_with("k");
    let created = news(&bench);
    bring_with_news(&bench, id, &created);
    cancel(&bench, id);
    show(&bench, &news(&bench));
    let view = bench.run(bench.orders.get(&customer(), id, None)).unwrap();
    assert_eq!((view.status, view.cancel_requested), (S::Refunding, false));
}

#[test]
fn an_ended_order_shows_why() {
    let bench = Bench::new();
    let id = bench.place_with("k");
    show(&bench, &news(&bench));
    cancel(&bench, id);
    let back = play::returned(id, CompensationCause::OrderCancelled, &compensation(id, "reserve"));
    bench.say(id, &back).unwrap();
    show(&bench, &news(&bench));
    let view = bench.run(bench.orders.get(&customer(), id, None)).unwrap();
    assert_eq!((view.status, view.end_reason), (S::Cancelled, Some(EndReason::Cancelled)));
    assert_eq!(view.version, bench.order(id).published);
}

#[test]
fn an_older_event_never_moves_a_view_back() {
    let bench = Bench::new();
    let id = bench.place_with("k");
    let created = news(&bench);
    bring_with_news(&bench, id, &created);
    show(&bench, &created);
    // Nor do the other topics when they are late.
    show(&bench, &[foreign(&bench.env, id, &play::reserved(id, &action(id, "reserve")))]);
    let view = bench.run(bench.orders.get(&customer(), id, None)).unwrap();
    assert_eq!(view.status, S::Confirmed);
}

#[test]
fn the_other_topics_may_come_first_and_in_any_order() {
    let bench = Bench::new();
    let id = bench.place_with("k");
    let created = news(&bench);
    show(&bench, &[foreign(&bench.env, id, &play::authorized(id, &action(id, "authorize")))]);
    show(&bench, &[foreign(&bench.env, id, &play::reserved(id, &action(id, "reserve")))]);
    let none = bench.run(bench.orders.get(&customer(), id, None));
    assert_eq!(none, Err(ApiError::NotFound));
    show(&bench, &created);
    let view = bench.run(bench.orders.get(&customer(), id, None)).unwrap();
    assert_eq!(view.status, S::Committing);
}

#[test]
fn an_order_is_seen_by_its_owner_and_support_only() {
    let bench = Bench::new();
    let id = bench.place_with("k");
    show(&bench, &news(&bench));
    let stranger = caller(9, &[Role::Customer, Role::InventoryAdmin]);
    for who in [customer(), caller(9, &[Role::Support])] {
        assert!(bench.run(bench.orders.get(&who, id, None)).is_ok());
        assert!(bench.run(bench.orders.timeline(&who, id)).is_ok());
    }
    assert_eq!(bench.run(bench.orders.get(&stranger, id, None)), Err(ApiError::NotFound));
    // Waiting for a version tells a stranger nothing either.
    assert_eq!(bench.run(bench.orders.get(&stranger, id, Some(9))), Err(ApiError::NotFound));
    assert_eq!(bench.run(bench.orders.timeline(&stranger, id)), Err(ApiError::NotFound));
}

#[test]
fn a_reader_sees_its_own_write_or_is_told_to_ask_again() {
    let bench = Bench::with(Config { visible_wait: Duration::from_secs(1), ..config() });
    let id = bench.place_with("k");
    let created = news(&bench);
    let before = bench.env.monotonic();
    let early = bench.run(bench.orders.get(&customer(), id, Some(1)));
    assert!(matches!(early, Err(ApiError::Conflict(_))), "{early:?}");
    assert_eq!(bench.env.monotonic().since(before), Duration::from_secs(1));

    // The view catches up while the reader waits.
    let (store, env, projection) = (bench.store.clone(), bench.env.clone(), bench.projection());
    bench.harness.spawn(async move {
        env.sleep(Duration::from_millis(300)).await;
        for envelope in &created {
            super::bench::deliver(store.as_ref(), &env, projection.as_ref(), envelope)
                .await
                .unwrap();
        }
    });
    let view = bench.run(bench.orders.get(&customer(), id, Some(1))).unwrap();
    assert_eq!(view.version, 1);

    let accepted = bench.run(bench.orders.cancel(
        &customer(),
        id,
        amarra_shop::contract::orders::CancelOrder { reason: String::new() },
    ));
    let version = accepted.unwrap().version;
    let behind = bench.run(bench.orders.get(&customer(), id, Some(version)));
    assert!(matches!(behind, Err(ApiError::Conflict(_))), "{behind:?}");
    show(&bench, &news(&bench));
    assert!(bench.run(bench.orders.get(&customer(), id, Some(version))).is_ok());
}

#[test]
fn a_list_pages_through_the_callers_own_orders_newest_first() {
    let bench = Bench::with(Config { page_max: 2, ..config() });
    let mut placed = Vec::new();
    for n in 0..5 {
        bench.harness.clock().advance(Duration::from_secs(1));
        placed.push(bench.place_with(&n.to_string()));
    }
    show(&bench, &news(&bench));
    placed.reverse();
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = bench.run(bench.orders.list(&customer(), after.as_deref(), 50)).unwrap();
        assert!(page.orders.len() <= 2, "more than page_max");
        found.extend(page.orders.iter().map(|o| o.order_id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, placed);
    let stranger = caller(9, &[Role::Support]);
    let theirs = bench.run(bench.orders.list(&stranger, None, 50)).unwrap();
    assert!(theirs.orders.is_empty());
    for bad in ["", "x", "../", "0000000000000000000/x"] {
        let refused = bench.run(bench.orders.list(&customer(), Some(bad), 5));
        assert!(matches!(refused, Err(ApiError::BadRequest(_))), "{bad:?}");
    }
    let none = bench.run(bench.orders.list(&customer(), None, 0));
    assert!(matches!(none, Err(ApiError::BadRequest(_))));
}

#[test]
fn a_timeline_tells_who_did_what_in_order_of_delivery() {
    let bench = Bench::new();
    let id = bench.place_with("k");
    show(&bench, &news(&bench));
    show(&bench, &[foreign(&bench.env, id, &play::reserved(id, &action(id, "reserve")))]);
    cancel(&bench, id);
    show(&bench, &news(&bench));
    let timeline = bench.run(bench.orders.timeline(&customer(), id)).unwrap();
    let events: Vec<_> = timeline.iter().map(|e| e.event.as_str()).collect();
    assert_eq!(events, ["OrderCreated", "StockReserved", "OrderCancelRequested"]);
    assert_eq!(timeline[0].actor, format!("user:{}", customer().principal.user_id));
    assert_eq!(timeline[1].actor, "service:other");
}

#[test]
fn unknown_types_pass_and_broken_ones_do_not() {
    let bench = Bench::new();
    let id = bench.place();
    let mut envelope = foreign(&bench.env, id, &play::reserved(id, ""));
    envelope.data = bytes::Bytes::from_static(b"{}");
    for handler in bench.orders.handlers() {
        assert!(bench.deliver(&handler, &envelope).is_err());
        let unknown = Envelope { kind: "SomethingNew".into(), ..envelope.clone() };
        bench.deliver(&handler, &unknown).unwrap();
    }
}
