//! What time alone does: every state that a saga drives is left, whatever others do not say.

use std::time::Duration;

use amarra_shop::contract::inventory::{CompensateInventory, CompensationCause};
use amarra_shop::contract::orders::{EndReason, OrderCancelled, OrderStatus as S};
use amarra_shop::contract::payments::{CapturePayment, VoidPayment};
use amarra_shop::orders::Config;

use super::bench::{Bench, config};
use super::play;
use super::saga::{action, brought_to, cancel, compensation};

const SILENCE: Duration = Duration::from_secs(121);

#[test]
fn a_step_without_an_answer_is_undone_like_one_that_took_effect() {
    for (from, first) in [
        (S::Pending, "CompensateInventory"),
        (S::Reserved, "VoidPayment"),
        (S::Committing, "VoidPayment"),
    ] {
        let bench = Bench::new();
        let id = brought_to(&bench, from);
        assert_eq!(bench.pass(Duration::from_secs(60)), 0, "too early");
        assert_eq!(bench.pass(SILENCE), 1);
        assert_eq!(bench.status(id), S::Compensating, "{from:?}");
        assert_eq!(bench.order(id).end_reason, Some(EndReason::Deadline));
        assert_eq!(bench.kinds(), [first], "{from:?}");
        if from != S::Pending {
            bench.say(id, &play::voided(id, &compensation(id, "authorize"))).unwrap();
        }
        let back = compensation(id, "reserve");
        bench.say(id, &play::returned(id, CompensationCause::OrderCancelled, &back)).unwrap();
        assert_eq!(bench.status(id), S::Cancelled);
        let cancelled: OrderCancelled = bench.one();
        assert_eq!(cancelled.reason, EndReason::Deadline);
    }
}

#[test]
fn the_deadline_of_the_order_counts_from_its_placing() {
    let slow = Duration::from_secs(3_000);
    let bench = Bench::with(Config {
        reserve_timeout: slow,
        authorize_timeout: slow,
        commit_timeout: slow,
        ..config()
    });
    let id = bench.place();
    bench.pass(Duration::from_secs(300));
    bench.say(id, &play::reserved(id, &action(id, "reserve"))).unwrap();
    bench.pass(Duration::from_secs(301));
    assert_eq!(bench.status(id), S::Compensating);
    assert_eq!(bench.order(id).end_reason, Some(EndReason::Deadline));
}

#[test]
fn a_capture_without_an_answer_is_asked_for_again_with_the_same_request() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Capturing);
    for round in 0..3 {
        let mut asked = Vec::new();
        for _ in 0..4 {
            bench.pass(Duration::from_secs(31));
            asked.extend(bench.fresh());
        }
        assert!(!asked.is_empty(), "not asked again in round {round}");
        for message in asked {
            let again: CapturePayment =
                amarra_core::Codec::new().decode(&message.envelope).unwrap();
            assert_eq!(again.request, action(id, "capture"));
        }
        assert_eq!(bench.status(id), S::Capturing, "what became of the money has to be known");
    }
    // Far beyond the deadline of the order.
    bench.say(id, &play::captured(id, &action(id, "capture"))).unwrap();
    assert_eq!(bench.status(id), S::Confirmed);
}

#[test]
fn a_compensation_without_an_answer_is_asked_for_again_with_the_same_request() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Reserved);
    cancel(&bench, id);
    let first: VoidPayment = bench.one();
    bench.pass(Duration::from_secs(31));
    bench.pass(Duration::from_secs(31));
    let again: VoidPayment = bench.one();
    assert_eq!(again.request, first.request);
    bench.say(id, &play::voided(id, &again.request)).unwrap();
    let first: CompensateInventory = bench.one();
    bench.pass(Duration::from_secs(31));
    bench.pass(Duration::from_secs(31));
    let again: CompensateInventory = bench.one();
    assert_eq!(again, first);
}

#[test]
fn a_refund_without_an_answer_is_asked_for_again() {
    let bench = Bench::new();
    let id = brought_to(&bench, S::Confirmed);
    cancel(&bench, id);
    bench.fresh();
    bench.pass(Duration::from_secs(31));
    bench.pass(Duration::from_secs(31));
    let mut kinds = bench.kinds();
    kinds.sort();
    assert_eq!(kinds, ["CompensateInventory", "RefundPayment"]);
    assert_eq!(bench.status(id), S::Refunding);
}

#[test]
fn every_state_that_a_saga_drives_has_a_timer() {
    for status in [S::Pending, S::Reserved, S::Committing, S::Capturing] {
        let bench = Bench::new();
        let id = brought_to(&bench, status);
        assert!(bench.has_timer(&id.to_string()), "{status:?} has no timer");
    }
    let bench = Bench::new();
    let id = brought_to(&bench, S::Reserved);
    cancel(&bench, id);
    assert!(bench.has_timer(&id.to_string()), "Compensating has no timer");
    let bench = Bench::new();
    let id = brought_to(&bench, S::Confirmed);
    assert!(!bench.has_timer(&id.to_string()), "a confirmed order waits for the staff alone");
    cancel(&bench, id);
    assert!(bench.has_timer(&format!("{id}/refund")), "Refunding has no timer");
}
