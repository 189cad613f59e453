//! Calls dropped at every point where they can be: nothing stays taken.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use amarra_core::Class;
use amarra_resilience::breaker::State;
use amarra_resilience::{CallOptions, Jitter, Policy};

use crate::pipeline::{Stages, stages};
use crate::support::{Says, at, ms, trip};

/// Waits to be polled once more.
async fn pause() {
    let mut first = true;
    poll_fn(|_| if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }).await;
}

fn policy() -> Policy {
    Policy { attempts_max: 3, jitter: Jitter::None, ..Policy::default() }
}

/// Polls a call of three tries at most `polls` times, with time moving between, and drops it.
/// Returns whether it ended by itself and how many tries were sent.
fn polled(stages: &Stages, polls: usize) -> (bool, u32) {
    let sent = Cell::new(0);
    let call = |_| {
        sent.set(sent.get() + 1);
        async {
            pause().await;
            pause().await;
            Err::<(), _>(Says(Class::Transient))
        }
    };
    let mut running = Box::pin(stages.pipeline.call(&stages.env, CallOptions::idempotent(), call));
    let mut ended = false;
    for _ in 0..polls {
        if running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            ended = true;
            break;
        }
        // Only move time when the call sleeps between tries; a try itself just needs more polls.
        if stages.bulkhead.in_flight() == 0 && stages.bulkhead.waiting() == 0 {
            stages.world.jump();
        }
    }
    drop(running);
    (ended, sent.get())
}

/// PIP-5.
#[test]
fn a_call_dropped_at_any_poll_leaves_everything_free() {
    let mut polls = 0;
    loop {
        let stages = stages(policy());
        stages.breaker.set_mode(at(0), amarra_resilience::breaker::Mode::Disabled);
        let before = stages.budget.tokens(at(0));
        let (ended, sent) = polled(&stages, polls);
        assert_eq!(stages.bulkhead.in_flight(), 0, "after {polls} polls");
        assert_eq!(stages.bulkhead.waiting(), 0);
        assert_eq!(stages.world.sleeping(), 0);
        let retries = u64::from(sent.saturating_sub(1));
        assert_eq!(before - stages.budget.tokens(at(0)), retries, "after {polls} polls");
        if ended {
            assert_eq!(sent, 3);
            break;
        }
        polls += 1;
        assert!(polls < 1000, "never ends");
    }
    assert!(polls > 6, "the loop saw every wait");
}

#[test]
fn a_probe_dropped_at_any_poll_gives_its_permit_back() {
    for polls in 0..3 {
        let stages = stages(Policy::once());
        trip(&stages.breaker, at(0));
        stages.world.advance(ms(1000));
        let (ended, _) = polled(&stages, polls);
        assert!(!ended);
        let seen = stages.breaker.snapshot();
        let expect = if polls == 0 { State::Open } else { State::HalfOpen };
        assert_eq!((seen.state, seen.probes_out), (expect, 0), "after {polls} polls");
        assert!(stages.breaker.admit(at(1000)).is_ok());
    }
}

#[test]
fn a_call_dropped_in_the_line_of_the_bulkhead_leaves_it() {
    let stages = stages(policy());
    trip(&stages.breaker, at(0));
    stages.world.advance(ms(1000));
    let hold = stages.world.run(stages.bulkhead.acquire(&stages.env, at(9000))).unwrap();
    let sent = Cell::new(0);
    let call = |_| {
        sent.set(sent.get() + 1);
        async { Ok::<_, Says>(()) }
    };
    let mut running = Box::pin(stages.pipeline.call(&stages.env, CallOptions::default(), call));
    assert!(running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!((stages.bulkhead.waiting(), stages.breaker.snapshot().probes_out), (1, 1));
    drop(running);
    assert_eq!((stages.bulkhead.waiting(), stages.breaker.snapshot().probes_out), (0, 0));
    assert_eq!((stages.world.sleeping(), sent.get()), (0, 0));
    drop(hold);
}

#[test]
fn a_call_that_panics_is_a_failure_and_leaves_everything_free() {
    let stages = stages(policy());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let call = |_| async {
            pause().await;
            panic!("the call");
            #[expect(unreachable_code, reason = "names the future's type")]
            Ok::<(), Says>(())
        };
        let running = stages.pipeline.call(&stages.env, CallOptions::default(), call);
        let _ = stages.world.run(running);
    }));
    assert!(outcome.is_err());
    assert_eq!(stages.breaker.snapshot().state, State::Open);
    assert_eq!((stages.bulkhead.in_flight(), stages.world.sleeping()), (0, 0));
}
