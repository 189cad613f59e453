//! Calls to the provider: lost, late, refused, and in the middle of a crash.

use std::time::Duration;

use amarra_core::{Class, Classify};
use amarra_memory::Effect;
use amarra_shop::payments::PaymentStatus;
use futures_util::FutureExt;
use futures_util::future::{join, join_all};

use super::bench::{Bench, Plan};
use crate::single::block_on;

#[test]
fn success_behind_a_timeout_is_found_by_asking() {
    let b = Bench::new();
    b.script(&[Plan::LoseAnswer]);
    b.authorize("a");
    b.due();
    assert_eq!(b.status(), PaymentStatus::Unknown);
    assert!(b.told().is_empty());
    b.rest();
    b.script(&[Plan::LoseAnswer]);
    b.capture("c");
    b.rest();
    b.script(&[Plan::LoseAnswer]);
    b.refund("r", 500);
    b.rest();
    assert_eq!(b.told(), ["authorized a", "succeeded c", "refunded r"]);
    let asked = ["authorize", "status", "capture", "status", "refund", "status"];
    assert_eq!(b.provider.asked(), asked, "an unknown outcome is asked for, never charged again");
    b.check();
}

#[test]
fn a_lost_request_is_sent_again_after_asking() {
    let b = Bench::new();
    b.script(&[Plan::LoseRequest]);
    b.authorize("a");
    b.rest();
    assert_eq!(b.provider.asked(), ["authorize", "status", "authorize"]);
    assert_eq!(b.told(), ["authorized a"]);
    b.check();
}

#[test]
fn an_unanswered_query_is_repeated_and_nothing_else_is_done() {
    let b = Bench::new();
    b.script(&[
        Plan::LoseAnswer,
        Plan::LoseAnswer,
        Plan::TurnAway,
        Plan::TurnAway,
        Plan::LoseAnswer,
    ]);
    b.authorize("a");
    b.rest();
    let asked = b.provider.asked();
    assert_eq!(asked[0], "authorize");
    assert!(asked.len() >= 5 && asked[1..].iter().all(|name| name == "status"), "{asked:?}");
    assert_eq!(b.told(), ["authorized a"]);
    b.check();
}

#[test]
fn an_outage_is_waited_out_with_growing_pauses() {
    let b = Bench::new();
    b.script(&[Plan::TurnAway; 40]);
    b.authorize("a");
    for _ in 0..20 {
        b.due();
        b.single.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(b.status(), PaymentStatus::Authorizing, "surely not sent is not unknown");
    let during = b.provider.asked().len();
    assert!(during < 20, "{during} calls in 20 seconds");
    assert!(b.payment().unresolved > 3);
    b.script(&[]);
    b.rest();
    assert_eq!(b.told(), ["authorized a"]);
    assert_eq!(b.payment().unresolved, 0);
    b.check();
}

#[test]
fn a_crash_between_call_and_answer_charges_once() {
    let b = Bench::new();
    b.script(&[Plan::LoseAnswer]);
    b.authorize("a");
    block_on(async {
        let claim = b.single.claim(b.due.as_ref(), "dies").await.remove(0);
        assert!(b.due.on_due(&claim).now_or_never().is_none(), "dropped in the middle");
    });
    assert_eq!(b.status(), PaymentStatus::Authorizing);
    b.single.clock.advance(Duration::from_secs(31));
    b.rest();
    assert_eq!(b.told(), ["authorized a"]);
    assert_eq!(b.provider.truth(b.order).authorizations, 1);
    b.check();
}

#[test]
fn a_superseded_claim_makes_no_call() {
    let b = Bench::new();
    b.authorize("a");
    block_on(async {
        let old = b.single.claim(b.due.as_ref(), "slow").await.remove(0);
        b.single.clock.advance(Duration::from_secs(31));
        let new = b.single.claim(b.due.as_ref(), "quick").await.remove(0);
        let error = b.due.on_due(&old).await.unwrap_err();
        assert_eq!(error.class(), Class::Conflict, "{error}");
        assert!(b.provider.asked().is_empty());
        b.due.on_due(&new).await.unwrap();
    });
    assert_eq!(b.told(), ["authorized a"]);
}

#[test]
fn what_a_superseded_claim_heard_is_not_believed() {
    let b = Bench::new();
    b.script(&[Plan::Delay, Plan::AnswerLate]);
    b.authorize("a");
    b.due();
    assert_eq!(b.status(), PaymentStatus::Unknown);
    b.single.clock.advance(Duration::from_secs(1));
    block_on(async {
        let old = b.single.claim(b.due.as_ref(), "slow").await.remove(0);
        let slow = b.due.on_due(&old);
        let meanwhile = async {
            // The slow one has heard that there is nothing. Now there is, and it is given up.
            b.provider.arrive();
            let void = b.voiding("v");
            b.single.deliver(b.handler.as_ref(), &void).await.unwrap();
            b.single.clock.advance(Duration::from_secs(31));
            assert_eq!(b.single.claim(b.due.as_ref(), "quick").await.len(), 1);
        };
        let (slow, ()) = join(slow, meanwhile).await;
        slow.unwrap();
    });
    assert!(b.told().is_empty(), "{:?}", b.told());
    b.single.clock.advance(Duration::from_secs(31));
    b.rest();
    assert_eq!(b.told(), ["failed a voided", "voided v"]);
    assert_eq!(b.provider.truth(b.order).open, 0);
    b.check();
}

#[test]
fn a_command_during_a_call_does_not_lose_its_answer() {
    let b = Bench::new();
    b.script(&[Plan::AnswerLate]);
    b.authorize("a");
    block_on(async {
        let claim = b.single.claim(b.due.as_ref(), "worker").await.remove(0);
        let void = b.voiding("v");
        let meanwhile = b.single.deliver(b.handler.as_ref(), &void);
        let (called, heard) = join(b.due.on_due(&claim), meanwhile).await;
        called.unwrap();
        heard.unwrap();
    });
    b.rest();
    assert_eq!(b.provider.asked(), ["authorize", "void"], "no query: the answer was heard");
    assert_eq!(b.told(), ["failed a voided", "voided v"]);
    assert_eq!(b.provider.truth(b.order).open, 0);
    b.check();
}

#[test]
fn a_void_of_an_unknown_authorization_asks_and_then_voids() {
    let b = Bench::new();
    b.script(&[Plan::LoseAnswer]);
    b.authorize("a");
    b.due();
    b.void("v");
    b.rest();
    assert_eq!(b.provider.asked(), ["authorize", "status", "void"]);
    assert_eq!(b.told(), ["failed a voided", "voided v"]);
    assert_eq!(b.provider.truth(b.order).open, 0);
    b.check();
}

#[test]
fn an_authorization_that_arrives_after_the_void_is_found_and_voided() {
    let b = Bench::new();
    b.script(&[Plan::Delay]);
    b.authorize("a");
    b.due();
    b.void("v");
    b.single.clock.advance(Duration::from_secs(1));
    b.due();
    assert_eq!(b.told(), ["failed a voided", "voided v"]);
    assert_eq!(b.status(), PaymentStatus::Voided);
    b.provider.arrive();
    assert_eq!(b.provider.truth(b.order).open, 500);
    b.rest();
    assert_eq!(b.provider.truth(b.order).open, 0);
    assert_eq!(b.told().len(), 2, "nobody waits for another answer");
    b.check();
}

#[test]
fn looking_for_late_authorizations_comes_to_an_end() {
    let b = Bench::new();
    b.script(&[Plan::LoseRequest]);
    b.authorize("a");
    b.due();
    b.void("v");
    b.rest();
    assert_eq!(b.provider.asked(), ["authorize", "status", "status", "status", "status"]);
    assert_eq!(b.told(), ["failed a voided", "voided v"]);
}

#[test]
fn a_void_that_comes_too_late_hears_of_the_capture() {
    let b = Bench::new();
    b.authorize("a");
    b.due();
    b.script(&[Plan::LoseAnswer]);
    b.capture("c");
    b.due();
    b.void("v");
    b.rest();
    assert_eq!(b.told(), ["authorized a", "succeeded c", "succeeded v"]);
    b.refund("r", 500);
    b.rest();
    assert_eq!(b.status(), PaymentStatus::Refunded);
    b.check();
}

#[test]
fn no_call_reaches_the_provider_past_the_guards() {
    let b = Bench::new();
    let guard = b.payments.guards().remove(0);
    assert_eq!(guard.name(), "payment-provider");
    let now = amarra_core::Monotonic::default();
    guard.breaker().unwrap().set_mode(now, amarra_resilience::breaker::Mode::ForcedOpen);
    b.authorize("a");
    b.due();
    assert!(b.provider.asked().is_empty());
    assert_eq!(guard.tries(), 0);
    assert!(guard.ended(amarra_shop::Ending::BreakerOpen) > 0);
    guard.breaker().unwrap().set_mode(now, amarra_resilience::breaker::Mode::Automatic);
    b.rest();
    assert_eq!(b.told(), ["authorized a"]);
    let asked = u64::try_from(b.provider.asked().len()).unwrap();
    assert_eq!(guard.tries(), asked, "each call went through the guards");
}

#[test]
fn the_breaker_keeps_calls_from_an_ill_provider() {
    let b = Bench::new();
    b.script(&[Plan::TurnAway; 400]);
    let mut orders = Vec::new();
    for _ in 0..60 {
        let message = amarra_shop::contract::payments::AuthorizePayment {
            order_id: b.single.new_order(),
            amount: super::bench::euro(500),
            payment_token: "tok_ok".into(),
            request: "a".into(),
        };
        let topic = amarra_shop::contract::topics::PAYMENTS_COMMANDS;
        let incoming = b.single.message(topic, message.order_id, &message);
        b.hear(&incoming).unwrap();
        orders.push(message.order_id);
    }
    block_on(async {
        let claims = b.single.claim(b.due.as_ref(), "worker").await;
        let results = join_all(claims.iter().map(|claim| b.due.on_due(claim))).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    });
    let asked = b.provider.asked().len();
    assert!(asked < 60, "{asked} calls for 60 payments: the breaker never opened");
    b.script(&[]);
    b.rest();
    assert!(orders.iter().all(|&order| b.provider.truth(order).authorizations == 1));
    assert_eq!(b.told().len(), 60);
}

#[test]
fn an_answer_whose_commit_is_in_doubt_is_taken_note_of_once() {
    for lost in [Effect::LoseReply, Effect::LoseRequest] {
        let b = Bench::new();
        for step in ["a", "c", "r"] {
            match step {
                "a" => b.authorize(step),
                "c" => b.capture(step),
                _ => b.refund(step, 500),
            }
            b.single.commits.next(&[lost]);
            b.due();
            b.single.clock.advance(Duration::from_secs(31));
            b.rest();
        }
        assert_eq!(b.told(), ["authorized a", "succeeded c", "refunded r"]);
        let truth = b.provider.truth(b.order);
        assert_eq!((truth.authorizations, truth.captures, truth.refunded), (1, 1, 500));
        b.check();
    }
}
