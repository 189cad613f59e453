//! The pipeline: its order, what each stage sees of the others, and what the whole call answers.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Class, Classify, Environment};
use amarra_resilience::breaker::{Breaker, Mode, Outcome, Reason, State};
use amarra_resilience::bulkhead::{Bulkhead, BulkheadConfig};
use amarra_resilience::deadline::Deadline;
use amarra_resilience::limiter::{Limiter, LimiterConfig};
use amarra_resilience::pipeline::outcome_of_class;
use amarra_resilience::retry::{Budget, BudgetConfig};
use amarra_resilience::shed::{Priority, Shed};
use amarra_resilience::{Attempt, CallOptions, Error, Failed, Jitter, Pipeline, Policy, Stop};

use crate::support::{Says, World, at, breaker, exact, ms, trip};

/// Every stage of one pipeline, to look at from outside.
pub struct Stages {
    pub world: Arc<World>,
    pub env: Environment,
    pub budget: Arc<Budget>,
    pub breaker: Arc<Breaker>,
    pub bulkhead: Arc<Bulkhead>,
    pub limiter: Arc<Limiter>,
    pub pipeline: Pipeline,
}

pub fn stages(policy: Policy) -> Stages {
    let (world, env) = World::env(1);
    let budget = Arc::new(
        Budget::new(BudgetConfig { per_second_milli: 0, ..BudgetConfig::default() }).unwrap(),
    );
    let breaker = Arc::new(breaker(exact()).0);
    let places = BulkheadConfig { concurrency_max: 1, queue_max: 1, queue_wait_max: ms(100) };
    let bulkhead = Arc::new(Bulkhead::new(places).unwrap());
    let rate = LimiterConfig { calls: 1, burst: 3, ..LimiterConfig::default() };
    let limiter = Arc::new(Limiter::new(rate).unwrap());
    let pipeline = Pipeline::builder("callee")
        .deadline(ms(5000))
        .retry(policy, budget.clone())
        .breaker(breaker.clone())
        .shed(Shed::default())
        .bulkhead(bulkhead.clone())
        .limiter(limiter.clone())
        .timeout(ms(200))
        .unwrap();
    Stages { world, env, budget, breaker, bulkhead, limiter, pipeline }
}

impl Stages {
    /// Makes one call that answers `answer` at once; returns its result and how often it was sent.
    fn call(
        &self,
        options: CallOptions,
        answer: Result<(), Says>,
    ) -> (Result<(), Failed<Says>>, u32) {
        let sent = Cell::new(0);
        let call = |_| {
            sent.set(sent.get() + 1);
            async move { answer }
        };
        let result = self.world.run(self.pipeline.call(&self.env, options, call));
        (result, sent.get())
    }

    fn ok(&self) -> bool {
        self.call(CallOptions::default(), Ok(())).0.is_ok()
    }
}

fn once() -> Policy {
    Policy::once()
}

fn failed<T>(result: Result<T, Failed<Says>>) -> Failed<Says> {
    result.err().expect("the call fails")
}

#[test]
fn a_dead_deadline_is_refused_before_everything() {
    let stages = stages(once());
    trip(&stages.breaker, at(0));
    let past = CallOptions::default().by(Deadline::after(at(0), Duration::ZERO, 3));
    let (result, sent) = stages.call(past, Ok(()));
    assert_eq!((failed(result).error, sent), (Error::DeadlinePassed, 0));
    let circle = CallOptions::default().by(Deadline::after(at(0), ms(100), 0));
    assert_eq!(failed(stages.call(circle, Ok(())).0).error, Error::HopsExhausted);
}

/// PIP-1.
#[test]
fn an_open_breaker_refuses_before_the_gates() {
    let stages = stages(once());
    trip(&stages.breaker, at(0));
    let hold = stages.world.run(stages.bulkhead.acquire(&stages.env, at(1000))).unwrap();
    let (result, sent) = stages.call(CallOptions::default(), Ok(()));
    let failed = failed(result);
    assert!(matches!(failed.error, Error::BreakerOpen(_)), "{failed:?}");
    assert_eq!((failed.class(), failed.retry_after(), sent), (Class::Transient, Some(ms(1000)), 0));
    assert_eq!(stages.env.monotonic(), at(0), "it did not wait in the bulkhead");
    drop(hold);
    for _ in 0..3 {
        assert!(stages.limiter.admit(at(0)).is_ok(), "it took none of the rate");
    }
}

/// PIP-1 and PIP-2.
#[test]
fn a_full_bulkhead_refuses_before_the_limiter_and_the_breaker_counts_nothing() {
    let stages = stages(once());
    let hold = stages.world.run(stages.bulkhead.acquire(&stages.env, at(1000))).unwrap();
    let critical = CallOptions::default().of_priority(Priority::Critical);
    let (result, sent) = stages.call(critical, Ok(()));
    let failed = failed(result);
    assert_eq!((failed.class(), &failed.error, sent), (Class::Transient, &Error::BulkheadFull, 0));
    let seen = stages.breaker.snapshot();
    assert_eq!((seen.state, seen.counts.calls), (State::Closed, 0));
    drop(hold);
    for _ in 0..3 {
        assert!(stages.limiter.admit(stages.env.monotonic()).is_ok());
    }
}

/// PIP-2.
#[test]
fn a_rate_limit_says_when_and_the_breaker_counts_nothing() {
    let stages = stages(once());
    assert!(stages.ok() && stages.ok() && stages.ok());
    let (result, sent) = stages.call(CallOptions::default(), Err(Says(Class::Transient)));
    assert_eq!((failed(result).error, sent), (Error::RateLimited { retry_after: ms(1000) }, 0));
    assert_eq!(stages.breaker.snapshot().counts.calls, 3);
    assert_eq!(stages.bulkhead.in_flight(), 0);
}

#[test]
fn load_sheds_what_matters_least() {
    let stages = stages(once());
    let hold = stages.world.run(stages.bulkhead.acquire(&stages.env, at(1000))).unwrap();
    let (result, _) = stages.call(CallOptions::default().of_priority(Priority::Sheddable), Ok(()));
    assert_eq!(failed(result).error, Error::Shed);
    let (result, _) = stages.call(CallOptions::default(), Ok(()));
    assert_eq!(failed(result).error, Error::BulkheadFull, "the usual waits");
    drop(hold);
    assert!(stages.call(CallOptions::default().of_priority(Priority::Sheddable), Ok(())).0.is_ok());
}

#[test]
fn a_refusal_is_waited_out_when_it_fits_the_deadline_and_not_otherwise() {
    let policy = Policy { jitter: Jitter::None, ..Policy::default() };
    let check = |patience, expect: Result<(), Stop>, ends_at| {
        let stages = stages(policy);
        trip(&stages.breaker, at(0));
        let by = CallOptions::default().by(Deadline::after(at(0), ms(patience), 3));
        let (result, sent) = stages.call(by, Ok(()));
        assert_eq!(sent, u32::from(expect.is_ok()));
        assert_eq!(result.map_err(|f| f.stop), expect, "{patience} ms");
        assert_eq!(stages.env.monotonic(), ends_at);
        assert_eq!(stages.budget.tokens(at(0)), 10, "a try that was not sent is not a retry");
    };
    check(1005, Ok(()), at(1000));
    check(1004, Err(Stop::Deadline), at(0));
}

#[test]
fn the_breaker_sees_each_try_and_stops_the_retries() {
    let policy = Policy { attempts_max: 5, jitter: Jitter::None, ..Policy::default() };
    let stages = stages(policy);
    let by = CallOptions::idempotent().by(Deadline::after(at(0), ms(900), 3));
    let (result, sent) = stages.call(by, Err(Says(Class::Unknown)));
    let failed = failed(result);
    assert_eq!((sent, failed.attempts, failed.stop), (1, 2, Stop::Deadline));
    assert!(matches!(failed.error, Error::BreakerOpen(_)));
    assert_eq!(failed.class(), Class::Unknown, "the try before the refusal may have been applied");
}

#[test]
fn a_doubtful_call_without_a_key_is_made_once() {
    let stages = stages(Policy { attempts_max: 5, ..Policy::default() });
    stages.breaker.set_mode(at(0), Mode::Disabled);
    let (result, sent) = stages.call(CallOptions::default(), Err(Says(Class::Unknown)));
    assert_eq!((failed(result).stop, sent), (Stop::Class, 1));
    let (result, sent) = stages.call(CallOptions::idempotent(), Err(Says(Class::Unknown)));
    assert!(result.is_err() && sent > 1);
}

/// PIP-4.
#[test]
fn classes_count_for_or_against_the_callee() {
    let check = |class, outcome, calls, failed| {
        assert_eq!(outcome_of_class(class), outcome);
        let stages = stages(once());
        stages.breaker.set_mode(at(0), Mode::MetricsOnly);
        let _ = stages.call(CallOptions::default(), Err(Says(class)));
        let counts = stages.breaker.snapshot().counts;
        assert_eq!((counts.calls, counts.failed), (calls, failed), "{class}");
    };
    check(Class::Rejected, Outcome::Ok, 1, 0);
    check(Class::Conflict, Outcome::Ok, 1, 0);
    check(Class::Transient, Outcome::Fail, 1, 1);
    check(Class::Unknown, Outcome::Fail, 1, 1);
    check(Class::Fatal, Outcome::Ignore, 0, 0);
}

/// PIP-4.
#[test]
fn a_try_that_hangs_times_out_and_counts_against_the_callee() {
    let stages = stages(once());
    let hang = |_| std::future::pending::<Result<(), Says>>();
    let call = stages.pipeline.call(&stages.env, CallOptions::idempotent(), hang);
    let failed = failed(stages.world.run(call));
    assert_eq!(
        (&failed.error, failed.class()),
        (&Error::TimedOut { after: ms(200) }, Class::Unknown)
    );
    assert_eq!(stages.breaker.snapshot().state, State::Open);
    assert_eq!((stages.bulkhead.in_flight(), stages.world.sleeping()), (0, 0));
}

#[test]
fn a_try_is_given_the_shorter_of_its_timeout_and_what_is_left() {
    let stages = stages(once());
    let check = |patience: Option<u64>, expect: &str| {
        let header = Cell::new(String::new());
        let call = |attempt: Attempt| {
            header.set(attempt.deadline.encode(stages.env.monotonic()));
            async { Ok::<_, Says>(()) }
        };
        let deadline = patience.map(|patience| Deadline::after(at(0), ms(patience), 4));
        let options = CallOptions { deadline, ..CallOptions::default() };
        stages.world.run(stages.pipeline.call(&stages.env, options, call)).unwrap();
        assert_eq!(header.take(), expect);
    };
    check(Some(10_000), "200;hops=3");
    check(Some(150), "150;hops=3");
    check(None, "200;hops=15");
}

#[test]
fn the_pipeline_s_own_patience_bounds_a_patient_caller() {
    let policy = Policy { attempts_max: 100, base: ms(1000), cap: ms(1000), ..Policy::default() };
    let stages = stages(Policy { jitter: Jitter::None, ..policy });
    stages.breaker.set_mode(at(0), Mode::Disabled);
    let patient = CallOptions::idempotent().by(Deadline::after(at(0), ms(1_000_000), 4));
    let (result, sent) = stages.call(patient, Err(Says(Class::Transient)));
    assert_eq!((failed(result).stop, sent), (Stop::Deadline, 5));
}

/// PIP-3: a call that waited for its place is sent only if the breaker still agrees.
#[test]
fn a_call_that_waited_while_the_breaker_opened_is_not_sent() {
    let stages = stages(once());
    let hold = stages.world.run(stages.bulkhead.acquire(&stages.env, at(1000))).unwrap();
    let sent = Cell::new(0);
    let call = |_| {
        sent.set(sent.get() + 1);
        async { Ok::<_, Says>(()) }
    };
    let mut waiting = Box::pin(stages.pipeline.call(&stages.env, CallOptions::default(), call));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    trip(&stages.breaker, at(0));
    drop(hold);
    let failed = failed(stages.world.run(waiting));
    let Error::BreakerOpen(rejected) = failed.error else { panic!("{failed:?}") };
    assert_eq!((rejected.reason, sent.get()), (Reason::Open, 0));
    assert_eq!(stages.bulkhead.in_flight(), 0);
}

/// A call that waited for its place until too little time was left is not sent either.
#[test]
fn a_call_that_waited_too_long_is_not_sent() {
    let stages = stages(Policy { attempt_min: ms(50), ..once() });
    let hold = stages.world.run(stages.bulkhead.acquire(&stages.env, at(1000))).unwrap();
    let sent = Cell::new(0);
    let call = |_| {
        sent.set(sent.get() + 1);
        async { Ok::<_, Says>(()) }
    };
    let options = CallOptions::default().by(Deadline::after(at(0), ms(100), 4));
    let mut waiting = Box::pin(stages.pipeline.call(&stages.env, options, call));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    stages.world.advance(ms(60));
    drop(hold);
    assert_eq!(failed(stages.world.run(waiting)).error, Error::DeadlinePassed);
    assert_eq!((sent.get(), stages.breaker.snapshot().counts.calls), (0, 0));
}

#[test]
fn a_call_holds_its_place_until_it_is_answered() {
    let stages = stages(once());
    let hang = |_| std::future::pending::<Result<(), Says>>();
    let mut running = Box::pin(stages.pipeline.call(&stages.env, CallOptions::default(), hang));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(running.as_mut().poll(&mut context).is_pending());
    assert_eq!(stages.bulkhead.in_flight(), 1);
    drop(running);
    assert_eq!(stages.bulkhead.in_flight(), 0);
}

#[test]
fn bad_pipelines_are_refused_by_name() {
    let check = |built: Result<Pipeline, _>, field| {
        let error: amarra_resilience::ConfigError = built.unwrap_err();
        assert_eq!(error.field, field);
    };
    let start = || Pipeline::builder("callee");
    let budget = || Arc::new(Budget::new(BudgetConfig::default()).unwrap());
    let bad = Policy { attempts_max: 0, ..Policy::default() };
    check(start().deadline(ms(100)).timeout(ms(0)), "timeout");
    check(start().deadline(ms(0)).timeout(ms(1)), "deadline");
    check(start().deadline(ms(4)).timeout(ms(1)), "deadline");
    check(start().deadline(ms(100)).retry(bad, budget()).timeout(ms(1)), "attempts_max");
    check(start().deadline(ms(100)).shed(Shed::default()).timeout(ms(1)), "shed");
}

/// Services are called from tasks that move between threads.
#[test]
fn a_call_is_send() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let stages = stages(once());
    let call = stages.pipeline.call(&stages.env, CallOptions::default(), |attempt| async move {
        std::future::ready(()).await;
        Ok::<_, Says>(attempt.number)
    });
    assert_eq!(stages.world.run(send(call)).unwrap(), 1);
}
