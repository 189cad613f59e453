//! Webhooks: before, after and instead of the answer, several at once, and forged ones.

use std::time::Duration;

use amarra_memory::Effect;
use amarra_shop::contract::ApiError;
use amarra_shop::contract::users::Secret;
use amarra_shop::payments::provider_port::{OperationOutcome, WebhookEvent};
use amarra_shop::payments::{PaymentStatus, SignedWebhook, WebhookKey, WebhookReceipt};
use futures_util::future::{join, join_all};

use super::bench::{Bench, Plan, euro};
use crate::single::block_on;

/// Has the provider authorize without an answer, and returns the webhook about it.
fn unanswered(b: &Bench) -> WebhookEvent {
    b.script(&[Plan::LoseAnswer]);
    b.authorize("a");
    b.due();
    assert_eq!(b.status(), PaymentStatus::Unknown);
    b.provider.webhooks().remove(0)
}

#[test]
fn a_webhook_instead_of_the_answer_settles_the_payment() {
    let b = Bench::new();
    let event = unanswered(&b);
    assert_eq!(b.ingest(&event), Ok(WebhookReceipt::Accepted));
    assert_eq!((b.status(), b.single.timers()), (PaymentStatus::Authorized, 0));
    assert_eq!(b.told(), ["authorized a"]);
    assert_eq!(b.provider.asked(), ["authorize"], "no query is needed any more");
    let told = &b.single.emitted()[0];
    assert_eq!(told.actor.to_string(), "service:payment-provider");
    assert!(told.causation.is_some());
    b.check();
}

#[test]
fn a_webhook_before_the_answer_and_the_answer_count_once() {
    let b = Bench::new();
    b.script(&[Plan::AnswerLate]);
    b.authorize("a");
    block_on(async {
        let claim = b.single.claim(b.due.as_ref(), "worker").await.remove(0);
        let webhook = async {
            let signed = b.sign(&b.provider.webhooks().remove(0));
            b.payments.ingest_webhook(&signed).await
        };
        let (called, heard) = join(b.due.on_due(&claim), webhook).await;
        assert_eq!(heard, Ok(WebhookReceipt::Accepted));
        called.unwrap();
    });
    b.rest();
    assert_eq!(b.told(), ["authorized a"]);
    b.check();
}

#[test]
fn a_webhook_after_the_answer_changes_nothing() {
    let b = Bench::new();
    b.authorize("a");
    b.due();
    let event = b.provider.webhooks().remove(0);
    assert_eq!(b.ingest(&event), Ok(WebhookReceipt::Accepted));
    assert_eq!(b.ingest(&event), Ok(WebhookReceipt::Duplicate));
    assert_eq!(b.told(), ["authorized a"]);
}

#[test]
fn three_at_once_and_each_twice_count_once() {
    let b = Bench::new();
    let event = unanswered(&b);
    let copies: Vec<_> = (0..6)
        .map(|n| {
            let event_id = format!("evt_copy_{}", n / 2);
            b.sign(&WebhookEvent { event_id, ..event.clone() })
        })
        .collect();
    let receipts = block_on(join_all(copies.iter().map(|c| b.payments.ingest_webhook(c))));
    let count = |receipt| receipts.iter().filter(|r| **r == Ok(receipt)).count();
    assert_eq!(count(WebhookReceipt::Accepted), 3, "{receipts:?}");
    assert_eq!(count(WebhookReceipt::Duplicate), 3, "{receipts:?}");
    assert_eq!(b.told(), ["authorized a"]);
    b.check();
}

#[test]
fn webhooks_in_any_order_lead_to_the_same_end() {
    for reverse in [false, true] {
        let b = Bench::new();
        b.authorize("a");
        b.due();
        b.script(&[Plan::LoseAnswer]);
        b.capture("c");
        b.due();
        let mut events = b.provider.webhooks();
        if reverse {
            events.reverse();
        }
        for event in &events {
            assert_eq!(b.ingest(event), Ok(WebhookReceipt::Accepted));
        }
        assert_eq!(b.told(), ["authorized a", "succeeded c"]);
        b.rest();
        b.check();
    }
}

#[test]
fn a_late_success_heard_by_webhook_is_voided() {
    let b = Bench::new();
    b.script(&[Plan::Delay]);
    b.authorize("a");
    b.due();
    b.void("v");
    b.single.clock.advance(Duration::from_secs(1));
    b.due();
    assert_eq!(b.told(), ["failed a voided", "voided v"]);
    b.provider.arrive();
    b.provider.asked();
    assert_eq!(b.ingest(&b.provider.webhooks()[0]), Ok(WebhookReceipt::Accepted));
    b.due();
    assert_eq!(b.provider.asked(), ["void"], "at once, without waiting for the next look");
    assert_eq!((b.provider.truth(b.order).open, b.told().len()), (0, 2));
    b.rest();
    b.check();
}

#[test]
fn forged_old_and_broken_webhooks_change_nothing() {
    let b = Bench::new();
    let event = unanswered(&b);
    let good = b.sign(&event);
    let refuse = |webhook: &SignedWebhook, status: u16| {
        let error = block_on(b.payments.ingest_webhook(webhook)).unwrap_err();
        assert_eq!(error.status(), status, "{error}");
    };
    refuse(&SignedWebhook { signature: "t=1,v1=0".into(), ..good.clone() }, 401);
    let mut other = event.clone();
    other.event_id = "evt_forged".into();
    refuse(&SignedWebhook { body: b.sign(&other).body, ..good.clone() }, 401);
    let stranger = WebhookKey::new(&Secret::new("another secret!!"));
    refuse(&stranger.sign(good.body.clone(), b.single.env.now()), 401);
    let key = WebhookKey::new(&Secret::new(super::bench::SECRET));
    refuse(&key.sign(b"{}".to_vec().into(), b.single.env.now()), 400);
    refuse(&key.sign(vec![b'x'; 16 * 1024 + 1].into(), b.single.env.now()), 413);
    b.single.clock.advance(Duration::from_secs(601));
    refuse(&good, 401);
    assert!(b.told().is_empty());
    let contradiction = {
        let mut event = event.clone();
        let OperationOutcome::Approved(answer) = &mut event.operation.outcome else { panic!() };
        answer.amount = euro(1);
        event
    };
    assert!(matches!(b.ingest(&contradiction), Err(ApiError::Unprocessable(_))));
    assert_eq!(b.status(), PaymentStatus::Unknown);
    assert_eq!(b.ingest(&event), Ok(WebhookReceipt::Accepted), "its id was not used up");
}

#[test]
fn webhooks_about_nothing_of_ours_are_noted_and_change_nothing() {
    let b = Bench::new();
    let event = unanswered(&b);
    let mut foreign = event.clone();
    (foreign.event_id, foreign.operation.order_id) = ("evt_x".into(), b.single.new_order());
    assert_eq!(b.ingest(&foreign), Ok(WebhookReceipt::Unmatched));
    assert_eq!(b.ingest(&foreign), Ok(WebhookReceipt::Duplicate));
    let mut foreign = event;
    (foreign.event_id, foreign.operation.key) = ("evt_y".into(), "foreign".into());
    assert_eq!(b.ingest(&foreign), Ok(WebhookReceipt::Unmatched));
    assert_eq!(b.status(), PaymentStatus::Unknown);
}

#[test]
fn a_webhook_whose_commit_is_in_doubt_is_taken_note_of_once() {
    for lost in [Effect::LoseReply, Effect::LoseRequest] {
        let b = Bench::new();
        let event = unanswered(&b);
        b.single.commits.next(&[lost]);
        b.ingest(&event).unwrap();
        assert_eq!(b.told(), ["authorized a"]);
        b.check();
    }
}
