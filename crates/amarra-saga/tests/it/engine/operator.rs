//! Operator verbs: what they do, where they are refused, and that they are on record.

use std::sync::Arc;

use amarra_core::{Actor, Class};
use amarra_saga::engine::{INTERVENTIONS_MAX, Illegal};
use amarra_saga::{Input, Op, Outcome, Resolution, Status, Verb};
use serde_json::json;

use super::Run;
use crate::specs::{R, define, policy, saga3, saga3_pivot};

fn verb(verb: Verb) -> Input {
    Input::Operator { by: Actor::Admin("root".into()), reason: "ticket 7".into(), verb }
}

fn retry(step: &str) -> Input {
    verb(Verb::Retry { step: step.into() })
}

fn skip(step: &str) -> Input {
    verb(Verb::Skip { step: step.into(), output: Arc::new(json!(1)) })
}

fn resolve(step: &str, as_: Resolution) -> Input {
    verb(Verb::Resolve { step: step.into(), as_ })
}

fn done() -> Resolution {
    Resolution::Done(Arc::new(json!(1)))
}

fn parked_compensation() -> Run {
    let mut run = Run::started(saga3());
    run.done("a");
    run.ok(Input::rejected("b", "no"));
    let no = Input::CompensationFailed { step: "a".into(), class: Class::Fatal, why: "no".into() };
    run.ok(no);
    run
}

#[test]
fn retry_tries_a_parked_operation_again_with_a_fresh_budget() {
    let mut run = parked_compensation();
    let busy = || Input::CompensationFailed {
        step: "a".into(),
        class: Class::Transient,
        why: "no".into(),
    };
    assert_eq!(run.ok(retry("a")), "operator a~1");
    assert_eq!(run.ok(busy()), "a.");
    assert_eq!(run.after(4), "a~2");
    assert_eq!(run.ok(busy()), "a#", "its attempts ran out");
    assert_eq!(run.ok(retry("a")), "operator a~1");
    assert_eq!(run.ok(busy()), "a.", "and it has new ones");
    assert_eq!(run.ok(retry("a")), "operator a~2", "not waiting for the backoff");
    assert!(matches!(run.give(retry("a")), Err(Illegal::Verb { verb: "retry", .. })));
    assert!(matches!(run.give(retry("c")), Err(Illegal::Verb { .. })));
}

#[test]
fn retry_tries_a_parked_step_again() {
    let mut run = Run::started(define(&[(R, &[])], None, policy()));
    run.ok(Input::rejected("a", "no"));
    assert_eq!(run.ok(retry("a")), "operator a!1");
    assert_eq!(run.done("a"), "a+ completed");
}

#[test]
fn skip_takes_an_output_for_a_step_and_goes_on() {
    let mut run = Run::started(saga3());
    assert_eq!(run.ok(skip("a")), "operator a+ b!1");
    assert!(matches!(run.give(skip("a")), Err(Illegal::Verb { verb: "skip", .. })));
    assert!(matches!(run.give(skip("c")), Err(Illegal::Verb { .. })));
    run.ok(Input::rejected("b", "no"));
    assert!(matches!(run.give(skip("a")), Err(Illegal::Verb { .. })), "it is being undone");
}

#[test]
fn compensate_now_undoes_until_the_pivot_is_sent() {
    let mut run = Run::started(saga3_pivot());
    assert_eq!(run.ok(verb(Verb::CompensateNow)), "operator unwind a? a~1");
    assert_eq!(run.outcome(verb(Verb::CompensateNow)), Outcome::Stale);
    let mut run = Run::started(saga3_pivot());
    run.done("a");
    assert_eq!(run.outcome(verb(Verb::CompensateNow)), Outcome::TooLate);
}

#[test]
fn abandon_ends_the_saga_where_it_stands() {
    let mut run = Run::started(saga3());
    assert_eq!(run.ok(verb(Verb::Abandon)), "operator abandoned");
    assert_eq!((run.status(), run.due()), (Status::Abandoned, None));
    for input in [
        Input::completed("a", json!(1)),
        Input::rejected("a", "no"),
        Input::TimerFired,
        Input::Cancel { reason: "late".into() },
        Input::LocalQueued { step: "a".into(), op: Op::Action },
    ] {
        assert_eq!(run.outcome(input), Outcome::Stale);
    }
    assert_eq!(run.give(verb(Verb::Abandon)), Err(Illegal::Ended));
    assert_eq!(run.after(1_000), "", "nor does time bring anything on");
}

#[test]
fn an_abandoned_saga_is_not_undone_any_further() {
    let mut run = Run::started(saga3());
    run.done("a");
    run.ok(Input::rejected("b", "no"));
    run.ok(verb(Verb::Abandon));
    assert_eq!(run.outcome(Input::undone("a")), Outcome::Stale);
    let failed =
        Input::CompensationFailed { step: "a".into(), class: Class::Transient, why: "busy".into() };
    assert_eq!(run.outcome(failed), Outcome::Stale);
    assert_eq!(run.status(), Status::Abandoned);
}

#[test]
fn an_abandoned_saga_begins_no_local_call() {
    let mut run = Run::started(saga3());
    run.ok(Input::LocalQueued { step: "a".into(), op: Op::Action });
    run.ok(verb(Verb::Abandon));
    assert!(amarra_saga::engine::queued(&run.state).is_empty());
    let begin = Input::LocalStarted { step: "a".into(), op: Op::Action };
    assert_eq!(run.outcome(begin), Outcome::Stale);
}

#[test]
fn resolve_settles_an_action_either_way() {
    let mut run = Run::started(saga3_pivot());
    assert_eq!(run.ok(resolve("a", done())), "operator a+ b!1");
    assert_eq!(run.ok(resolve("b", Resolution::NotDone)), "operator b- unwind a~1");
    assert!(matches!(run.give(resolve("b", done())), Err(Illegal::Verb { .. })));
}

#[test]
fn resolve_asks_for_a_retriable_step_again_when_it_is_not_done() {
    let mut run = Run::started(define(&[(R, &[])], None, policy()));
    run.ok(Input::rejected("a", "no"));
    assert_eq!(run.ok(resolve("a", Resolution::NotDone)), "operator a!1");
}

#[test]
fn resolve_settles_a_compensation_either_way() {
    let mut run = parked_compensation();
    assert_eq!(run.ok(resolve("a", Resolution::NotDone)), "operator a~1");
    assert_eq!(run.ok(resolve("a", Resolution::Done(Arc::default()))), "operator a^ compensated");
}

#[test]
fn verbs_name_steps_that_exist() {
    let mut run = Run::started(saga3());
    for input in [retry("z"), skip("z"), resolve("z", done())] {
        assert_eq!(run.give(input), Err(Illegal::NoSuchStep("z".into())));
    }
}

#[test]
fn every_intervention_is_on_record_with_actor_and_reason() {
    let mut run = Run::started(saga3());
    run.ok(skip("a"));
    let [note] = run.state.interventions() else { panic!("one intervention") };
    assert_eq!(note.by, Actor::Admin("root".into()));
    assert_eq!(note.reason.as_ref(), "ticket 7");
    assert_eq!(note.at, run.now);
    assert!(matches!(&note.verb, Verb::Skip { step, .. } if step.as_ref() == "a"));
}

#[test]
fn the_record_of_interventions_is_bounded_and_keeps_the_newest() {
    let mut run = parked_compensation();
    for _ in 0..INTERVENTIONS_MAX {
        run.ok(resolve("a", Resolution::NotDone));
    }
    run.ok(resolve("a", Resolution::Done(Arc::default())));
    assert_eq!(run.state.interventions().len(), INTERVENTIONS_MAX);
    let last = &run.state.interventions().last().unwrap().verb;
    assert!(matches!(last, Verb::Resolve { as_: Resolution::Done(_), .. }));
}
