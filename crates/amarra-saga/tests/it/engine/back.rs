//! The way back: order, what is undone and what is not, failing compensations, late successes.

use std::time::Duration;

use amarra_core::Class;
use amarra_saga::engine::Phase;
use amarra_saga::{Cause, Input, Op, Outcome, Policy, Status};
use serde_json::json;

use super::Run;
use crate::specs::{C, R, define, diamond, diamond_reversible, policy, saga3, saga3_pivot};

fn cancel() -> Input {
    Input::Cancel { reason: "changed my mind".into() }
}

fn failed(step: &str, class: Class) -> Input {
    Input::CompensationFailed { step: step.into(), class, why: "no".into() }
}

/// SGA-5.
#[test]
fn steps_are_undone_in_reverse_and_the_refused_one_is_not() {
    let mut run = Run::started(saga3());
    run.done("a");
    run.done("b");
    assert_eq!(run.ok(Input::rejected("c", "no")), "c- unwind b~1");
    assert_eq!(run.undone("b"), "b^ a~1");
    assert_eq!(run.undone("a"), "a^ compensated");
    assert_eq!((run.status(), run.due()), (Status::Compensated, None));
}

/// SGA-5.
#[test]
fn an_unknown_step_is_undone_first() {
    let mut run = Run::started(saga3());
    run.done("a");
    assert_eq!(run.after(10), "b? unwind b~1");
    assert_eq!(run.undone("b"), "b^ a~1");
    assert_eq!(run.undone("a"), "a^ compensated");
}

#[test]
fn a_refused_first_step_leaves_nothing_to_undo() {
    let mut run = Run::started(saga3());
    assert_eq!(run.ok(Input::rejected("a", "no")), "a- unwind compensated");
}

/// SGA-4.
#[test]
fn a_join_is_undone_before_its_arms_and_both_arms_before_the_fork() {
    let mut run = Run::started(diamond_reversible());
    for step in ["a", "b", "c"] {
        run.done(step);
    }
    assert_eq!(run.ok(Input::unknown("d", "lost")), "d? unwind d~1");
    assert_eq!(run.undone("d"), "d^ b~1 c~1");
    assert_eq!(run.undone("c"), "c^");
    assert_eq!(run.undone("b"), "b^ a~1");
}

#[test]
fn a_sibling_under_way_is_undone_as_unknown() {
    let mut run = Run::started(diamond());
    run.done("a");
    assert_eq!(run.ok(Input::rejected("b", "no")), "b- unwind c? c~1");
    assert_eq!(run.outcome(Input::completed("c", json!(1))), Outcome::Stale, "undone already");
    assert_eq!(run.undone("c"), "c^ a~1");
}

#[test]
fn a_local_sibling_under_way_is_waited_for() {
    let local = |run: &mut Run, begin: bool| {
        run.done("a");
        run.ok(Input::LocalQueued { step: "c".into(), op: Op::Action });
        if begin {
            run.ok(Input::LocalStarted { step: "c".into(), op: Op::Action });
        }
        run.ok(Input::rejected("b", "no"))
    };
    let mut run = Run::started(diamond());
    assert_eq!(local(&mut run, true), "b- unwind");
    assert_eq!(run.done("c"), "c+ c~1", "it is done, and undone");

    let mut run = Run::started(diamond());
    local(&mut run, true);
    assert_eq!(run.ok(Input::rejected("c", "no")), "c- a~1", "nothing to undo");

    let mut run = Run::started(diamond());
    local(&mut run, true);
    assert_eq!(run.after(10), "c? c~1", "nobody knows");

    let mut run = Run::started(diamond());
    assert_eq!(local(&mut run, false), "b- unwind c0 a~1", "it never began");
}

#[test]
fn a_sibling_that_waits_for_its_next_attempt_is_undone_if_the_last_one_may_have_worked() {
    let steps: [(_, &[u16]); 3] = [(C, &[]), (C, &[]), (C, &[0, 1])];
    let patient = || define(&steps, None, Policy { attempts_max: 2, ..policy() });
    let mut run = Run::started(patient());
    run.ok(Input::unknown("b", "lost"));
    assert_eq!(run.ok(Input::rejected("a", "no")), "a- unwind b? b~1");

    let mut run = Run::started(patient());
    run.ok(Input::LocalQueued { step: "b".into(), op: Op::Action });
    run.ok(Input::LocalStarted { step: "b".into(), op: Op::Action });
    let busy = Input::StepFailed { step: "b".into(), class: Class::Transient, why: "busy".into() };
    assert_eq!(run.ok(busy), "b.");
    assert_eq!(run.ok(Input::rejected("a", "no")), "a- unwind b0 compensated");
}

#[test]
fn a_local_sibling_that_fails_while_undoing_is_not_tried_again() {
    let steps: [(_, &[u16]); 2] = [(C, &[]), (C, &[])];
    let mut run = Run::started(define(&steps, None, Policy { attempts_max: 3, ..policy() }));
    run.ok(Input::LocalQueued { step: "b".into(), op: Op::Action });
    run.ok(Input::LocalStarted { step: "b".into(), op: Op::Action });
    assert_eq!(run.ok(Input::rejected("a", "no")), "a- unwind");
    assert_eq!(run.ok(Input::unknown("b", "lost")), "b? b~1");
}

#[test]
fn cancelling_undoes_what_was_done_and_what_is_under_way() {
    let mut run = Run::started(saga3());
    run.done("a");
    assert_eq!(run.ok(cancel()), "unwind b? b~1");
    assert_eq!(*run.state.phase(), Phase::Unwinding(Cause::Cancelled("changed my mind".into())));
    assert_eq!(run.outcome(cancel()), Outcome::Stale);
    run.undone("b");
    run.undone("a");
    assert_eq!(run.outcome(cancel()), Outcome::Stale, "it is undone already");
}

/// SGA-6.
#[test]
fn cancelling_is_too_late_once_the_pivot_was_sent() {
    let mut run = Run::started(saga3_pivot());
    run.done("a");
    assert_eq!(run.outcome(cancel()), Outcome::TooLate);
    run.done("b");
    assert_eq!(run.outcome(cancel()), Outcome::TooLate);
    run.done("c");
    assert_eq!(run.outcome(cancel()), Outcome::TooLate);
    let mut forward_only = Run::started(define(&[(R, &[])], None, policy()));
    assert_eq!(forward_only.outcome(cancel()), Outcome::TooLate);
}

#[test]
fn a_refused_pivot_undoes_what_was_before_it() {
    let mut run = Run::started(saga3_pivot());
    run.done("a");
    assert_eq!(run.ok(Input::rejected("b", "declined")), "b- unwind a~1");
    assert_eq!(run.undone("a"), "a^ compensated");
}

#[test]
fn an_unknown_pivot_is_asked_again_and_undoes_nothing() {
    let mut run = Run::started(saga3_pivot());
    run.done("a");
    assert_eq!(run.ok(Input::unknown("b", "lost")), "b.");
    assert_eq!(run.after(1), "b!2");
    assert_eq!(run.ok(Input::rejected("b", "declined")), "b- unwind a~1");
}

#[test]
fn the_deadline_undoes_until_the_pivot_is_sent_and_never_after() {
    let steps: [(_, &[u16]); 2] = [(C, &[]), (crate::specs::P, &[0])];
    let hasty = || define(&steps, Some(Duration::from_secs(5)), policy());
    let mut run = Run::started(hasty());
    assert_eq!(run.after(5), "unwind a? a~1");
    assert_eq!(*run.state.phase(), Phase::Unwinding(Cause::Deadline));
    let mut run = Run::started(hasty());
    run.done("a");
    assert_eq!(run.after(5), "");
    assert_eq!(run.due(), Some(Duration::from_secs(5)), "the pivot's own timeout");
}

/// SGA-7.
#[test]
fn a_compensation_is_tried_again_and_parks_when_its_attempts_run_out() {
    let mut run = Run::started(saga3());
    run.done("a");
    run.ok(Input::rejected("b", "no"));
    assert_eq!(run.ok(failed("a", Class::Transient)), "a.");
    assert_eq!(run.outcome(failed("a", Class::Transient)), Outcome::Stale, "a duplicate");
    assert_eq!(run.after(1), "a~2");
    assert_eq!(run.after(10), "a#", "a timeout counts as an attempt");
    assert_eq!((run.status(), run.due()), (Status::NeedsOperator, None));
    assert_eq!(run.after(1_000), "", "no hot loop");
    assert_eq!(run.undone("a"), "a^ compensated", "it worked after all");
}

#[test]
fn a_compensation_that_is_refused_or_fatal_parks_at_once() {
    for class in [Class::Rejected, Class::Fatal] {
        let mut run = Run::started(saga3());
        run.done("a");
        run.ok(Input::rejected("b", "no"));
        assert_eq!(run.ok(failed("a", class)), "a#");
    }
}

/// SGA-7.
#[test]
fn siblings_go_on_beside_a_parked_compensation_and_ancestors_wait() {
    let mut run = Run::started(diamond());
    for step in ["a", "b", "c"] {
        run.done(step);
    }
    run.ok(Input::rejected("d", "declined"));
    assert_eq!(run.ok(failed("b", Class::Fatal)), "b#");
    assert_eq!(run.status(), Status::Compensating);
    assert_eq!(run.undone("c"), "c^", "a waits for b");
    assert_eq!(run.status(), Status::NeedsOperator);
    assert_eq!(run.undone("b"), "b^ a~1");
}

#[test]
fn a_success_after_the_step_was_undone_is_reported_once() {
    let mut run = Run::started(saga3());
    run.after(10);
    run.undone("a");
    assert_eq!(run.outcome(Input::completed("a", json!(1))), Outcome::LateSuccess);
    assert_eq!(run.outcome(Input::completed("a", json!(1))), Outcome::Stale);
    assert_eq!(run.status(), Status::Compensated);
}

#[test]
fn a_success_after_the_step_was_refused_is_reported() {
    let mut run = Run::started(saga3_pivot());
    run.done("a");
    run.ok(Input::rejected("b", "declined"));
    assert_eq!(run.outcome(Input::completed("b", json!(1))), Outcome::LateSuccess);
    assert_eq!(run.status(), Status::Compensating);
}

#[test]
fn a_success_of_a_step_that_was_taken_back_is_reported() {
    let steps: [(_, &[u16]); 2] = [(C, &[]), (C, &[])];
    let mut run = Run::started(define(&steps, None, policy()));
    run.ok(Input::LocalQueued { step: "b".into(), op: Op::Action });
    assert_eq!(run.ok(Input::rejected("a", "no")), "a- unwind b0 compensated");
    assert_eq!(run.outcome(Input::completed("b", json!(1))), Outcome::LateSuccess);
}

#[test]
fn nothing_is_asked_for_again_once_it_was_undone() {
    let mut run = Run::started(saga3());
    run.after(10);
    assert_eq!(run.outcome(Input::rejected("a", "no")), Outcome::Stale);
    run.undone("a");
    assert_eq!(run.outcome(Input::undone("a")), Outcome::Stale);
    assert_eq!(run.outcome(failed("a", Class::Transient)), Outcome::Stale);
    assert_eq!(run.after(1_000), "");
}
