//! A clock and timer moved by hand, a loop that runs futures on them, and an error of any class.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use amarra_core::{
    Class, Classify, Clock, Environment, Monotonic, SeededEntropy, Timer, Timestamp,
};
use amarra_resilience::breaker::{Breaker, Config, Finish, Observer, Outcome, State, Transition};
use amarra_resilience::retry::{Budget, Reserved};
use async_trait::async_trait;

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn at(millis: u64) -> Monotonic {
    Monotonic::default().plus(ms(millis))
}

#[derive(Debug, Default)]
struct Hands {
    now: Monotonic,
    sleeping: BTreeMap<u64, Monotonic>,
    next: u64,
}

/// Time that passes only when told to.
#[derive(Debug, Default)]
pub struct World(Mutex<Hands>);

impl World {
    pub fn env(seed: u64) -> (Arc<Self>, Environment) {
        let world = Arc::new(Self::default());
        let entropy = Arc::new(SeededEntropy::new(seed, "test"));
        let env = Environment { clock: world.clone(), timer: world.clone(), entropy };
        (world, env)
    }

    pub fn advance(&self, d: Duration) {
        let mut hands = self.0.lock().unwrap();
        hands.now = hands.now.plus(d);
    }

    pub fn sleeping(&self) -> usize {
        self.0.lock().unwrap().sleeping.len()
    }

    /// Moves to the next moment somebody sleeps until; false when nobody does.
    pub fn jump(&self) -> bool {
        let mut hands = self.0.lock().unwrap();
        let next = hands.sleeping.values().copied().min();
        hands.now = hands.now.max(next.unwrap_or_default());
        next.is_some()
    }

    /// Runs `work` to its end, moving time whenever it waits.
    pub fn run<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        for _ in 0..100_000 {
            match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(out) => return out,
                Poll::Pending => assert!(self.jump(), "waits for nothing"),
            }
        }
        panic!("never ends")
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH
    }

    fn monotonic(&self) -> Monotonic {
        self.0.lock().unwrap().now
    }
}

struct Asleep<'a>(&'a World, u64);

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().sleeping.remove(&self.1);
    }
}

#[async_trait]
impl Timer for World {
    async fn sleep_until(&self, at: Monotonic) {
        let asleep = {
            let mut hands = self.0.lock().unwrap();
            let id = hands.next;
            hands.next += 1;
            hands.sleeping.insert(id, at);
            Asleep(self, id)
        };
        poll_fn(|_| if self.monotonic() >= at { Poll::Ready(()) } else { Poll::Pending }).await;
        drop(asleep);
    }
}

/// An error that is of whatever class it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Says(pub Class);

impl Classify for Says {
    fn class(&self) -> Class {
        self.0
    }
}

impl std::fmt::Display for Says {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "says {}", self.0)
    }
}

impl std::error::Error for Says {}

/// Keeps every transition it hears of.
#[derive(Debug, Default)]
pub struct Log(pub Mutex<Vec<Transition>>);

impl Log {
    pub fn path(&self) -> Vec<State> {
        self.0.lock().unwrap().iter().map(|t| t.to).collect()
    }
}

impl Observer for Log {
    fn transition(&self, _: &str, transition: &Transition) {
        self.0.lock().unwrap().push(*transition);
    }
}

/// Exact waits, one failure opens, no ramp: what most tests want.
pub fn exact() -> Config {
    Config {
        calls_min: 1,
        half_open_permits: 1,
        half_open_wait: ms(500),
        open_wait: ms(1000),
        open_wait_max: ms(8000),
        open_jitter: amarra_resilience::PerMille::new(0),
        ramp: Duration::ZERO,
        ..Config::default()
    }
}

pub fn breaker(config: Config) -> (Breaker, Arc<Log>) {
    let log = Arc::new(Log::default());
    (Breaker::new("b", config, 1).unwrap().observed(log.clone()), log)
}

/// Opens `breaker` at `now` by failures; returns how many it took.
pub fn trip(breaker: &Breaker, now: Monotonic) -> usize {
    let fail = |_: &usize| match breaker.admit(now) {
        Ok(permit) => permit.finish(now, Outcome::Fail) == Finish::Recorded,
        Err(_) => false,
    };
    let failures = (0..20_000).take_while(fail).count();
    assert_eq!(breaker.snapshot().state, State::Open);
    failures
}

/// Spends every retry of `budget`; returns how many there were.
pub fn drain(budget: &Budget, now: Monotonic) -> usize {
    (0..20_000).map_while(|_| budget.reserve(now)).map(Reserved::spend).count()
}
