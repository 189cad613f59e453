//! Retry: which failures, how often, how soon, and what it says when it gives up.

use std::cell::RefCell;

use amarra_core::{Class, Classify, Monotonic};
use amarra_resilience::deadline::Deadline;
use amarra_resilience::retry::{Attempt, Budget, BudgetConfig, Plan, retry};
use amarra_resilience::{Error, Failed, Jitter, Policy, Stop};

use crate::support::{Says, World, at, ms};

const NO_JITTER: fn() -> Policy = || Policy { jitter: Jitter::None, ..Policy::default() };

struct Run {
    result: Result<u32, Failed<Says>>,
    started: Vec<Monotonic>,
}

/// Answers try n with the n-th class, then succeeds with the number of the try.
fn run(policy: &Policy, budget: Option<&Budget>, bounds: (u64, bool), classes: &[Class]) -> Run {
    let (world, env) = World::env(1);
    let (patience, idempotent) = bounds;
    let deadline = Deadline::after(at(0), ms(patience), 3);
    let started = RefCell::new(Vec::new());
    let call = |attempt: Attempt| {
        started.borrow_mut().push(env.monotonic());
        let class = classes.get(attempt.number as usize - 1).copied();
        async move { class.map_or(Ok(attempt.number), |class| Err(Says(class))) }
    };
    let result = world.run(retry(&env, Plan { policy, budget, deadline, idempotent }, call));
    Run { result, started: started.into_inner() }
}

/// RTY-2.
#[test]
fn each_class_is_retried_or_not() {
    let check = |class, idempotent, expect: Result<u32, Stop>| {
        let run = run(&NO_JITTER(), None, (10_000, idempotent), &[class]);
        assert_eq!(run.result.map_err(|f| f.stop), expect, "{class} {idempotent}");
    };
    check(Class::Transient, false, Ok(2));
    check(Class::Unknown, true, Ok(2));
    check(Class::Unknown, false, Err(Stop::Class));
    check(Class::Conflict, true, Err(Stop::Class));
    check(Class::Rejected, true, Err(Stop::Class));
    check(Class::Fatal, true, Err(Stop::Class));
}

/// RTY-1.
#[test]
fn attempts_and_the_waits_between_them_are_bounded() {
    let policy = Policy { attempts_max: 4, ..NO_JITTER() };
    let run = run(&policy, None, (10_000, true), &[Class::Transient; 9]);
    let failed = run.result.unwrap_err();
    assert_eq!((failed.attempts, failed.stop), (4, Stop::Attempts));
    assert_eq!(run.started, [at(0), at(50), at(150), at(350)]);
    assert_eq!(failed.into_call(), Some(Says(Class::Transient)));
}

/// RTY-3.
#[test]
fn no_try_is_started_that_cannot_finish() {
    let policy = Policy { attempts_max: 9, attempt_min: ms(20), ..NO_JITTER() };
    let check = |patience, starts: &[Monotonic]| {
        let run = run(&policy, None, (patience, true), &[Class::Transient; 9]);
        assert_eq!(run.result.unwrap_err().stop, Stop::Deadline);
        assert_eq!(run.started, starts, "{patience} ms");
    };
    check(69, &[at(0)]);
    check(70, &[at(0), at(50)]);
    check(169, &[at(0), at(50)]);
    check(170, &[at(0), at(50), at(150)]);
    check(19, &[]);
    let refused = run(&policy, None, (19, true), &[]).result.unwrap_err();
    assert_eq!((refused.error, refused.attempts), (Error::DeadlinePassed, 0));
}

#[test]
fn a_try_that_hangs_ends_with_the_deadline_in_doubt() {
    let (world, env) = World::env(1);
    let policy = NO_JITTER();
    let deadline = Deadline::after(at(0), ms(500), 3);
    let plan = Plan { policy: &policy, budget: None, deadline, idempotent: true };
    let hang = |_| std::future::pending::<Result<(), Says>>();
    let failed = world.run(retry(&env, plan, hang)).unwrap_err();
    assert_eq!(failed.error, Error::TimedOut { after: ms(500) });
    assert_eq!((failed.class(), env.monotonic()), (Class::Unknown, at(500)));
}

#[test]
fn an_earlier_doubt_outlives_a_later_certainty() {
    let check = |classes: [Class; 2], expect| {
        let policy = Policy { attempts_max: 2, retry_conflict: true, ..NO_JITTER() };
        let failed = run(&policy, None, (10_000, true), &classes).result.unwrap_err();
        assert_eq!(failed.class(), expect, "{classes:?}");
    };
    check([Class::Unknown, Class::Transient], Class::Unknown);
    check([Class::Unknown, Class::Conflict], Class::Unknown);
    check([Class::Unknown, Class::Rejected], Class::Rejected);
    check([Class::Transient, Class::Transient], Class::Transient);
    check([Class::Conflict, Class::Conflict], Class::Conflict);
}

/// RTY-4.
#[test]
fn an_empty_budget_stops_and_a_first_try_is_never_charged() {
    let config = BudgetConfig { per_second_milli: 0, tokens_max: 1, ..BudgetConfig::default() };
    let budget = Budget::new(config).unwrap();
    let classes = [Class::Transient; 9];
    let failed = run(&NO_JITTER(), Some(&budget), (10_000, true), &classes).result.unwrap_err();
    assert_eq!((failed.attempts, failed.stop), (2, Stop::Budget));
    // Nine more first tries earn nine tenths; the first one's own tenth was earned at a full purse.
    for expect in [0, 0, 0, 0, 0, 0, 0, 0, 0, 1] {
        let run = run(&NO_JITTER(), Some(&budget), (10_000, true), &[]);
        assert_eq!(run.result.unwrap(), 1);
        assert_eq!(budget.tokens(at(0)), expect);
    }
}

#[test]
fn a_call_circle_ends() {
    let (world, env) = World::env(1);
    let policy = NO_JITTER();
    let deadline = Deadline::after(at(0), ms(500), 0);
    let plan = Plan { policy: &policy, budget: None, deadline, idempotent: true };
    let failed = world.run(retry(&env, plan, |_| async { Ok::<_, Says>(()) })).unwrap_err();
    assert_eq!((failed.error, failed.attempts), (Error::HopsExhausted, 0));
}

#[test]
fn the_callee_is_given_what_is_left_and_one_hop_less() {
    let (world, env) = World::env(1);
    let policy = NO_JITTER();
    let deadline = Deadline::after(at(0), ms(500), 3);
    let plan = Plan { policy: &policy, budget: None, deadline, idempotent: true };
    let headers = RefCell::new(Vec::new());
    let call = |attempt: Attempt| {
        headers.borrow_mut().push(attempt.deadline.encode(env.monotonic()));
        async { Err::<(), _>(Says(Class::Transient)) }
    };
    let _ = world.run(retry(&env, plan, call));
    assert_eq!(*headers.borrow(), ["500;hops=2", "450;hops=2", "350;hops=2"]);
}

#[test]
fn decorrelated_waits_grow_from_one_another() {
    let policy = Policy { attempts_max: 20, jitter: Jitter::Decorrelated, ..Policy::default() };
    let run = run(&policy, None, (1_000_000, true), &[Class::Transient; 20]);
    let waits: Vec<_> = run.started.windows(2).map(|w| w[1].since(w[0])).collect();
    assert!(waits.iter().any(|w| *w > policy.base * 3), "{waits:?}");
}

#[test]
fn a_deadline_that_is_now_is_past_however_short_a_try_may_be() {
    let policy = Policy { attempt_min: ms(0), ..NO_JITTER() };
    let failed = run(&policy, None, (0, true), &[]).result.unwrap_err();
    assert_eq!((failed.stop, failed.attempts), (Stop::Deadline, 0));
}

/// RTY-3, when the timer wakes up too late.
#[test]
fn a_try_whose_time_is_gone_is_not_started() {
    let (world, env) = World::env(1);
    let budget = Budget::new(BudgetConfig { per_second_milli: 0, ..BudgetConfig::default() });
    let (policy, budget) = (NO_JITTER(), budget.unwrap());
    let deadline = Deadline::after(at(0), ms(100), 3);
    let plan = Plan { policy: &policy, budget: Some(&budget), deadline, idempotent: true };
    let fail = |_| async { Err::<(), _>(Says(Class::Transient)) };
    let mut running = Box::pin(retry(&env, plan, fail));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(running.as_mut().poll(&mut context).is_pending());
    world.advance(ms(96));
    let failed = world.run(running).unwrap_err();
    assert_eq!((failed.stop, failed.attempts), (Stop::Deadline, 1));
    assert_eq!(budget.tokens(at(0)), 10, "what was not sent is not paid");
}
