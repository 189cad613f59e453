//! The way forward: order, outcomes, retries, and inputs that change nothing.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::Class;
use amarra_saga::engine::{self, Illegal, Phase, State};
use amarra_saga::{Cause, Definition, Input, Op, Outcome, Policy, SagaId, Status};
use serde_json::json;

use super::Run;
use crate::specs::{C, R, define, diamond, policy, saga3, saga3_pivot};

/// SGA-3.
#[test]
fn steps_are_asked_for_once_all_they_depend_on_is_done() {
    let (mut run, started) = Run::start(diamond());
    assert_eq!(started, "start a!1");
    assert_eq!(run.done("a"), "a+ b!1 c!1");
    assert_eq!(run.done("c"), "c+");
    assert_eq!(run.done("b"), "b+ d!1");
    assert_eq!(run.done("d"), "d+ completed");
    assert_eq!((run.status(), run.due()), (Status::Completed, None));
}

#[test]
fn every_root_is_asked_for_at_once() {
    let refund = define(&[(R, &[]), (R, &[])], None, policy());
    let (mut run, started) = Run::start(refund);
    assert_eq!(started, "start a!1 b!1");
    assert_eq!(run.done("b"), "b+");
    assert_eq!(run.done("a"), "a+ completed");
}

/// SGA-2.
#[test]
fn starting_twice_and_repeating_a_reply_are_stale() {
    let mut run = Run::started(saga3());
    let again = Input::Start { id: SagaId::from("s-1"), input: Arc::default() };
    assert_eq!(run.outcome(again), Outcome::Stale);
    run.done("a");
    assert_eq!(run.outcome(Input::completed("a", json!(2))), Outcome::Stale);
    assert_eq!(run.outcome(Input::rejected("a", "no")), Outcome::Stale);
    assert_eq!(run.outcome(Input::unknown("a", "lost")), Outcome::Stale);
    assert_eq!(run.outcome(Input::undone("a")), Outcome::Stale);
    assert_eq!(run.outcome(Input::TimerFired), Outcome::Stale);
}

#[test]
fn a_reply_of_a_step_that_was_not_asked_for_is_stale() {
    let mut run = Run::started(saga3());
    assert_eq!(run.outcome(Input::completed("c", json!(1))), Outcome::Stale);
    assert_eq!(run.outcome(Input::rejected("c", "no")), Outcome::Stale);
}

#[test]
fn inputs_that_make_no_sense_are_refused_by_name() {
    let mut run = Run::started(saga3());
    let error = run.give(Input::completed("zzz", json!(1))).unwrap_err();
    assert_eq!(error, Illegal::NoSuchStep("zzz".into()));
    let mut absent = State::default();
    let error = engine::handle(&saga3(), &mut absent, Input::TimerFired, run.now).unwrap_err();
    assert_eq!(error, Illegal::NotStarted);
    let error = engine::decide(&diamond(), &run.state, Input::TimerFired, run.now).unwrap_err();
    assert_eq!(error, Illegal::OtherDefinition { log: 3, definition: 4 });
}

#[test]
fn replies_after_the_end_are_stale() {
    let mut run = Run::started(saga3());
    for step in ["a", "b", "c"] {
        run.done(step);
    }
    assert_eq!(run.outcome(Input::completed("c", json!(1))), Outcome::Stale);
    assert_eq!(run.outcome(Input::rejected("c", "no")), Outcome::Stale);
    assert_eq!(run.after(1_000), "");
}

#[test]
fn the_timer_is_the_earliest_of_timeouts_and_deadline() {
    let run = Run::started(define(&[(C, &[])], Some(Duration::from_secs(3)), policy()));
    assert_eq!(run.due(), Some(Duration::from_secs(3)));
    let run = Run::started(define(&[(C, &[])], Some(Duration::from_secs(60)), policy()));
    assert_eq!(run.due(), Some(Duration::from_secs(10)));
}

fn patient() -> Definition {
    define(&[(C, &[]), (C, &[0])], None, Policy { attempts_max: 3, ..policy() })
}

#[test]
fn a_step_is_tried_again_after_a_backoff_until_its_attempts_run_out() {
    let mut run = Run::started(patient());
    run.done("a");
    assert_eq!(run.ok(Input::unknown("b", "lost")), "b.");
    let wait = run.due().unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
    assert_eq!(run.after(1), "b!2");
    assert_eq!(run.after(10), "b.", "a timeout counts as an attempt");
    assert_eq!(run.after(2), "b!3");
    assert_eq!(run.after(10), "b? unwind b~1");
    assert_eq!(
        *run.state.phase(),
        Phase::Unwinding(Cause::Unknown(amarra_saga::definition::StepIndex(1)))
    );
}

#[test]
fn a_duplicate_of_a_failed_attempts_answer_does_not_count_again() {
    let mut run = Run::started(patient());
    assert_eq!(run.ok(Input::unknown("a", "lost")), "a.");
    assert_eq!(run.outcome(Input::unknown("a", "lost")), Outcome::Stale);
}

#[test]
fn a_success_that_comes_during_the_backoff_counts() {
    let mut run = Run::started(patient());
    assert_eq!(run.after(10), "a.");
    assert_eq!(run.done("a"), "a+ b!1");
}

#[test]
fn a_refusal_is_never_retried() {
    let mut run = Run::started(patient());
    run.done("a");
    assert_eq!(run.ok(Input::rejected("b", "no")), "b- unwind a~1");
}

#[test]
fn a_fatal_failure_is_not_retried_and_counts_as_unknown() {
    let mut run = Run::started(patient());
    let fatal = Input::StepFailed { step: "a".into(), class: Class::Fatal, why: "corrupt".into() };
    assert_eq!(run.ok(fatal), "a? unwind a~1");
}

#[test]
fn not_applied_is_believed_of_a_local_call_and_not_of_a_command() {
    let transient =
        || Input::StepFailed { step: "a".into(), class: Class::Transient, why: "busy".into() };
    let mut command = Run::started(saga3());
    assert_eq!(command.ok(transient()), "a? unwind a~1");
    let mut local = Run::started(saga3());
    local.ok(Input::LocalQueued { step: "a".into(), op: Op::Action });
    local.ok(Input::LocalStarted { step: "a".into(), op: Op::Action });
    assert_eq!(local.ok(transient()), "a- unwind compensated");
}

#[test]
fn one_unsure_attempt_makes_the_step_unknown_whatever_the_last_one_said() {
    let mut run = Run::started(patient());
    let begin = |run: &mut Run| {
        run.ok(Input::LocalQueued { step: "a".into(), op: Op::Action });
        run.ok(Input::LocalStarted { step: "a".into(), op: Op::Action });
    };
    begin(&mut run);
    assert_eq!(run.after(10), "a.");
    for n in [2, 3] {
        assert_eq!(run.after(4), format!("a!{n}"));
        begin(&mut run);
        let busy =
            Input::StepFailed { step: "a".into(), class: Class::Transient, why: "busy".into() };
        run.ok(busy);
    }
    assert_eq!(run.status(), Status::Compensating, "the first attempt may have had an effect");
}

#[test]
fn the_pivot_and_what_follows_are_tried_for_ever() {
    let mut run = Run::started(saga3_pivot());
    run.done("a");
    for n in 2..40 {
        assert_eq!(run.after(10), "b.");
        let wait = run.due().unwrap();
        assert!(wait <= Duration::from_secs(4), "{wait:?} is above the cap");
        assert_eq!(run.after(4), format!("b!{n}"));
    }
    run.done("b");
    for n in 2..40 {
        assert_eq!(run.ok(Input::unknown("c", "lost")), "c.");
        assert_eq!(run.after(4), format!("c!{n}"));
    }
    assert_eq!(run.done("c"), "c+ completed");
}

#[test]
fn a_refused_retriable_step_parks_and_its_siblings_go_on() {
    let refund = define(&[(R, &[]), (R, &[])], None, policy());
    let mut run = Run::started(refund);
    assert_eq!(run.ok(Input::rejected("a", "account closed")), "a#");
    assert_eq!(run.status(), Status::Running, "the other one goes on");
    assert_eq!(run.outcome(Input::rejected("a", "account closed")), Outcome::Stale);
    assert_eq!(run.done("b"), "b+");
    assert_eq!((run.status(), run.due()), (Status::NeedsOperator, None));
    assert_eq!(run.done("a"), "a+ completed", "it succeeded after all");
}

#[test]
fn a_fatal_failure_after_the_point_of_no_return_parks() {
    let fatal = |step: &str| Input::StepFailed {
        step: step.into(),
        class: Class::Fatal,
        why: "bug".into(),
    };
    let mut run = Run::started(saga3_pivot());
    run.done("a");
    assert_eq!(run.ok(fatal("b")), "b#");
    assert_eq!((run.status(), run.due()), (Status::NeedsOperator, None));
    run.done("b");
    assert_eq!(run.ok(fatal("c")), "c#");
}

#[test]
fn a_local_call_is_queued_begun_and_ended_in_that_order() {
    let mut run = Run::started(saga3());
    let (step, op) = (Arc::<str>::from("a"), Op::Action);
    let begin = || Input::LocalStarted { step: step.clone(), op };
    assert_eq!(run.outcome(begin()), Outcome::Stale, "it is not queued");
    let other = Input::LocalQueued { step: step.clone(), op: Op::Compensation };
    assert_eq!(run.outcome(other), Outcome::Stale);
    assert_eq!(run.ok(Input::LocalQueued { step: step.clone(), op }), "a@");
    assert_eq!(engine::queued(&run.state).len(), 1);
    assert_eq!(run.due(), Some(Duration::ZERO), "somebody has to begin it");
    let other = Input::LocalStarted { step: step.clone(), op: Op::Compensation };
    assert_eq!(run.outcome(other), Outcome::Stale);
    assert_eq!(run.ok(begin()), "a%");
    assert_eq!(run.outcome(begin()), Outcome::Stale, "nobody else may begin it");
    assert!(engine::local_in_flight(&run.state, run.now));
    assert!(!engine::local_in_flight(&run.state, run.now.plus(Duration::from_secs(10))));
    assert_eq!(run.done("a"), "a+ b!1");
    assert!(!engine::local_in_flight(&run.state, run.now));
}

#[test]
fn a_thousand_wide_stages_take_a_thousand_small_steps() {
    // All-to-all stages of two: the number of paths doubles with each, so that any walk along paths
    // instead of steps would never end.
    let mut steps: Vec<(amarra_saga::definition::Kind, Vec<u16>)> = vec![(C, vec![]), (C, vec![])];
    for stage in 1..500u16 {
        let before = vec![stage * 2 - 2, stage * 2 - 1];
        steps.extend([(C, before.clone()), (C, before)]);
    }
    let specs = steps
        .iter()
        .enumerate()
        .map(|(at, (kind, after))| crate::specs::spec(&format!("s{at}"), *kind, after, policy()));
    let ladder = Definition::new("ladder", 1, None, specs.collect()).unwrap();
    let mut state = State::default();
    let now = amarra_core::Timestamp::from_micros(0);
    let mut give = |input| engine::handle(&ladder, &mut state, input, now).unwrap().events.len();
    give(Input::Start { id: SagaId::from("s-1"), input: Arc::default() });
    let mut events = 0;
    for at in 0..999 {
        events += give(Input::completed(&format!("s{at}"), json!(at)));
    }
    give(Input::rejected("s999", "no"));
    for at in (0..999).rev() {
        events += give(Input::undone(&format!("s{at}")));
    }
    assert_eq!(state.status(), Status::Compensated);
    assert!(events < 5_000, "{events} events");
}
