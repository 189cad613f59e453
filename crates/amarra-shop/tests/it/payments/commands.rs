//! Commands of Orders: the way through, repetitions, early and wrong ones.

use amarra_messaging::Admit;
use amarra_shop::contract::payments::{PaymentAuthorized, PaymentFailed, PaymentSucceeded};
use amarra_shop::contract::users::Secret;
use amarra_shop::contract::{ApiError, Role};
use amarra_shop::payments::{Config, JournalEntry, Payment, PaymentStatus};
use amarra_store::HandlerError;

use super::bench::{Bench, SECRET, euro};
use crate::single::block_on;

#[test]
fn an_order_is_authorized_captured_and_refunded() {
    let b = Bench::new();
    b.hear(&b.created(euro(500))).unwrap();
    assert_eq!((b.status(), b.single.timers()), (PaymentStatus::Created, 0));
    let command = b.authorization("a", "tok_ok");
    b.hear(&command).unwrap();
    assert_eq!(b.status(), PaymentStatus::Authorizing);
    assert!(b.provider.asked().is_empty(), "nothing is called from a handler");
    b.due();
    assert_eq!(b.status(), PaymentStatus::Authorized);
    b.capture("c");
    b.due();
    b.refund("r", 200);
    b.due();
    assert_eq!(b.told(), ["authorized a", "succeeded c", "refunded r"]);
    assert_eq!(b.provider.asked(), ["authorize", "capture", "refund"]);
    assert_eq!((b.status(), b.single.timers()), (PaymentStatus::PartiallyRefunded, 0));
    let told = b.single.emitted();
    assert_eq!(told[0].causation, Some(command.envelope.id), "caused by the command it answers");
    assert_eq!(told[0].correlation, b.order.as_uuid().into());
    assert_eq!(told[0].actor.to_string(), "timer:payments");
    assert_eq!(told[0].traceparent.trace_id(), command.envelope.traceparent.trace_id());
    assert_eq!(b.single.told::<PaymentAuthorized>()[0].amount, euro(500));
    assert_eq!(b.single.told::<PaymentSucceeded>()[0].captured_at, told[1].time);
    b.check();
}

#[test]
fn a_duplicate_is_dropped_and_a_retry_is_answered_again() {
    let b = Bench::new();
    let command = b.authorization("a", "tok_ok");
    assert_eq!(b.hear(&command).unwrap(), Admit::Fresh);
    b.due();
    assert_eq!(b.hear(&command).unwrap(), Admit::Duplicate);
    assert_eq!(b.told(), ["authorized a"]);
    b.authorize("a");
    b.capture("c");
    b.due();
    let version = |b: &Bench| b.single.db.inspect(|i| i.audit().len());
    let before = version(&b);
    b.capture("c");
    b.capture("c");
    assert_eq!(b.told()[1..], ["authorized a", "succeeded c", "succeeded c", "succeeded c"]);
    assert_eq!(version(&b), before, "an answer given again changes nothing");
    b.rest();
    assert_eq!(b.provider.asked(), ["authorize", "capture"]);
    b.check();
}

#[test]
fn commands_may_come_before_the_order() {
    let b = Bench::new();
    b.authorize("a");
    b.due();
    let id = b.payment().payment_id;
    b.hear(&b.created(euro(500))).unwrap();
    let payment = b.payment();
    assert_eq!((payment.payment_id, payment.total), (id, Some(euro(500))));
    assert_eq!(payment.status(), PaymentStatus::Authorized);
}

#[test]
fn what_is_paid_is_the_total_of_the_order() {
    let b = Bench::new();
    b.hear(&b.created(euro(499))).unwrap();
    b.authorize("a");
    assert_eq!(b.told(), ["failed a amount_differs"]);
    b.rest();
    assert!(b.provider.asked().is_empty());
    let b = Bench::new();
    b.authorize("a");
    let error = b.hear(&b.created(euro(499))).unwrap_err();
    assert!(matches!(error, HandlerError::Refused(_)), "{error}");
    assert_eq!(b.payment().total, None);
}

#[test]
fn declines_say_whether_another_token_may_do() {
    let b = Bench::new();
    b.hear(&b.authorization("a", "tok_insufficient")).unwrap();
    b.due();
    b.hear(&b.authorization("b", "tok_decline")).unwrap();
    b.due();
    b.authorize("c");
    b.rest();
    let told = b.single.told::<PaymentFailed>().into_iter();
    let told: Vec<_> = told.map(|e| (e.request, e.reason, e.retryable)).collect();
    let expect =
        [("a", "insufficient_funds", true), ("b", "declined", false), ("c", "declined", false)];
    assert_eq!(told, expect.map(|(r, why, again)| (r.to_owned(), why.to_owned(), again)));
    assert_eq!(b.provider.asked(), ["authorize", "authorize"]);
    assert_eq!(b.status(), PaymentStatus::Declined);
}

#[test]
fn a_void_before_its_authorization_leaves_a_tombstone() {
    let b = Bench::new();
    b.void("v");
    b.hear(&b.created(euro(500))).unwrap();
    b.authorize("a");
    b.void("v");
    assert_eq!(b.told(), ["voided v", "failed a voided", "voided v"]);
    b.rest();
    assert!(b.provider.asked().is_empty());
    assert_eq!(b.status(), PaymentStatus::Voided);
}

#[test]
fn an_authorization_that_expired_fails_the_capture_and_is_given_up() {
    let b = Bench::new();
    b.authorize("a");
    b.due();
    b.single.clock.advance(amarra_shop::provider::Config::default().authorization_ttl);
    b.capture("c");
    b.rest();
    assert_eq!(b.told(), ["authorized a", "failed c authorization_expired"]);
    b.void("v");
    assert_eq!(b.told()[2], "voided v");
    assert_eq!(b.status(), PaymentStatus::Voided);
    b.check();
}

#[test]
fn refunds_never_exceed_what_was_captured() {
    let b = Bench::new();
    b.authorize("a");
    b.refund("early", 1);
    b.due();
    b.capture("c");
    b.due();
    b.refund("r1", 300);
    b.refund("r2", 300);
    b.refund("r3", 200);
    b.refund("r1", 300);
    b.rest();
    b.refund("r4", 1);
    let told = b.told();
    assert_eq!(told.iter().filter(|t| t.as_str() == "refunded r1").count(), 1);
    for expect in ["refund-failed early", "refund-failed r2", "refunded r3", "refund-failed r4"] {
        assert!(told.iter().any(|t| t == expect), "{told:?} lacks {expect}");
    }
    assert_eq!(b.status(), PaymentStatus::Refunded);
    b.check();
}

#[test]
fn the_staff_reads_payments_and_the_journal() {
    let b = Bench::new();
    b.authorize("a");
    b.due();
    b.capture("c");
    b.due();
    b.refund("r", 500);
    b.due();
    let read = |role| block_on(b.payments.payment(&b.single.caller(role), b.order));
    assert_eq!(read(Role::Customer), Err(ApiError::Forbidden));
    assert_eq!(read(Role::Support).unwrap().status, PaymentStatus::Refunded);
    let view = read(Role::PaymentsAdmin).unwrap();
    assert_eq!((view.authorized, view.captured, view.refunded), (500, 500, 500));
    assert_eq!((view.refunds.len(), view.refunds[0].status.as_str()), (1, "completed"));
    let admin = b.single.caller(Role::Admin);
    let none = block_on(b.payments.payment(&admin, b.single.new_order()));
    assert_eq!(none, Err(ApiError::NotFound));
    let page = |role, after, limit| {
        let caller = b.single.caller(role);
        block_on(b.payments.journal(&caller, after, limit))
    };
    assert_eq!(page(Role::Support, None, 9), Err(ApiError::Forbidden));
    let first = page(Role::Auditor, None, 1).unwrap();
    let rest = page(Role::PaymentsAdmin, first.next.clone(), 9).unwrap();
    let mut read = first.entries;
    read.extend(rest.entries);
    assert_eq!(read, b.single.states::<JournalEntry>());
    assert_eq!((read.len(), rest.next), (2, None));
}

#[test]
fn pages_of_the_journal_are_bounded() {
    let config = Config { journal_page_max: 1, ..Config::new(Secret::new(SECRET)) };
    let b = Bench::with(config);
    b.authorize("a");
    b.due();
    b.capture("c");
    b.due();
    b.refund("r", 500);
    b.due();
    for limit in [0, 1, 99] {
        let page = block_on(b.payments.journal(&b.single.caller(Role::Admin), None, limit));
        let page = page.unwrap();
        assert_eq!((page.entries.len(), page.next.is_some()), (1, true));
    }
}

#[test]
fn no_token_leaves_the_payment() {
    let b = Bench::new();
    b.hear(&b.authorization("a", "tok_ok_canary")).unwrap();
    b.due();
    b.capture("c");
    b.due();
    for envelope in b.single.emitted() {
        assert!(!String::from_utf8_lossy(&envelope.data).contains("canary"));
    }
    let view = block_on(b.payments.payment(&b.single.caller(Role::Admin), b.order)).unwrap();
    assert!(!format!("{view:?}").contains("canary"));
}

#[test]
fn undecodable_commands_are_errors_and_strangers_are_ignored() {
    let b = Bench::new();
    let mut broken = b.authorization("a", "tok_ok");
    broken.envelope.data = bytes::Bytes::from_static(b"{}");
    assert!(matches!(b.hear(&broken), Err(HandlerError::Codec(_))));
    let mut stranger = b.authorization("a", "tok_ok");
    stranger.envelope.kind = "OrderCompleted".into();
    b.hear(&stranger).unwrap();
    assert_eq!(b.single.state::<Payment>(&b.order.to_string()), None);
}

#[test]
fn every_change_is_audited() {
    let b = Bench::new();
    b.authorize("a");
    b.due();
    b.capture("c");
    b.due();
    let rows = b.single.db.inspect(|i| i.audit().to_vec());
    amarra_store::audit::verify_chain(0, [0; 32], &rows).unwrap();
    let saved: Vec<_> = rows.iter().map(|r| format!("{}", r.entry.aggregate.kind)).collect();
    assert_eq!(saved, ["payment", "payment", "payment", "payment", "journal"]);
}
