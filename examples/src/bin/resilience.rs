//! amarra-resilience: a callee that fails for ten seconds, behind a pipeline with a breaker.
#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use amarra_conformance::Harness;
use amarra_core::{Class, Classify, Environment, Monotonic};
use amarra_resilience::breaker::{self, Observer, Transition};
use amarra_resilience::retry::BudgetConfig;
use amarra_resilience::{Breaker, Budget, CallOptions, PerMille, Pipeline, Policy};
use examples::Fallible;

/// When the callee works again.
const OUTAGE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Unavailable;

impl Classify for Unavailable {
    fn class(&self) -> Class {
        Class::Transient
    }
}

/// Prints what the breaker tells.
#[derive(Debug)]
struct Printed;

impl Observer for Printed {
    fn transition(&self, breaker: &str, told: &Transition) {
        println!("{:>5.1?}  {breaker}: {:?} -> {:?}", since_start(told.at), told.from, told.to);
    }
}

fn since_start(at: Monotonic) -> Duration {
    at.since(Monotonic::default())
}

fn pipeline(env: &Environment) -> Fallible<Pipeline> {
    let config =
        breaker::Config { calls_min: 4, open_jitter: PerMille::percent(0), ..Default::default() };
    let breaker = Breaker::seeded("provider", config, env.entropy.as_ref())?;
    let budget = Arc::new(Budget::new(BudgetConfig::default())?);
    Ok(Pipeline::builder("provider")
        .deadline(Duration::from_secs(2))
        .retry(Policy::default(), budget)
        .breaker(Arc::new(breaker.observed(Arc::new(Printed))))
        .timeout(Duration::from_millis(500))?)
}

/// Calls once a second; the callee is down for the first ten.
async fn call_for_a_while(env: &Environment, pipeline: &Pipeline) -> (u32, u32) {
    let (sent, mut answered) = (Cell::new(0_u32), 0_u32);
    for _ in 0..30 {
        let call = |_| {
            sent.set(sent.get().saturating_add(1));
            let is_up = since_start(env.monotonic()) >= OUTAGE;
            async move { if is_up { Ok("captured") } else { Err(Unavailable) } }
        };
        match pipeline.call(env, CallOptions::idempotent(), call).await {
            Ok(_) => answered = answered.saturating_add(1),
            Err(failed) => {
                let now = since_start(env.monotonic());
                println!("{now:>5.1?}  {:?} after {} tries", failed.class(), failed.attempts);
            }
        }
        env.sleep(Duration::from_secs(1)).await;
    }
    (sent.get(), answered)
}

fn main() -> Fallible {
    let harness = Harness::new(7);
    let env = harness.environment("orders");
    let pipeline = pipeline(&env)?;
    let (sent, answered) = harness.block_on(call_for_a_while(&env, &pipeline));
    println!("30 calls: {answered} answered, {sent} tries sent to the callee");
    let state = pipeline.breaker().map(|breaker| breaker.snapshot().state);
    println!("the breaker is {:?} at the end", state.ok_or("there is no breaker")?);
    Ok(())
}
