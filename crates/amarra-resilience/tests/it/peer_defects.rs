//! Ten defects found in other breakers and retry budgets, as tests of ours.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amarra_core::{Class, Monotonic};
use amarra_resilience::breaker::{
    Breaker, Config, Finish, Observer, Outcome, State, Transition, Window,
};
use amarra_resilience::retry::{Budget, BudgetConfig};
use amarra_resilience::{CallOptions, PerMille, Pipeline};

use crate::support::{Says, World, at, breaker, drain, exact, ms, trip};

/// BRK-1: recloser, failsafe and early tower breakers let the whole herd through at half-open.
#[test]
fn p1_half_open_admits_its_permits_and_not_the_herd() {
    for permits in [1, 3] {
        let (breaker, _) = breaker(Config { half_open_permits: permits, ..exact() });
        trip(&breaker, at(0));
        let admitted: Vec<_> = (0..100).filter_map(|_| breaker.admit(at(1000)).ok()).collect();
        assert_eq!(admitted.len(), usize::from(permits));
    }
}

/// The same with the herd on eight threads.
#[test]
fn p1_half_open_admits_its_permits_under_contention() {
    let (breaker, _) = breaker(Config { half_open_permits: 5, ..exact() });
    trip(&breaker, at(0));
    let held = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    held.lock().unwrap().extend(breaker.admit(at(1000)));
                }
            });
        }
    });
    assert_eq!(held.into_inner().unwrap().len(), 5);
}

/// Elsewhere a probe that is cancelled takes its permit along for ever.
#[test]
fn p2_a_cancelled_probe_gives_its_permit_back() {
    let (breaker, log) = breaker(exact());
    trip(&breaker, at(0));
    for _ in 0..10 {
        drop(breaker.admit(at(1000)).unwrap());
    }
    breaker.admit(at(1000)).unwrap().finish(at(1000), Outcome::Ok);
    assert_eq!(log.path(), [State::Open, State::HalfOpen, State::Closed]);
}

/// BRK-2.
/// Elsewhere a call admitted while closed and answered while half-open decides for the probe.
#[test]
fn p3_a_late_result_neither_closes_nor_opens_and_says_so() {
    for late in [Outcome::Ok, Outcome::Fail] {
        let (breaker, _) = breaker(exact());
        let old = breaker.admit(at(0)).unwrap();
        trip(&breaker, at(0));
        let probe = breaker.admit(at(1000)).unwrap();
        assert_eq!(old.finish(at(1000), late), Finish::Stale { epoch: 0 });
        let seen = breaker.snapshot();
        assert_eq!((seen.state, seen.probes_out, seen.stale), (State::HalfOpen, 1, 1));
        assert!(breaker.admit(at(1000)).is_err(), "the late result freed a permit");
        assert_eq!(probe.finish(at(1000), Outcome::Ok), Finish::Recorded);
        assert_eq!(breaker.snapshot().counts.calls, 0);
    }
}

/// BRK-3: elsewhere fifty calls in a row panic and the breaker stays closed.
#[test]
fn p4_panics_are_failures() {
    let (breaker, _) = breaker(Config { calls_min: 2, ..exact() });
    let mut admitted = 0;
    for _ in 0..50 {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let _permit = breaker.admit(at(0)).ok()?;
            admitted += 1;
            panic!("the call");
            #[expect(unreachable_code, reason = "names the closure's type")]
            Some(())
        }));
    }
    assert_eq!((admitted, breaker.snapshot().state), (2, State::Open));
    // A probe that panics opens again, and its permit does not stay out.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _permit = breaker.admit(at(1000)).unwrap();
        panic!("the probe");
    }));
    assert_eq!(breaker.snapshot().state, State::Open);
}

/// A call made while another one's panic unwinds, as a destructor may, is not the one that panics.
#[test]
fn p4_a_permit_dropped_inside_of_a_foreign_panic_is_only_cancelled() {
    struct CleansUp<'a>(&'a Breaker);
    impl Drop for CleansUp<'_> {
        fn drop(&mut self) {
            drop(self.0.admit(at(0)).unwrap());
        }
    }
    let (breaker, _) = breaker(exact());
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _cleans_up = CleansUp(&breaker);
        panic!("somebody else");
    }));
    let seen = breaker.snapshot();
    assert_eq!((seen.state, seen.counts.calls), (State::Closed, 0));
}

/// Elsewhere a probe that never reports leaves the breaker half-open for ever.
#[test]
fn p5_a_probe_that_never_ends_expires() {
    let (breaker, log) = breaker(exact());
    trip(&breaker, at(0));
    let lost = breaker.admit(at(1000)).unwrap();
    assert!(breaker.admit(at(1499)).is_err());
    // Half-open until 1500, then open for the doubled wait of 2000.
    assert_eq!(breaker.admit(at(1500)).unwrap_err().retry_after, ms(2000));
    let next = breaker.admit(at(3500)).unwrap();
    assert_eq!(lost.finish(at(3500), Outcome::Fail), Finish::Stale { epoch: 2 });
    next.finish(at(3500), Outcome::Ok);
    let open = [State::Open, State::HalfOpen];
    assert_eq!(log.path(), [&open[..], &open[..], &[State::Closed]].concat());
}

/// Elsewhere a "sliding" window of 100 never slides: ten thousand good calls hide as many bad ones.
#[test]
fn p6_a_window_of_one_hundred_is_one_hundred() {
    let window = Window::Count { calls: 100 };
    let (breaker, _) = breaker(Config { window, calls_min: 100, ..exact() });
    for _ in 0..10_000 {
        breaker.admit(at(0)).unwrap().finish(at(0), Outcome::Ok);
    }
    assert_eq!(trip(&breaker, at(0)), 50);
}

/// The same for a window of time: what is older than it does not count.
#[test]
fn p6_a_window_of_ten_seconds_forgets_after_ten_seconds() {
    let (breaker, _) = breaker(Config { calls_min: 10, ..exact() });
    for _ in 0..10_000 {
        breaker.admit(at(0)).unwrap().finish(at(0), Outcome::Ok);
    }
    for n in 0..10 {
        assert_eq!(breaker.snapshot().state, State::Closed, "after {n}");
        breaker.admit(at(10_000)).unwrap().finish(at(10_000), Outcome::Fail);
    }
    assert_eq!(breaker.snapshot().state, State::Open);
}

/// recloser leaks every state it replaces.
#[test]
fn p7_cycles_keep_nothing() {
    let (breaker, log) = breaker(Config { open_wait_max: ms(1000), ..exact() });
    for cycle in 0..1000 {
        let now = at(cycle * 10_000);
        trip(&breaker, now);
        let probe = breaker.admit(now.plus(ms(1000))).unwrap();
        probe.finish(now.plus(ms(1000)), Outcome::Ok);
    }
    let seen = breaker.snapshot();
    assert_eq!((seen.epoch, seen.counts.calls, seen.trips), (3000, 0, 1));
    drop(breaker);
    assert_eq!(Arc::strong_count(&log), 1, "something still holds the observer");
}

/// BRK-OBS-1: recloser pins a global epoch, and others hold a lock, while they run code that is not
/// theirs.
#[test]
fn p8_no_foreign_code_runs_inside_of_the_breaker() {
    #[derive(Debug, Default)]
    struct Meddler(Mutex<Option<Arc<Breaker>>>, Mutex<Vec<State>>);
    impl Observer for Meddler {
        fn transition(&self, _: &str, _: &Transition) {
            let breaker = self.0.lock().unwrap().clone().unwrap();
            let _ = breaker.admit(at(0));
            self.1.lock().unwrap().push(breaker.snapshot().state);
        }
    }
    let meddler = Arc::new(Meddler::default());
    let breaker = Arc::new(Breaker::new("b", exact(), 1).unwrap().observed(meddler.clone()));
    *meddler.0.lock().unwrap() = Some(breaker.clone());
    // One call inside of another: a lock held during the call would never be released.
    let outer = breaker.admit(at(0)).unwrap();
    breaker.admit(at(0)).unwrap().finish(at(0), Outcome::Fail);
    outer.finish(at(0), Outcome::Ok);
    assert_eq!(*meddler.1.lock().unwrap(), [State::Open]);
    *meddler.0.lock().unwrap() = None;
}

/// Elsewhere a paused clock moved by two minutes leaves a wait of one minute unfinished.
#[test]
fn p9_everything_runs_on_a_virtual_clock() {
    let (world, env) = World::env(1);
    let config = Config { open_wait: ms(60_000), open_wait_max: ms(60_000), ..exact() };
    let pipeline = Pipeline::builder("callee")
        .deadline(ms(1000))
        .breaker(Arc::new(Breaker::new("b", config, 1).unwrap()))
        .timeout(ms(100))
        .unwrap();
    let call = |answer: Result<(), Says>| {
        world.run(pipeline.call(&env, CallOptions::default(), |_| async move { answer }))
    };
    assert!(call(Err(Says(Class::Transient))).is_err());
    assert!(call(Ok(())).is_err(), "open");
    world.advance(ms(120_000));
    assert!(call(Ok(())).is_ok());
}

/// BUD-3: tower's budget turns 0.6 into 100 %, and replays every idle second under its lock.
#[test]
fn p10_the_budget_is_exact_and_replays_no_idle_time() {
    let now = Monotonic::default();
    for percent in [0, 10, 40, 60, 75, 90, 100] {
        let config = BudgetConfig {
            per_call: PerMille::percent(percent),
            per_second_milli: 0,
            tokens_max: 1000,
        };
        let budget = Budget::new(config).unwrap();
        assert_eq!(drain(&budget, now), 1000);
        (0..1000).for_each(|_| budget.deposit());
        assert_eq!(budget.tokens(now), u64::from(percent) * 10, "{percent} %");
    }
    let budget = Budget::new(BudgetConfig { tokens_max: 7, ..BudgetConfig::default() }).unwrap();
    budget.reserve(now).unwrap().spend();
    // Replaying 500 years second by second, let alone tick by tick, would not end today.
    let much_later = now.plus(Duration::from_secs(500 * 365 * 86_400));
    assert_eq!(budget.tokens(much_later), 7);
}
