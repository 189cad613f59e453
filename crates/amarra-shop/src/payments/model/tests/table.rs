//! The table of a payment, edge case by edge case.

use super::*;

/// A world whose money is set aside.
fn authorized() -> World {
    let mut world = World::new();
    world.authorize("a", "tok_ok");
    assert_eq!(world.step(), "authorized a");
    world
}

fn captured() -> World {
    let mut world = authorized();
    world.capture("c");
    assert_eq!(world.step(), "succeeded c");
    world
}

#[test]
fn the_way_through() {
    let mut w = World::new();
    assert_eq!(w.payment.status(), PaymentStatus::Created);
    assert_eq!(w.authorize("a", "tok_ok"), "");
    assert_eq!(w.payment.status(), PaymentStatus::Authorizing);
    assert_eq!(w.step(), "authorized a");
    assert_eq!(w.payment.status(), PaymentStatus::Authorized);
    assert_eq!(w.capture("c"), "");
    assert_eq!(w.payment.status(), PaymentStatus::Capturing);
    assert_eq!(w.step(), "succeeded c");
    assert_eq!(w.payment.status(), PaymentStatus::Captured);
    assert_eq!(w.refund("r1", 40), "");
    assert_eq!(w.step(), "refunded r1");
    assert_eq!(w.payment.status(), PaymentStatus::PartiallyRefunded);
    assert_eq!(w.refund("r2", 60), "");
    assert_eq!(w.step(), "refunded r2");
    assert_eq!(w.payment.status(), PaymentStatus::Refunded);
    assert_eq!(w.next(), None);
    assert_eq!(w.journal.len(), 3);
    assert!(w.journal.iter().all(JournalEntry::is_balanced));
}

#[test]
fn a_repeated_request_is_answered_again_and_done_once() {
    let mut w = captured();
    w.refund("r", 100);
    w.step();
    assert_eq!(w.authorize("a", "tok_ok"), "authorized a");
    assert_eq!(w.capture("c"), "succeeded c");
    assert_eq!(w.capture("c2"), "succeeded c2");
    assert_eq!(w.refund("r", 100), "refunded r");
    assert_eq!(w.next(), None);
    assert_eq!(w.provider.truth(order_id(), Timestamp::EPOCH).captures, 1);
    assert_eq!((w.payment.refunds.len(), w.journal.len()), (1, 2));
}

#[test]
fn requests_that_wait_for_one_operation_are_all_answered_by_it() {
    let mut w = World::new();
    for request in ["a", "a", "a2"] {
        assert_eq!(w.authorize(request, "tok_ok"), "");
    }
    assert_eq!(w.step(), "authorized a, authorized a2");
    w.capture("c");
    w.capture("c2");
    assert_eq!(w.step(), "succeeded c, succeeded c2");
    assert_eq!(w.provider.truth(order_id(), Timestamp::EPOCH).authorizations, 1);
}

#[test]
fn a_final_decline_stays_and_a_retryable_one_allows_another_token() {
    let mut w = World::new();
    w.authorize("a", "tok_decline");
    assert_eq!(w.step(), "failed a declined");
    assert_eq!(w.payment.status(), PaymentStatus::Declined);
    assert_eq!(w.authorize("a2", "tok_ok"), "failed a2 declined");
    assert_eq!(w.next(), None);

    let mut w = World::new();
    w.authorize("a", "tok_insufficient");
    assert_eq!(w.step(), "failed a insufficient_funds retryable");
    assert_eq!(w.authorize("a", "tok_ok"), "failed a insufficient_funds retryable");
    assert_eq!(w.next(), None);
    assert_eq!(w.authorize("a2", "tok_ok"), "");
    assert_eq!(w.step(), "authorized a2");
    assert_eq!(w.authorize("a", "tok_ok"), "failed a insufficient_funds retryable");
}

#[test]
fn attempts_are_bounded() {
    let mut w = World::new();
    for request in ["a1", "a2", "a3"] {
        assert_eq!(w.authorize(request, "tok_insufficient"), "");
        w.step();
    }
    assert_eq!(w.authorize("a4", "tok_ok"), "failed a4 too_many_attempts");
}

#[test]
fn amounts_that_cannot_be_are_refused_without_a_call() {
    let mut w = World::new();
    let authorize =
        |w: &mut World, minor| w.command(|p, ctx| p.authorize(euro(minor), "tok_ok", ctx), "a");
    assert_eq!(authorize(&mut w, 0), "failed a invalid_amount");
    assert_eq!(authorize(&mut w, -1), "failed a invalid_amount");
    assert_eq!(w.next(), None);
    w.authorize("open", "tok_ok");
    assert_eq!(authorize(&mut w, 99), "failed a amount_differs", "while the first is under way");
    let mut w = World::new();
    w.payment.expect_total(euro(90)).unwrap();
    assert_eq!(authorize(&mut w, 100), "failed a amount_differs");
    assert_eq!(w.next(), None);

    let mut w = authorized();
    assert_eq!(authorize(&mut w, 99), "failed a amount_differs");
    assert!(w.payment.expect_total(euro(90)).is_err());
    let capture = |w: &mut World, amount| w.command(|p, ctx| p.take(amount, ctx), "c");
    assert_eq!(capture(&mut w, euro(101)), "failed c exceeds_authorized");
    assert_eq!(capture(&mut w, euro(0)), "failed c exceeds_authorized");
    let dollars = Money::new(100, "USD".parse().unwrap());
    assert_eq!(capture(&mut w, dollars), "failed c exceeds_authorized");
    assert_eq!(capture(&mut w, euro(60)), "");
    assert_eq!(w.step(), "succeeded c");
    assert_eq!(w.refund("r", 61), "refund-failed r exceeds_captured");
    assert_eq!(w.refund("r", 0), "refund-failed r exceeds_captured");
    assert_eq!(w.next(), None);
}

#[test]
fn refunds_in_progress_count_against_what_is_left() {
    let mut w = captured();
    assert_eq!(w.refund("r1", 60), "");
    assert_eq!(w.refund("r2", 60), "refund-failed r2 exceeds_captured");
    assert_eq!(w.refund("r3", 40), "");
    assert_eq!((w.step(), w.step()), ("refunded r1".into(), "refunded r3".into()));
}

#[test]
fn commands_before_their_time_are_refused() {
    let mut w = World::new();
    assert_eq!(w.capture("c"), "failed c not_authorized");
    assert_eq!(w.refund("r", 1), "refund-failed r not_captured");
    w.authorize("a", "tok_ok");
    assert_eq!(w.capture("c"), "failed c not_authorized");
    w.step();
    assert_eq!(w.refund("r", 1), "refund-failed r not_captured");
}

#[test]
fn a_refused_refund_may_be_tried_by_another_request() {
    let mut w = World::new();
    w.authorize("a", "tok_norefund");
    w.step();
    w.capture("c");
    w.step();
    w.refund("r", 100);
    assert_eq!(w.step(), "refund-failed r declined");
    assert_eq!(w.refund("r", 100), "refund-failed r declined");
    assert_eq!(w.next(), None);
    assert_eq!(w.refund("r2", 100), "");
    assert_eq!(w.payment.refunded(), 0);
}

#[test]
fn an_unknown_outcome_is_left_by_a_query_alone() {
    let mut w = World::new();
    w.authorize("a", "tok_ok");
    w.step_lost();
    assert_eq!(w.payment.status(), PaymentStatus::Unknown);
    assert_eq!(w.next(), Some(Call::Query));
    assert_eq!(w.authorize("a2", "tok_ok"), "");
    assert_eq!(w.next(), Some(Call::Query), "another request makes no charge");
    assert_eq!(w.settle(), "authorized a, authorized a2");
    w.capture("c");
    w.step_lost();
    assert_eq!(w.payment.status(), PaymentStatus::Unknown);
    assert_eq!(w.next(), Some(Call::Query));
    assert_eq!(w.settle(), "succeeded c");
    w.refund("r", 100);
    w.step_lost();
    assert_eq!(w.next(), Some(Call::Query));
    assert_eq!(w.settle(), "refunded r");
    assert_eq!(w.provider.truth(order_id(), Timestamp::EPOCH).authorizations, 1);
}

#[test]
fn what_the_provider_does_not_know_is_sent_again_with_the_same_key() {
    let mut w = World::new();
    w.authorize("a", "tok_ok");
    for ask in [None, Some("c"), Some("r")] {
        match ask {
            Some("c") => w.capture("c"),
            Some(_) => w.refund("r", 100),
            None => String::new(),
        };
        let call = w.next().unwrap();
        w.payment.doubt(call.key().unwrap());
        assert_eq!(w.next(), Some(Call::Query));
        assert_eq!(w.settle(), "");
        assert_eq!(w.next(), Some(call), "the same call");
        w.step();
    }
}

#[test]
fn webhook_before_after_and_instead_of_the_answer_and_three_at_once() {
    let mut w = World::new();
    w.authorize("a", "tok_ok");
    let fact = w.at_provider(&w.next().unwrap()).unwrap();
    assert_eq!(w.learn(&fact), "authorized a", "the webhook");
    assert_eq!(w.learn(&fact), "", "the answer");
    assert_eq!((w.learn(&fact), w.learn(&fact)), (String::new(), String::new()));
    w.capture("c");
    let call = w.next().unwrap();
    let fact = w.at_provider(&call).unwrap();
    w.payment.doubt(call.key().unwrap());
    assert_eq!(w.learn(&fact), "succeeded c", "the webhook instead of the answer");
    assert_eq!(w.settle(), "");
    assert_eq!(w.journal.len(), 1);
    assert_eq!(w.next(), None);
}

#[test]
fn void_gives_up_what_is_set_aside() {
    let mut w = authorized();
    assert_eq!(w.void("v"), "");
    assert_eq!(w.payment.status(), PaymentStatus::Voiding);
    assert_eq!(w.capture("c"), "failed c voided");
    assert_eq!(w.authorize("a", "tok_ok"), "failed a voided");
    assert_eq!(w.step(), "voided v");
    assert_eq!(w.payment.status(), PaymentStatus::Voided);
    assert_eq!((w.void("v"), w.void("v2")), ("voided v".into(), "voided v2".into()));
    assert_eq!(w.next(), None);
    assert_eq!(w.provider.truth(order_id(), Timestamp::EPOCH).open, 0);
}

#[test]
fn void_before_authorize_leaves_a_tombstone() {
    let mut w = World::new();
    assert_eq!(w.void("v"), "voided v");
    assert_eq!(w.payment.status(), PaymentStatus::Voided);
    assert_eq!(w.authorize("a", "tok_ok"), "failed a voided");
    assert_eq!(w.next(), None);
    let mut w = World::new();
    w.authorize("a", "tok_decline");
    w.step();
    assert_eq!(w.void("v"), "voided v");
    assert_eq!(w.next(), None);
}

#[test]
fn void_of_an_unknown_authorization_asks_first() {
    let mut w = World::new();
    w.authorize("a", "tok_ok");
    assert_eq!(w.void("v"), "");
    assert_eq!(w.next(), Some(Call::Query), "it may have been sent before a crash");
    w.settle();
    let mut w = World::new();
    w.authorize("a", "tok_ok");
    w.step_lost();
    assert_eq!(w.void("v"), "");
    assert_eq!(w.next(), Some(Call::Query));
    assert_eq!(w.settle(), "failed a voided", "though it was set aside");
    assert!(matches!(w.next(), Some(Call::Void(_))));
    assert_eq!(w.step(), "voided v");
    assert_eq!(w.provider.truth(order_id(), Timestamp::EPOCH).open, 0);
}

#[test]
fn an_authorization_that_arrives_after_its_void_is_voided_in_its_turn() {
    for webhook in [true, false] {
        let mut w = World::new();
        w.authorize("a", "tok_ok");
        let late = w.next().unwrap();
        w.payment.doubt(late.key().unwrap());
        w.void("v");
        assert_eq!(w.step(), "failed a voided, voided v");
        assert_eq!(w.payment.status(), PaymentStatus::Voided);
        let fact = w.at_provider(&late).unwrap();
        assert_eq!(w.provider.truth(order_id(), Timestamp::EPOCH).open, 100);
        let told = if webhook { w.learn(&fact) } else { w.step() };
        assert_eq!(told, "");
        assert!(matches!(w.next(), Some(Call::Void(_))), "{:?}", w.next());
        assert_eq!(w.step(), "", "v has its answer");
        assert_eq!(w.provider.truth(order_id(), Timestamp::EPOCH).open, 0);
        assert_eq!(w.next(), None);
    }
}

#[test]
fn looking_for_late_authorizations_ends() {
    let mut w = World::new();
    w.authorize("a", "tok_ok");
    w.void("v");
    w.step();
    for _ in 0..RULES.void_rechecks {
        assert_eq!(w.next(), Some(Call::Query));
        assert!(!w.payment.is_open());
        assert_eq!(w.settle(), "");
    }
    assert_eq!(w.next(), None);
}

#[test]
fn a_decline_answers_the_void_that_waits() {
    let mut w = World::new();
    w.authorize("a", "tok_decline");
    w.step_lost();
    w.void("v");
    assert_eq!(w.settle(), "failed a declined, voided v");
    assert_eq!(w.next(), None);
}

#[test]
fn a_void_that_comes_too_late_hears_of_the_capture() {
    let mut w = authorized();
    w.capture("c");
    w.step_lost();
    assert_eq!(w.void("v"), "");
    assert_eq!(w.next(), Some(Call::Query));
    assert_eq!(w.settle(), "succeeded c, succeeded v");
    assert_eq!(w.payment.status(), PaymentStatus::Captured);
    assert_eq!(w.void("v2"), "succeeded v2");
    assert_eq!(w.refund("r", 100), "");
    assert_eq!(w.step(), "refunded r");
}

#[test]
fn a_void_overtakes_a_capture_that_was_not_sent() {
    let mut w = authorized();
    w.capture("c");
    let late = w.next().unwrap();
    w.void("v");
    assert_eq!(w.next(), Some(Call::Query), "it may have been sent before a crash");
    assert_eq!(w.settle(), "");
    assert!(matches!(w.next(), Some(Call::Void(_))), "the void goes before the capture");
    assert_eq!(w.step(), "voided v, failed c voided");
    let fact = w.at_provider(&late).unwrap();
    assert_eq!(w.learn(&fact), "", "the provider refuses it");
    assert_eq!(w.next(), None);
}

#[test]
fn a_capture_that_overtakes_the_void_wins() {
    let mut w = authorized();
    w.capture("c");
    let late = w.next().unwrap();
    w.void("v");
    w.settle();
    w.at_provider(&late);
    assert_eq!(w.step(), "", "the void is refused: captured");
    assert_eq!(w.next(), Some(Call::Query));
    assert_eq!(w.step(), "succeeded c, succeeded v");
    assert_eq!(w.next(), None);
}

#[test]
fn a_refused_capture_frees_the_money() {
    let mut w = World::new();
    w.authorize("a", "tok_nocapture");
    w.step();
    w.capture("c");
    assert_eq!(w.step(), "failed c declined");
    assert_eq!(w.capture("c2"), "failed c2 declined");
    assert!(matches!(w.next(), Some(Call::Void(_))));
    assert_eq!(w.void("v"), "");
    assert_eq!(w.step(), "voided v");
    assert_eq!(w.provider.truth(order_id(), Timestamp::EPOCH).open, 0);
}

#[test]
fn a_capture_nobody_asked_for_is_told_so_that_it_is_refunded() {
    let mut w = authorized();
    w.void("v");
    let fact = Operation {
        key: "staff".into(),
        order_id: order_id(),
        kind: OperationKind::Capture,
        outcome: OperationOutcome::Approved(ProviderAnswer {
            psp_ref: "x".into(),
            amount: euro(100),
        }),
    };
    assert_eq!(w.learn(&fact), "succeeded v");
    assert_eq!(w.payment.captured(), 100);

    let mut w = authorized();
    w.void("v");
    w.step();
    assert_eq!(w.learn(&fact), "succeeded ", "after the void as well");

    let mut w = World::new();
    w.authorize("a", "tok_ok");
    assert_eq!(w.learn(&fact), "", "before its authorization is known");
    assert_eq!(w.next(), Some(Call::Query));
}

#[test]
fn a_void_by_the_provider_fails_the_capture() {
    let mut w = authorized();
    w.capture("c");
    let fact = Operation {
        key: "staff".into(),
        order_id: order_id(),
        kind: OperationKind::Void,
        outcome: OperationOutcome::Approved(ProviderAnswer {
            psp_ref: "x".into(),
            amount: euro(100),
        }),
    };
    assert_eq!(w.learn(&fact), "voided , failed c voided");
    assert_eq!(w.next(), None);
}

#[test]
fn refunds_are_bounded() {
    let mut w = captured();
    for n in 0..RULES.refunds_max {
        assert_eq!(w.refund(&format!("r{n}"), 1), "");
        w.step();
    }
    assert_eq!(w.refund("one more", 1), "refund-failed one more too_many_refunds");
}

#[test]
fn a_decline_of_what_was_given_up_is_told_once() {
    let mut w = World::new();
    w.authorize("a", "tok_decline");
    let late = w.next().unwrap();
    w.void("v");
    assert_eq!(w.settle(), "failed a voided, voided v");
    let fact = w.at_provider(&late).unwrap();
    assert_eq!(w.learn(&fact), "");
    assert_eq!(w.payment.status(), PaymentStatus::Voided);
}

#[test]
fn a_void_that_is_refused_is_decided_anew() {
    let refuse = |w: &World, reason: &str| Operation {
        key: w.next().unwrap().key().unwrap().to_owned(),
        order_id: order_id(),
        kind: OperationKind::Void,
        outcome: OperationOutcome::Rejected { reason: reason.to_owned(), retryable: false },
    };
    let mut w = authorized();
    w.void("v");
    let fact = refuse(&w, "busy");
    assert_eq!(w.learn(&fact), "");
    let Some(Call::Void(again)) = w.next() else { panic!("{:?}", w.next()) };
    assert_ne!(again.key, fact.key, "the old key would get the old answer");
    assert_eq!(w.learn(&fact), "unmatched");
    let fact = refuse(&w, "busy");
    w.learn(&fact);
    assert!(w.next().unwrap().key().unwrap().ends_with(":v#2"));
    assert_eq!(w.step(), "voided v");

    let mut w = authorized();
    w.void("v");
    let fact = refuse(&w, "not_found");
    assert_eq!(w.learn(&fact), "voided v");
    assert_eq!(w.next(), Some(Call::Query), "and looks for it later");
    assert_eq!(w.learn(&fact), "", "once");
}

#[test]
fn a_provider_that_contradicts_itself_is_not_believed() {
    let approve = |kind, key: &str, minor| Operation {
        key: key.to_owned(),
        order_id: order_id(),
        kind,
        outcome: OperationOutcome::Approved(ProviderAnswer {
            psp_ref: "x".into(),
            amount: euro(minor),
        }),
    };
    let refuse = |kind, key: &str| Operation {
        outcome: OperationOutcome::Rejected { reason: "no".into(), retryable: false },
        ..approve(kind, key, 0)
    };
    let w = captured();
    let check = |world: &World, fact: &Operation, expect: &str| {
        let error = world.payment.clone().learn(fact, at()).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    let (auth, take) = (w.payment.attempts[0].leg.key.clone(), OperationKind::Capture);
    let key = w.payment.capture.as_ref().unwrap().leg.key.clone();
    check(&w, &approve(take, "other", 100), "second");
    check(&w, &refuse(take, &key), "contradicts");
    check(&w, &refuse(OperationKind::Authorize, &auth), "contradicts");
    let mut w = World::new();
    w.authorize("a", "tok_ok");
    check(&w, &approve(OperationKind::Authorize, &auth, 99), "contradicts");
    w.step();
    check(&w, &approve(take, "x", 101), "exceed");
    w.capture("c");
    check(&w, &approve(take, &key, 99), "contradicts");
    assert_eq!(w.learn(&approve(OperationKind::Authorize, "foreign", 1)), "unmatched");
    assert_eq!(w.learn(&approve(OperationKind::Refund, "foreign", 1)), "unmatched");
    assert_eq!(w.learn(&refuse(OperationKind::Void, "foreign")), "unmatched");
    assert_eq!(w.learn(&refuse(take, "foreign")), "unmatched");
    let mut w = captured();
    w.refund("r", 50);
    let key = w.payment.refunds[0].leg.key.clone();
    check(&w, &approve(OperationKind::Refund, &key, 49), "contradicts");
}

#[test]
fn the_laws_are_checked() {
    let mut w = captured();
    w.payment.capture.as_mut().unwrap().amount = euro(101);
    assert!(matches!(w.payment.check(), Err(Breach::Captured { .. })));
    let mut w = captured();
    w.refund("r", 100);
    w.step();
    w.payment.refunds[0].amount = euro(101);
    assert!(matches!(w.payment.check(), Err(Breach::Refunded { .. })));
    let mut w = authorized();
    w.payment.total = Some(euro(99));
    assert!(matches!(w.payment.check(), Err(Breach::Total { .. })));
    w.payment.total = Some(euro(100));
    assert_eq!(w.payment.check(), Ok(()));
    let twin = w.payment.attempts[0].clone();
    w.payment.attempts.push(twin);
    assert!(matches!(w.payment.check(), Err(Breach::Twice { .. })));
}

#[test]
fn waiting_grows_until_something_settles() {
    let mut w = World::new();
    w.authorize("a", "tok_ok");
    for expect in 1..4 {
        let before = w.payment.clone();
        w.payment.count_call(&before);
        assert_eq!(w.payment.unresolved, expect);
    }
    let before = w.payment.clone();
    w.step();
    w.payment.count_call(&before);
    assert_eq!(w.payment.unresolved, 0);
}
