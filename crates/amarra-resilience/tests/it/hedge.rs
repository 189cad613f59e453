//! Hedging: who wins, who pays, and what a drop leaves behind.

use std::cell::{Cell, RefCell};

use amarra_resilience::hedge::{Hedge, Winner, hedge};
use amarra_resilience::retry::{Budget, BudgetConfig};

use crate::support::{World, at, drain, ms};

fn budget() -> Budget {
    Budget::new(BudgetConfig { per_second_milli: 0, ..BudgetConfig::default() }).unwrap()
}

/// Each call takes so long and answers so.
type Script = [(u64, Result<u32, u32>); 2];

struct Run {
    answer: Result<(u32, Winner), u32>,
    calls: u32,
    millis: u64,
    tokens: u64,
}

fn run(budget: &Budget, script: Script) -> Run {
    let (world, env) = World::env(1);
    let calls = Cell::new(0);
    let call = |which: Winner| {
        calls.set(calls.get() + 1);
        let (millis, answer) = script[usize::from(which == Winner::Second)];
        let env = &env;
        async move {
            env.timer.sleep_until(env.monotonic().plus(ms(millis))).await;
            answer
        }
    };
    let answer = world.run(hedge(&env, Hedge { after: ms(50), budget }, call));
    let millis = u64::try_from(env.monotonic().since(at(0)).as_millis()).unwrap();
    Run { answer, calls: calls.get(), millis, tokens: budget.tokens(at(0)) }
}

#[test]
fn a_quick_answer_makes_no_second_call() {
    let got = run(&budget(), [(49, Ok(1)), (1, Ok(2))]);
    assert_eq!((got.answer, got.calls, got.tokens), (Ok((1, Winner::First)), 1, 10));
}

#[test]
fn a_late_answer_is_raced_and_paid_for() {
    let got = run(&budget(), [(500, Ok(1)), (20, Ok(2))]);
    assert_eq!((got.answer, got.millis), (Ok((2, Winner::Second)), 70));
    assert_eq!((got.calls, got.tokens), (2, 9), "HDG-1");
    let got = run(&budget(), [(60, Ok(1)), (20, Ok(2))]);
    assert_eq!((got.answer, got.millis), (Ok((1, Winner::First)), 60));
}

/// HDG-1.
#[test]
fn what_cannot_be_paid_is_not_made() {
    let budget = budget();
    drain(&budget, at(0));
    let got = run(&budget, [(500, Ok(1)), (20, Ok(2))]);
    assert_eq!((got.answer, got.calls, got.millis), (Ok((1, Winner::First)), 1, 500));
}

/// HDG-2.
#[test]
fn a_failure_waits_for_the_other_call() {
    let got = run(&budget(), [(60, Err(1)), (100, Ok(2))]);
    assert_eq!((got.answer, got.millis), (Ok((2, Winner::Second)), 150));
    let got = run(&budget(), [(500, Ok(1)), (20, Err(2))]);
    assert_eq!((got.answer, got.millis), (Ok((1, Winner::First)), 500));
    let got = run(&budget(), [(100, Err(1)), (20, Err(2))]);
    assert_eq!((got.answer, got.millis), (Err(1), 100));
    let got = run(&budget(), [(10, Err(1)), (20, Ok(2))]);
    assert_eq!((got.answer, got.calls), (Err(1), 1), "early failures are for retry");
}

#[test]
fn dropping_it_drops_both_calls() {
    let (world, env) = World::env(1);
    let budget = budget();
    let dropped = RefCell::new(Vec::new());
    struct Note<'a>(&'a RefCell<Vec<Winner>>, Winner);
    impl Drop for Note<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().push(self.1);
        }
    }
    let call = |which| {
        let note = Note(&dropped, which);
        async move {
            std::future::pending::<()>().await;
            drop(note);
            Ok::<(), ()>(())
        }
    };
    let mut racing = Box::pin(hedge(&env, Hedge { after: ms(50), budget: &budget }, call));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(racing.as_mut().poll(&mut cx).is_pending());
    world.advance(ms(50));
    assert!(racing.as_mut().poll(&mut cx).is_pending());
    assert!(dropped.borrow().is_empty());
    drop(racing);
    let mut dropped = dropped.into_inner();
    dropped.sort_by_key(|winner| *winner == Winner::Second);
    assert_eq!(dropped, [Winner::First, Winner::Second]);
    assert_eq!(world.sleeping(), 0);
}
