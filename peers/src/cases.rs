//! The cases and their subjects.

use std::error::Error;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use amarra_resilience::breaker::{Breaker, Config, Outcome, SlowCalls};
use amarra_resilience::retry::{Budget, BudgetConfig};
use amarra_resilience::tower::{BreakerLayer, Shared};
use amarra_resilience::{Monotonic, PerMille, Ticks};
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::{Layer, Service};

use crate::clock::{exact, ticking};
use crate::harness::Subject;

/// A case: its name, on how many threads, who takes part, and what share of the best peer's figure
/// ours may be, in thousandths.
type Entry = (&'static str, usize, fn() -> Made, u32);

/// The subjects of a case, or why one cannot be made.
type Made = Result<Vec<Subject>, Box<dyn Error>>;

/// Every case, in the order of the table.
pub(crate) const ALL: &[Entry] = &[
    ("closed-success", 1, closed, 300),
    ("closed-success-2-threads", 2, closed, 100),
    ("slow-call", 1, slow, 500),
    ("tower-layer", 1, layers, 40),
    ("reject", 1, reject, 250),
    ("budget-deposit", 1, deposits, 50),
    ("budget-deposit-2-threads", 2, deposits, 50),
];

/// The call that is guarded.
#[inline(never)]
fn work(n: u32) -> Result<u32, u32> {
    let n = black_box(n);
    if n == u32::MAX { Err(n) } else { Ok(n) }
}

fn times(n: u32, mut call: impl FnMut(u32)) {
    for i in 0..n {
        call(i);
    }
}

fn breaker(config: Config) -> Result<Breaker, Box<dyn Error>> {
    Ok(Breaker::new("b", config, 1)?)
}

fn bare() -> Subject {
    Subject::new("bare", |n| times(n, |i| _ = black_box(work(i))))
}

fn recloser() -> recloser::Recloser {
    recloser::Recloser::custom().closed_len(100).open_wait(Duration::from_secs(600)).build()
}

fn consecutive() -> impl failsafe::CircuitBreaker + Send + Sync {
    let wait = failsafe::backoff::constant(Duration::from_secs(600));
    let policy = failsafe::failure_policy::consecutive_failures(3, wait);
    failsafe::Config::new().failure_policy(policy).build()
}

fn closed() -> Made {
    use failsafe::CircuitBreaker as _;
    let (ours, exactly) = (breaker(Config::default())?, breaker(Config::default())?);
    let count = amarra_resilience::breaker::Window::Count { calls: 100 };
    let counting = breaker(Config { window: count, ..Config::default() })?;
    let recloser = recloser();
    let default = failsafe::Config::new().build();
    let consecutive = consecutive();
    Ok(vec![
        bare(),
        Subject::new("amarra", move |n| {
            times(n, |i| _ = black_box(ours.call(exact, Outcome::of_result, || work(i))));
        }),
        Subject::new("amarra, clock each call", move |n| {
            times(n, |i| {
                if let Ok(permit) = exactly.admit(exact()) {
                    let out = black_box(work(i));
                    permit.finish(exact(), Outcome::of_result(&out));
                }
            });
        }),
        Subject::new("amarra, count window", move |n| {
            times(n, |i| _ = black_box(counting.call(exact, Outcome::of_result, || work(i))));
        }),
        Subject::new("recloser", move |n| {
            times(n, |i| _ = black_box(recloser.call(|| work(i))));
        }),
        Subject::new("failsafe", move |n| {
            times(n, |i| _ = black_box(default.call(|| work(i))));
        }),
        Subject::new("failsafe, consecutive", move |n| {
            times(n, |i| _ = black_box(consecutive.call(|| work(i))));
        }),
    ])
}

fn slow_calls() -> Config {
    let rule = SlowCalls { after: Duration::from_secs(1), rate: PerMille::percent(50) };
    Config { slow_calls: Some(rule), ..Config::default() }
}

fn slow() -> Made {
    let ticks = ticking();
    let (ticked, exactly) = (breaker(slow_calls())?, breaker(slow_calls())?);
    Ok(vec![
        bare(),
        Subject::new("amarra", move |n| {
            let clock = || ticks.now();
            times(n, |i| _ = black_box(ticked.call(clock, Outcome::of_result, || work(i))));
        }),
        Subject::new("amarra, exact clock", move |n| {
            times(n, |i| _ = black_box(exactly.call(exact, Outcome::of_result, || work(i))));
        }),
    ])
}

/// The service that is guarded.
#[derive(Debug, Clone)]
struct Echo;

impl Service<u32> for Echo {
    type Response = u32;
    type Error = u32;
    type Future = std::future::Ready<Result<u32, u32>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), u32>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u32) -> Self::Future {
        std::future::ready(work(n))
    }
}

fn serve<S: Service<u32>>(service: &mut S, n: u32) {
    let mut cx = Context::from_waker(Waker::noop());
    times(n, |i| {
        let _ = black_box(service.poll_ready(&mut cx).is_ready());
        let mut answer = pin!(service.call(i));
        let answer = answer.as_mut().poll(&mut cx);
        assert!(black_box(answer.is_ready()));
    });
}

fn served<S>(name: &'static str, service: S) -> Subject
where
    S: Service<u32> + Send + 'static,
{
    let service = Mutex::new(service);
    Subject::new(name, move |n| {
        serve(&mut *service.lock().unwrap_or_else(PoisonError::into_inner), n)
    })
}

fn layers() -> Made {
    let shared = || breaker(Config::default()).map(Shared::new);
    let counted = Arc::new(breaker(Config::default())?);
    let borrowed: &'static Breaker = Box::leak(Box::new(breaker(Config::default())?));
    let long = Duration::from_secs(600);
    let old = tower_circuitbreaker::circuit_breaker_builder::<u32, u32>()
        .sliding_window_size(100)
        .wait_duration_in_open(long)
        .build();
    let new = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder()
        .sliding_window_size(100)
        .wait_duration_in_open(long)
        .build()?;
    let slow = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder()
        .sliding_window_size(100)
        .wait_duration_in_open(long)
        .slow_call_duration_threshold(Duration::from_secs(1))
        .slow_call_rate_threshold(0.5)
        .build()?;
    // As in a `static`, where a program has one tick.
    let ticks: &'static Ticks = Box::leak(Box::new(ticking()));
    let timed = Shared::new(breaker(slow_calls())?);
    Ok(vec![
        served("bare", Echo),
        served("amarra", BreakerLayer::new(shared()?, exact).layer(Echo)),
        served("amarra, borrowed", BreakerLayer::new(borrowed, exact).layer(Echo)),
        served("amarra, in an Arc", BreakerLayer::new(counted, exact).layer(Echo)),
        served("tower-circuitbreaker", old.layer(Echo)),
        served("tower-resilience", new.layer(Echo)),
        served("amarra, slow calls", BreakerLayer::new(timed, || ticks.now()).layer(Echo)),
        served("tower-resilience, slow calls", slow.layer(Echo)),
    ])
}

fn reject() -> Made {
    use failsafe::CircuitBreaker as _;
    let (ticks, ours, exactly) = (ticking(), breaker(long_open())?, breaker(long_open())?);
    open(&ours);
    open(&exactly);
    let recloser = recloser();
    times(200, |_| _ = recloser.call(|| Err::<(), ()>(())));
    let consecutive = consecutive();
    times(10, |_| _ = consecutive.call(|| Err::<(), ()>(())));
    Ok(vec![
        // Nothing is called: what is added is all there is.
        Subject::new("bare", |n| times(n, |i| _ = black_box(i))),
        Subject::new("amarra", move |n| {
            let clock = || ticks.now();
            times(n, |i| {
                let out = ours.call(clock, Outcome::of_result, || work(i));
                assert!(black_box(out).is_err());
            });
        }),
        Subject::new("amarra, exact clock", move |n| {
            times(n, |i| {
                let out = exactly.call(exact, Outcome::of_result, || work(i));
                assert!(black_box(out).is_err());
            });
        }),
        Subject::new("recloser", move |n| {
            times(n, |i| assert!(black_box(recloser.call(|| work(i))).is_err()));
        }),
        Subject::new("failsafe, consecutive", move |n| {
            times(n, |i| assert!(black_box(consecutive.call(|| work(i))).is_err()));
        }),
    ])
}

fn long_open() -> Config {
    let open_wait = Duration::from_secs(600);
    Config { open_wait, open_wait_max: open_wait, calls_min: 1, ..Config::default() }
}

fn open(breaker: &Breaker) {
    let now: Monotonic = exact();
    if let Ok(permit) = breaker.admit(now) {
        permit.finish(now, Outcome::Fail);
    }
}

fn deposits() -> Made {
    let ours = Budget::new(BudgetConfig::default())?;
    let theirs = TpsBudget::new(Duration::from_secs(10), 1, 0.1);
    Ok(vec![
        Subject::new("bare", |n| times(n, |i| _ = black_box(i))),
        Subject::new("amarra", move |n| {
            times(n, |i| {
                black_box(i);
                ours.deposit();
            });
        }),
        Subject::new("tower", move |n| {
            times(n, |i| {
                black_box(i);
                theirs.deposit();
            });
        }),
    ])
}
