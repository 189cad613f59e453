//! The breaker with many threads on it: nothing recorded is lost, nothing is recorded twice.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use amarra_resilience::breaker::{Breaker, Config, Finish, Outcome, State, Window};
use amarra_resilience::{Monotonic, PerMille, Ticks};

use crate::support::{at, breaker, exact, ms};

const THREADS: u64 = 8;
const CALLS: u64 = 20_000;

/// Runs `work` on every thread at once.
fn together(work: impl Fn(u64) + Sync) {
    std::thread::scope(|scope| {
        for n in 0..THREADS {
            let work = &work;
            scope.spawn(move || work(n));
        }
    });
}

/// Every tenth call fails, which is not enough to open.
fn mixed(breaker: &Breaker, clock: impl Fn() -> Monotonic + Sync) {
    together(|_| {
        for n in 0..CALLS {
            let outcome = if n % 10 == 0 { Outcome::Fail } else { Outcome::Ok };
            let finish = breaker.admit(&clock).unwrap().finish(&clock, outcome);
            assert_eq!(finish, Finish::Recorded);
        }
    });
}

#[test]
fn every_call_of_every_thread_is_counted_once() {
    let failure_rate = PerMille::percent(90);
    let breaker = Breaker::new("b", Config { failure_rate, ..exact() }, 1).unwrap();
    breaker.admit(at(0)).unwrap().finish(at(0), Outcome::Ok);
    // Twice: before the breaker gave each thread cells of its own, and after.
    for round in 1..=2 {
        mixed(&breaker, || at(0));
        let counts = breaker.snapshot().counts;
        assert_eq!(counts.calls, 1 + round * THREADS * CALLS);
        assert_eq!(counts.failed, round * THREADS * CALLS / 10);
    }
}

#[test]
fn an_exact_window_holds_exactly_its_calls() {
    let window = Window::Count { calls: 1000 };
    let config = Config { window, failure_rate: PerMille::percent(90), ..exact() };
    let breaker = Breaker::new("b", config, 1).unwrap();
    breaker.admit(at(0)).unwrap().finish(at(0), Outcome::Ok);
    mixed(&breaker, || at(0));
    assert_eq!(breaker.snapshot().counts.calls, 1000);
}

/// What is older than the window is forgotten whoever recorded it, and read by no thread's clock.
#[test]
fn calls_of_all_threads_age() {
    let failure_rate = PerMille::ALL;
    let breaker = Breaker::new("b", Config { failure_rate, ..exact() }, 1).unwrap();
    let ticks = Ticks::new();
    for second in [0, 5, 9] {
        ticks.wind(at(second * 1000));
        together(|_| {
            for _ in 0..1000 {
                breaker.admit(|| ticks.now()).unwrap().finish(|| ticks.now(), Outcome::Ok);
            }
        });
    }
    let seen = |second: u64| {
        breaker.admit(at(second * 1000)).unwrap().finish(at(second * 1000), Outcome::Fail);
        let counts = breaker.snapshot().counts;
        (counts.calls - counts.failed) / THREADS / 1000
    };
    assert_eq!([9, 10, 14, 15, 18, 19].map(seen), [3, 2, 2, 1, 1, 0]);
}

/// BRK-1, BRK-5: through many periods, whoever comes when.
#[test]
fn periods_follow_one_another_and_admit_their_permits() {
    let (open_wait, open_wait_max) = (ms(20), ms(20));
    // A third of the calls fails, whatever their order: that opens.
    let (failure_rate, half_open_permits) = (PerMille::percent(20), 3);
    let config = Config { failure_rate, half_open_permits, open_wait, open_wait_max, ..exact() };
    let (breaker, log) = breaker(config);
    let now = AtomicU64::new(0);
    let probes = Mutex::new(std::collections::BTreeMap::<u64, u64>::new());
    together(|n| {
        for call in 0..5000 {
            let time = now.fetch_add(1, Ordering::Relaxed);
            let Ok(permit) = breaker.admit(at(time)) else { continue };
            let epoch = permit.epoch();
            let outcome = if (call + n) % 3 == 0 { Outcome::Fail } else { Outcome::Ok };
            if permit.finish(at(time), outcome) == Finish::Recorded {
                *probes.lock().unwrap().entry(epoch).or_default() += 1;
            }
        }
    });
    let mut told = log.0.lock().unwrap().clone();
    told.sort_by_key(|event| event.epoch);
    let mut from = State::Closed;
    for (event, epoch) in told.iter().zip(1..) {
        assert_eq!((event.epoch, event.from), (epoch, from));
        assert!(event.from.may_become(event.to));
        from = event.to;
    }
    let probes = probes.into_inner().unwrap();
    for event in told.iter().filter(|event| event.to == State::HalfOpen) {
        let answered = probes.get(&event.epoch).copied().unwrap_or(0);
        assert!(answered <= 3, "{answered} in {}", event.epoch);
    }
    assert!(told.len() > 10, "{}", told.len());
}
