//! amarra-resilience: the builder's pipeline in front of a plain closure and of a tower service.
#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::cell::Cell;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use amarra_conformance::Harness;
use amarra_core::{Class, Classify, Environment};
use amarra_resilience::breaker::{self, Mode};
use amarra_resilience::bulkhead::BulkheadConfig;
use amarra_resilience::retry::BudgetConfig;
use amarra_resilience::{
    Attempt, Breaker, Budget, Bulkhead, CallOptions, Deadline, Pipeline, Policy, deadline,
};
use examples::Fallible;
use tower::{ServiceExt, service_fn};

/// Whether the callee acted is not known.
#[derive(Debug)]
struct NoAnswer;

impl Classify for NoAnswer {
    fn class(&self) -> Class {
        Class::Unknown
    }
}

/// The way to one callee. A stage out of this order does not compile.
fn pipeline(env: &Environment) -> Fallible<Pipeline> {
    let breaker = Breaker::seeded("prices", breaker::Config::default(), env.entropy.as_ref())?;
    Ok(Pipeline::builder("prices")
        .deadline(Duration::from_secs(2))
        .retry(Policy::default(), Arc::new(Budget::new(BudgetConfig::default())?))
        .breaker(Arc::new(breaker))
        .bulkhead(Arc::new(Bulkhead::new(BulkheadConfig::default())?))
        .timeout(Duration::from_millis(500))?)
}

/// A callee that loses the first answer of every call, and says what it was told of the deadline.
fn answer(env: &Environment, attempt: Attempt) -> Result<String, NoAnswer> {
    let header = attempt.deadline.encode(env.monotonic());
    match attempt.number {
        1 => Err(NoAnswer),
        n => Ok(format!("try {n}, {}: {header}", deadline::HEADER)),
    }
}

async fn run(env: &Environment) -> Fallible<()> {
    let pipeline = pipeline(env)?;
    let sent = Cell::new(0_u32);
    let told = |attempt| {
        sent.set(sent.get().saturating_add(1));
        answer(env, attempt)
    };
    // A plain closure. Whoever called has 300 ms left, and each try is told what is left of them.
    let by = Deadline::after(env.monotonic(), Duration::from_millis(300), 4);
    let options = CallOptions::idempotent().by(by);
    let closure = pipeline.call(env, options, |attempt| ready(told(attempt))).await;
    println!("closure: {}", closure.map_err(|failed| format!("{failed:?}"))?);
    // A tower service: each try waits until it is ready, and is given the deadline of its own.
    let service = service_fn(|attempt: Attempt| ready(told(attempt)));
    let options = CallOptions::idempotent();
    let tower = pipeline.call(env, options, |attempt| service.oneshot(attempt)).await;
    println!("service: {}", tower.map_err(|failed| format!("{failed:?}"))?);
    // What may not be repeated is not: the first answer was lost, and nobody knows what it was.
    let once = pipeline.call(env, CallOptions::default(), |attempt| ready(told(attempt))).await;
    let failed = once.err().ok_or("it was repeated")?;
    println!("not idempotent: {:?} after {} try", failed.class(), failed.attempts);
    // An operator closes the way: nothing is sent.
    let breaker = pipeline.breaker().ok_or("there is no breaker")?;
    breaker.set_mode(env.monotonic(), Mode::ForcedOpen);
    let before = sent.get();
    let refused = pipeline.call(env, options, |attempt| service.oneshot(attempt)).await;
    let failed = refused.err().ok_or("it was let through")?;
    println!("forced open: {:?}, {} tries sent", failed.stop, sent.get().saturating_sub(before));
    Ok(())
}

fn main() -> Fallible<()> {
    let harness = Harness::new(7);
    let env = harness.environment("orders");
    harness.block_on(run(&env))
}
