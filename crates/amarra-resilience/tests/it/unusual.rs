//! Stages in an order of the caller's, and the stages that learn or race, within a pipeline.

use std::cell::Cell;
use std::sync::Arc;

use amarra_core::{Class, Classify};
use amarra_resilience::adaptive::{Adaptive, AdaptiveConfig};
use amarra_resilience::breaker::{Breaker, Mode, Reason, State};
use amarra_resilience::bulkhead::{Bulkhead, BulkheadConfig};
use amarra_resilience::limiter::{Limiter, LimiterConfig};
use amarra_resilience::pipeline::{AtDeadline, Builder};
use amarra_resilience::retry::{Budget, BudgetConfig};
use amarra_resilience::shed::{Priority, Shed};
use amarra_resilience::throttle::{Throttle, ThrottleConfig};
use amarra_resilience::{Attempt, CallOptions, Error, Jitter, Pipeline, Policy, Stop};

use crate::support::{Says, World, breaker, drain, exact, ms, trip};

fn start() -> Builder<AtDeadline> {
    Pipeline::builder("callee").deadline(ms(5000))
}

fn budget() -> Arc<Budget> {
    let config = BudgetConfig { per_second_milli: 0, ..BudgetConfig::default() };
    Arc::new(Budget::new(config).unwrap())
}

fn three() -> Policy {
    Policy { attempts_max: 3, jitter: Jitter::None, ..Policy::default() }
}

/// Fails so often, then succeeds.
fn failing(times: u32) -> impl FnMut(Attempt) -> std::future::Ready<Result<(), Says>> {
    let failed = Cell::new(0);
    move |_| {
        failed.set(failed.get() + 1);
        std::future::ready(if failed.get() <= times { Err(Says(Class::Transient)) } else { Ok(()) })
    }
}

/// PIP-1: outside of the retry a breaker sees what the call came to; inside, every try.
#[test]
fn a_breaker_sees_calls_or_tries_by_where_it_stands() {
    let (world, env) = World::env(1);
    let run = |outside: bool, failures| {
        let breaker = Arc::new(breaker(exact()).0);
        let pipeline = if outside {
            start().unusual_order().breaker(breaker.clone()).retry(three(), budget())
        } else {
            start().unusual_order().retry(three(), budget()).breaker(breaker.clone())
        };
        let pipeline = pipeline.timeout(ms(100)).unwrap();
        let call = pipeline.call(&env, CallOptions::default(), failing(failures));
        let ok = world.run(call).is_ok();
        (ok, breaker.snapshot().epoch)
    };
    assert_eq!(run(true, 2), (true, 0));
    assert_eq!(run(true, 3), (false, 1), "open");
    assert_eq!(run(false, 1), (true, 3), "open, probed and closed again");
}

/// A try that failed is no less of a failure because the next one was refused here.
#[test]
fn a_breaker_outside_of_the_retry_hears_of_a_failure_before_a_refusal() {
    let (world, env) = World::env(1);
    let breaker = Arc::new(breaker(exact()).0);
    let config = LimiterConfig { calls: 1, period: ms(60_000), burst: 1, ..Default::default() };
    let limiter = Arc::new(Limiter::new(config).unwrap());
    let pipeline = start().unusual_order().breaker(breaker.clone()).retry(three(), budget());
    let pipeline = pipeline.limiter(limiter).timeout(ms(100)).unwrap();
    let call = || world.run(pipeline.call(&env, CallOptions::default(), failing(3))).unwrap_err();
    assert!(matches!(call().error, Error::RateLimited { .. }), "the second try");
    assert_eq!(breaker.snapshot().state, State::Open);
    // What was not sent at all says nothing.
    breaker.set_mode(env.monotonic(), Mode::Disabled);
    breaker.set_mode(env.monotonic(), Mode::Automatic);
    assert!(matches!(call().error, Error::RateLimited { .. }), "the first try");
    assert_eq!(breaker.snapshot().state, State::Closed);
}

#[test]
fn what_stands_outside_of_the_retry_refuses_the_whole_call() {
    let (world, env) = World::env(1);
    let breaker = Arc::new(breaker(exact()).0);
    trip(&breaker, env.monotonic());
    let pipeline = start().unusual_order().breaker(breaker).retry(three(), budget());
    let pipeline = pipeline.timeout(ms(100)).unwrap();
    let failed = world.run(pipeline.call(&env, CallOptions::default(), failing(0))).unwrap_err();
    assert_eq!((failed.attempts, failed.stop), (0, Stop::Refused));
    assert!(matches!(failed.error, Error::BreakerOpen(r) if r.reason == Reason::Open));
    assert_eq!(failed.class(), Class::Transient);
}

/// A bulkhead outside of the breaker is asked first.
#[test]
fn gates_run_in_the_order_they_were_added_in() {
    let (world, env) = World::env(1);
    let breaker = Arc::new(Breaker::new("b", exact(), 1).unwrap());
    trip(&breaker, env.monotonic());
    let config = BulkheadConfig { concurrency_max: 1, queue_max: 0, ..BulkheadConfig::default() };
    let full = Arc::new(Bulkhead::new(config).unwrap());
    let until = env.monotonic().plus(ms(1));
    let held = world.run(full.acquire(&env, until)).unwrap();
    let ask = |pipeline: Pipeline| {
        world.run(pipeline.call(&env, CallOptions::default(), failing(0))).unwrap_err().error
    };
    let outside = start().unusual_order().bulkhead(full.clone()).breaker(breaker.clone());
    assert_eq!(ask(outside.timeout(ms(100)).unwrap()), Error::BulkheadFull);
    let usual = start().breaker(breaker).bulkhead(full.clone());
    assert!(matches!(ask(usual.timeout(ms(100)).unwrap()), Error::BreakerOpen(_)));
    drop(held);
}

#[test]
fn the_throttle_and_the_adaptive_limit_learn_from_answers() {
    let (world, env) = World::env(1);
    let throttle = Arc::new(Throttle::new(ThrottleConfig::default()).unwrap());
    let config = AdaptiveConfig { samples_min: 1, ..AdaptiveConfig::default() };
    let adaptive = Arc::new(Adaptive::new(config).unwrap());
    let pipeline = start().throttle(throttle).adaptive(adaptive.clone()).timeout(ms(100)).unwrap();
    let mut throttled = 0;
    for _ in 0..1000 {
        world.advance(ms(10));
        let failed = world.run(pipeline.call(&env, CallOptions::default(), failing(1)));
        match failed.unwrap_err().error {
            Error::Throttled => throttled += 1,
            Error::Call(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(throttled > 700, "{throttled} of 1000 that fail");
    assert_eq!(adaptive.limit(), config.limit_min);
    assert_eq!(adaptive.in_flight(), 0);
}

#[test]
fn the_adaptive_limit_refuses_and_measures_the_load() {
    let (world, env) = World::env(1);
    let config = AdaptiveConfig { initial: 4, ..AdaptiveConfig::default() };
    let adaptive = Arc::new(Adaptive::new(config).unwrap());
    let pipeline =
        start().shed(Shed::default()).adaptive(adaptive.clone()).timeout(ms(100)).unwrap();
    let held: Vec<_> = (0..4).map(|_| adaptive.admit(env.monotonic()).unwrap()).collect();
    let ask = |priority| {
        let options = CallOptions::default().of_priority(priority);
        world.run(pipeline.call(&env, options, failing(0))).unwrap_err().error
    };
    assert_eq!(ask(Priority::Normal), Error::Shed);
    assert_eq!(ask(Priority::Critical), Error::AtLimit { limit: 4 });
    drop(held);
}

#[test]
fn an_idempotent_call_that_is_late_is_hedged() {
    let (world, env) = World::env(1);
    let run = |idempotent| {
        let budget = budget();
        drain(&budget, env.monotonic());
        (0..20).for_each(|_| budget.deposit());
        let pipeline = start().retry(Policy::once(), budget.clone()).hedge(ms(50));
        let pipeline = pipeline.timeout(ms(500)).unwrap();
        let (calls, started) = (Cell::new(0_u32), env.monotonic());
        let call = |_| {
            calls.set(calls.get() + 1);
            let wait = if calls.get() == 1 { ms(400) } else { ms(10) };
            let env = &env;
            async move {
                env.timer.sleep_until(env.monotonic().plus(wait)).await;
                Ok::<_, Says>(())
            }
        };
        let options = CallOptions { idempotent, ..CallOptions::default() };
        assert!(world.run(pipeline.call(&env, options, call)).is_ok());
        let tokens = budget.tokens(env.monotonic());
        (calls.get(), env.monotonic().since(started).as_millis(), tokens)
    };
    assert_eq!(run(true), (2, 60, 1), "of two tokens one is paid");
    assert_eq!(run(false), (1, 400, 2));
}

#[test]
fn hedging_without_a_budget_is_refused() {
    assert_eq!(start().hedge(ms(50)).timeout(ms(500)).unwrap_err().field, "hedge");
}
