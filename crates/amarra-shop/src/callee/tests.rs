//! What a callee counts, and that its port is behind its guards.

use std::sync::Mutex;
use std::task::Poll;

use amarra_conformance::Harness;
use amarra_resilience::breaker::{self, Mode};
use amarra_resilience::bulkhead::BulkheadConfig;
use amarra_resilience::retry::BudgetConfig;
use amarra_resilience::{Budget, Bulkhead, Policy};
use futures_util::FutureExt;

use super::*;

#[derive(Debug, Clone, Copy)]
struct No(Class);

impl Classify for No {
    fn class(&self) -> Class {
        self.0
    }
}

/// Answers as told, the last one first; forgotten answers are good ones.
#[derive(Debug, Default)]
struct Port(Mutex<Vec<Result<u32, No>>>);

impl Port {
    async fn ask(&self) -> Result<u32, No> {
        self.0.lock().unwrap().pop().unwrap_or(Ok(7))
    }
}

fn callee(env: &Environment, answers: &[Result<u32, No>]) -> Callee<Port> {
    let breaker = Breaker::seeded("port", breaker::Config::default(), env.entropy.as_ref());
    let places = BulkheadConfig { concurrency_max: 1, queue_max: 0, ..BulkheadConfig::default() };
    let pipeline = Pipeline::builder("port")
        .deadline(Duration::from_secs(3))
        .retry(Policy::default(), Arc::new(Budget::new(BudgetConfig::default()).unwrap()))
        .breaker(Arc::new(breaker.unwrap()))
        .bulkhead(Arc::new(Bulkhead::new(places).unwrap()))
        .timeout(Duration::from_secs(1));
    Callee::new(Arc::new(Port(Mutex::new(answers.to_vec()))), pipeline.unwrap())
}

fn endings(guard: &Guard) -> Vec<(&'static str, u64)> {
    let all = Ending::ALL.map(|ending| (ending.as_str(), guard.ended(ending)));
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// CLE-2.
#[test]
fn every_call_is_counted_once_by_how_it_ended() {
    let harness = Harness::new(1);
    let env = harness.environment("here");
    let check = |answers: &[Result<u32, No>], options: CallOptions, ending, tries: u64| {
        let callee = callee(&env, answers);
        let _ = harness.block_on(callee.call(&env, options, |port, _| port.ask()));
        assert_eq!(endings(callee.guard()), [(ending, 1)], "{answers:?}");
        assert_eq!((callee.guard().tries(), callee.guard().in_flight()), (tries, 0));
    };
    let (once, keyed) = (CallOptions::default(), CallOptions::idempotent());
    check(&[], once, "answered", 1);
    check(&[Err(No(Class::Rejected))], keyed, "rejected", 1);
    check(&[Ok(1), Err(No(Class::Transient))], once, "answered", 2);
    check(&[Err(No(Class::Transient)); 3], once, "failed", 3);
    check(&[Err(No(Class::Unknown)); 3], once, "unknown", 1);
    check(&[Err(No(Class::Unknown)); 3], keyed, "unknown", 3);
    check(&[Err(No(Class::Fatal))], keyed, "failed", 1);
    let past = amarra_resilience::Deadline::after(env.monotonic(), Duration::ZERO, 3);
    check(&[], once.by(past), "no_time", 0);
}

/// CLE-1.
#[test]
fn nothing_reaches_the_port_that_the_breaker_refuses() {
    let harness = Harness::new(1);
    let env = harness.environment("here");
    let callee = callee(&env, &[]);
    assert_eq!(callee.refuses_for(&env), None);
    callee.guard().breaker().unwrap().set_mode(env.monotonic(), Mode::ForcedOpen);
    let refused = harness.block_on(callee.call(&env, CallOptions::default(), |port, _| port.ask()));
    assert!(matches!(refused, Err(failed) if !failed.error.was_sent()));
    assert!(callee.refuses_for(&env).is_some());
    assert_eq!(endings(callee.guard()), [("breaker_open", 2)]);
    assert_eq!(callee.guard().tries(), 0);
}

#[test]
fn a_call_that_is_given_up_ends_as_dropped_and_frees_its_place() {
    let harness = Harness::new(1);
    let env = harness.environment("here");
    let callee = callee(&env, &[]);
    let hang = |_: &Port, _| std::future::pending::<Result<u32, No>>();
    let mut hanging = Box::pin(callee.call(&env, CallOptions::default(), hang));
    let polled = harness.block_on(std::future::poll_fn(|cx| Poll::Ready(hanging.poll_unpin(cx))));
    assert!(polled.is_pending());
    assert_eq!(callee.guard().in_flight(), 1);
    let once = amarra_resilience::Deadline::after(env.monotonic(), Duration::from_millis(20), 3);
    let options = CallOptions::default().by(once);
    let full = harness.block_on(callee.call(&env, options, |port, _| port.ask()));
    assert!(full.is_err());
    drop(hanging);
    assert_eq!(callee.guard().in_flight(), 0);
    let free = harness.block_on(callee.call(&env, options, |port, _| port.ask()));
    assert!(free.is_ok() || env.monotonic() >= once.at());
    assert_eq!(callee.guard().ended(Ending::Dropped), 1);
    assert_eq!(callee.guard().ended(Ending::Overloaded), 1);
}
