//! Sagas in units of work: log, commands and timer change together.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Actor, Class, Classify};
use amarra_saga::definition::StepIndex;
use amarra_saga::engine::Event;
use amarra_saga::{
    Cause, End, Input, Op, Outcome, SagaError, SagaId, SagaLog, Sagas, SagasConfig, Status,
    Transition, Verb,
};
use amarra_store::{Aggregate, Session, Store, TxError};
use serde_json::json;

use crate::support::{Order, Service, order_saga, run, tx};

fn service() -> Service {
    Service::new(Sagas::new("/orders").with(order_saga()).unwrap())
}

fn started() -> Service {
    let service = service();
    let progress = service.start("order", "o-1", &order());
    assert_eq!(progress.outcome, Outcome::Applied);
    service
}

fn order() -> Order {
    Order { sku: "apple".into(), total: 30 }
}

#[test]
fn starting_enqueues_the_first_command_and_sets_the_timer_in_one_unit() {
    let service = started();
    let [message] = service.store.outbox().try_into().unwrap();
    assert_eq!(message.topic.as_str(), "inventory");
    let envelope = message.envelope;
    assert_eq!(envelope.kind.as_ref(), "ReserveStock");
    assert_eq!(envelope.source.as_ref(), "/orders");
    assert_eq!(envelope.subject, SagaLog::aggregate_id("o-1"));
    assert_eq!(envelope.subject_version.get(), 1);
    assert_eq!(envelope.partition_key.as_str(), "apple");
    assert_eq!(envelope.correlation, service.cause().correlation);
    let data: serde_json::Value = serde_json::from_slice(&envelope.data).unwrap();
    assert_eq!(data, json!({"request": "o-1:reserve:action", "what": "apple"}));
    let due = service.store.due_in(&SagaLog::aggregate_id("o-1"));
    assert_eq!(due, Some(Duration::from_secs(30)), "the step's timeout");
}

#[test]
fn starting_twice_is_stale() {
    let service = started();
    let progress = service.start("order", "o-1", &order());
    assert_eq!((progress.outcome, progress.status), (Outcome::Stale, Status::Running));
    assert_eq!(service.store.sent(), ["ReserveStock"]);
}

#[test]
fn the_way_forward_takes_outputs_along_and_ends_without_a_timer() {
    let service = started();
    service.input("o-1", Input::completed("reserve", json!(7))).unwrap();
    let capture = service.store.outbox().pop().unwrap().envelope;
    let data: serde_json::Value = serde_json::from_slice(&capture.data).unwrap();
    assert_eq!(data["what"], "30 for 7");
    let progress = service.input("o-1", Input::completed("capture", json!("psp-1"))).unwrap();
    // Confirming is done at once, and notifying follows it in the same unit.
    let steps = [
        Transition::Completed { step: "capture".into(), out: Arc::new(json!("psp-1")) },
        Transition::Sent { step: "confirm".into(), op: Op::Action, attempt: 1 },
        Transition::Completed { step: "confirm".into(), out: Arc::new(json!(null)) },
        Transition::Sent { step: "notify".into(), op: Op::Action, attempt: 1 },
    ];
    assert_eq!(progress.transitions, steps);
    let progress = service.input("o-1", Input::completed("notify", json!(null))).unwrap();
    assert_eq!(progress.transitions.last(), Some(&Transition::Ended(End::Completed)));
    assert_eq!(service.status("o-1"), Status::Completed);
    assert_eq!(service.store.sent(), ["ReserveStock", "CapturePayment", "NotifyUser"]);
    assert_eq!(service.store.due_in(&SagaLog::aggregate_id("o-1")), None);
}

/// STP-3.
#[test]
fn a_refused_pivot_releases_what_was_recorded() {
    let service = started();
    service.input("o-1", Input::completed("reserve", json!(7))).unwrap();
    service.input("o-1", Input::rejected("capture", "declined")).unwrap();
    let release = service.store.outbox().pop().unwrap().envelope;
    assert_eq!(release.kind.as_ref(), "ReleaseStock");
    let data: serde_json::Value = serde_json::from_slice(&release.data).unwrap();
    assert_eq!(data, json!({"request": "o-1:reserve:compensation", "what": "7"}));
    let progress = service.input("o-1", Input::undone("reserve")).unwrap();
    assert_eq!(progress.status, Status::Compensated);
}

/// STP-3.
#[test]
fn an_unknown_step_is_undone_without_its_output() {
    let service = started();
    service.input("o-1", Input::unknown("reserve", "lost")).unwrap();
    let release = service.store.outbox().pop().unwrap().envelope;
    let data: serde_json::Value = serde_json::from_slice(&release.data).unwrap();
    assert_eq!(data["what"], "whatever");
}

#[test]
fn a_duplicate_changes_nothing_at_all() {
    let service = started();
    service.input("o-1", Input::completed("reserve", json!(7))).unwrap();
    let (log, audit) = (service.log("o-1"), service.store.audit().len());
    let due = service.store.due_in(&SagaLog::aggregate_id("o-1"));
    let progress = service.input("o-1", Input::completed("reserve", json!(8))).unwrap();
    assert_eq!((progress.outcome, progress.transitions.len()), (Outcome::Stale, 0));
    assert_eq!(service.log("o-1"), log);
    assert_eq!(service.store.audit().len(), audit);
    assert_eq!(service.store.sent().len(), 2);
    assert_eq!(service.store.due_in(&SagaLog::aggregate_id("o-1")), due);
}

#[test]
fn a_rolled_back_unit_leaves_neither_log_nor_command() {
    let service = started();
    run(async {
        let mut unit = service.store.begin().await.unwrap();
        let mut session = Session::new(unit.as_mut(), &service.env, "/test", service.cause());
        let done = Input::completed("reserve", json!(7));
        service.sagas.input(&mut session, &SagaId::from("o-1"), done).await.unwrap();
    });
    assert_eq!(service.log("o-1").events.len(), 2);
    assert_eq!(service.store.sent(), ["ReserveStock"]);
}

#[test]
fn of_two_units_that_read_one_version_one_conflicts() {
    let service = started();
    run(async {
        let mut first = service.store.begin().await.unwrap();
        let mut session = Session::new(first.as_mut(), &service.env, "/test", service.cause());
        let id = SagaId::from("o-1");
        let done = Input::completed("reserve", json!(7));
        service.sagas.input(&mut session, &id, done).await.unwrap();
        let cancel = Input::Cancel { reason: "changed my mind".into() };
        service.input("o-1", cancel).unwrap();
        let error = first.commit().await.unwrap_err();
        assert!(matches!(error, TxError::Conflict { .. }), "{error}");
    });
    assert_eq!(service.status("o-1"), Status::Compensating);
}

#[test]
fn an_output_of_another_type_is_refused_before_it_is_logged() {
    let service = started();
    let error = service.input("o-1", Input::completed("reserve", json!("seven"))).unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(error.to_string().contains("output of step \"reserve\""), "{error}");
    assert_eq!(service.log("o-1").events.len(), 2);
}

#[test]
fn an_operators_output_of_another_type_is_refused_too() {
    let service = started();
    let verb = Verb::Skip { step: "reserve".into(), output: Arc::new(json!("seven")) };
    let input = Input::Operator { by: Actor::Admin("root".into()), reason: "stuck".into(), verb };
    assert!(matches!(service.input("o-1", input).unwrap_err(), SagaError::Step { .. }));
}

#[test]
fn an_operators_verb_is_in_the_log_and_in_the_audit_chain() {
    let service = started();
    let by = Actor::Admin("root".into());
    let verb = Verb::Skip { step: "reserve".into(), output: Arc::new(json!(7)) };
    let input = Input::Operator { by: by.clone(), reason: "stuck".into(), verb: verb.clone() };
    service.input("o-1", input).unwrap();
    let logged = service.log("o-1").events.into_iter().find_map(|event| match event {
        Event::Operator { by, reason, verb, .. } => Some((by, reason, verb)),
        _ => None,
    });
    assert_eq!(logged, Some((by, "stuck".into(), verb)));
    assert_eq!(service.store.audit().last().unwrap().action.as_ref(), "saga-operator-skip");
}

#[test]
fn a_saga_that_is_not_there_is_not_found() {
    let error = service().input("o-9", Input::TimerFired).unwrap_err();
    assert!(matches!(&error, SagaError::NotFound(id) if id.as_str() == "o-9"), "{error}");
    assert_eq!(error.class(), Class::Rejected);
}

#[test]
fn a_saga_runs_the_version_it_was_started_under_and_no_other() {
    let service = started();
    let replace = |sagas: Sagas| Service { sagas: Arc::new(sagas), ..service.clone() };
    let gone = replace(Sagas::new("/orders"));
    let error = gone.input("o-1", Input::TimerFired).unwrap_err();
    assert!(matches!(error, SagaError::NoDefinition { version: Some(1), .. }), "{error}");

    let mut b = amarra_saga::Saga::builder::<Order>("order", 1);
    let order = b.input();
    b.compensatable("reserve", &order, crate::support::Reserve);
    let changed = replace(Sagas::new("/orders").with(b.build().unwrap()).unwrap());
    let error = changed.input("o-1", Input::TimerFired).unwrap_err();
    assert!(matches!(error, SagaError::Changed { version: 1, .. }), "{error}");
    assert_eq!(error.class(), Class::Fatal);
}

#[test]
fn the_newest_version_is_started_and_none_may_be_registered_twice() {
    let mut b = amarra_saga::Saga::builder::<Order>("order", 2);
    let order = b.input();
    b.compensatable("reserve", &order, crate::support::Reserve);
    let sagas = Sagas::new("/orders").with(order_saga()).unwrap();
    let sagas = sagas.with(b.build().unwrap()).unwrap();
    let error = sagas.clone().with(order_saga()).unwrap_err();
    assert!(matches!(error, SagaError::Doubled { version: 1, .. }), "{error}");
    let service = Service::new(sagas);
    service.start("order", "o-1", &self::order());
    assert_eq!(service.log("o-1").version, 2);
}

#[test]
fn starting_an_unknown_definition_says_so() {
    let service = service();
    let id = SagaId::from("o-1");
    let start =
        |session: &mut Session<'_>| run(service.sagas.start(session, "odrer", &id, &order()));
    let error = service.unit(start).unwrap_err();
    assert!(matches!(error, SagaError::NoDefinition { version: None, .. }), "{error}");
}

#[test]
fn a_log_past_its_bound_is_folded_and_still_gives_the_same_state() {
    let sagas = Sagas::new("/orders").with(order_saga()).unwrap();
    assert!(sagas.clone().configure(SagasConfig { log_events_max: 1 }).is_err());
    let service = Service::new(sagas.configure(SagasConfig { log_events_max: 8 }).unwrap());
    let whole = started();
    service.start("order", "o-1", &order());
    let both = |input: Input| {
        service.input("o-1", input.clone()).unwrap();
        whole.input("o-1", input).unwrap();
    };
    both(Input::completed("reserve", json!(7)));
    for _ in 0..40 {
        both(Input::unknown("capture", "lost"));
        service.time.advance(Duration::from_secs(60));
        whole.time.advance(Duration::from_secs(60));
        both(Input::TimerFired);
    }
    let log = service.log("o-1");
    assert!(log.events.len() <= 8, "{} entries", log.events.len());
    assert!(whole.log("o-1").events.len() > 80);
    assert_eq!(log.replay(), whole.log("o-1").replay());
}

#[test]
fn a_lost_transaction_keeps_its_class_on_the_way_out() {
    let service = started();
    service.store.fail_commits(&[crate::support::Fault::Serialization]);
    let error = service.input("o-1", Input::TimerFired).unwrap_err();
    assert_eq!(tx(&error), &TxError::Serialization);
    assert_eq!(error.class(), Class::Transient);
    let handler: amarra_store::HandlerError = error.into();
    assert_eq!(handler.class(), Class::Transient);
    let handler: amarra_store::HandlerError = SagaError::NotFound(SagaId::from("o")).into();
    assert_eq!(handler.class(), Class::Rejected);
}

#[test]
fn the_way_back_is_told_to_the_owner() {
    let service = started();
    service.input("o-1", Input::completed("reserve", json!(7))).unwrap();
    let progress = service.input("o-1", Input::rejected("capture", "declined")).unwrap();
    let steps = [
        Transition::Rejected { step: "capture".into(), why: "declined".into() },
        Transition::Unwinding { cause: Cause::Rejected(StepIndex(1)) },
        Transition::Sent { step: "reserve".into(), op: Op::Compensation, attempt: 1 },
    ];
    assert_eq!(progress.transitions, steps);
    let failed = Input::CompensationFailed {
        step: "reserve".into(),
        class: Class::Rejected,
        why: "no such reservation".into(),
    };
    let progress = service.input("o-1", failed).unwrap();
    let parked = Transition::Parked { step: "reserve".into(), why: "no such reservation".into() };
    assert_eq!((progress.transitions, progress.status), (vec![parked], Status::NeedsOperator));
    let progress = service.input("o-1", Input::undone("reserve")).unwrap();
    let undone = Transition::Undone { step: "reserve".into() };
    assert_eq!(progress.transitions, [undone, Transition::Ended(End::Compensated)]);
    let progress = service.input("o-1", Input::completed("capture", json!("psp-1"))).unwrap();
    let late = Transition::LateSuccess { step: "capture".into(), out: Arc::new(json!("psp-1")) };
    assert_eq!((progress.outcome, progress.transitions), (Outcome::LateSuccess, vec![late]));
}

#[test]
fn a_verb_that_comes_too_late_is_refused_and_no_bug() {
    let service = started();
    let abandon = || Input::Operator {
        by: Actor::Admin("root".into()),
        reason: "gone".into(),
        verb: Verb::Abandon,
    };
    service.input("o-1", abandon()).unwrap();
    assert_eq!(service.input("o-1", abandon()).unwrap_err().class(), Class::Rejected);
}
