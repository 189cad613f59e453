//! The crates the suite of defects is run through.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use amarra_resilience::suite::{Amarra, Answer, Call, Guard, Purse, Setup, Subject, Work, start};
use tokio::runtime::Runtime;
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::{Layer, Service};

/// Every subject.
pub(crate) fn all() -> std::io::Result<Vec<Box<dyn Subject>>> {
    let time = Rc::new(Time::new()?);
    Ok(vec![
        Box::new(Ours(Amarra::default())),
        Box::new(Peer { name: "recloser 1.4", time: time.clone(), breaker: recloser, purse: None }),
        Box::new(Peer { name: "failsafe 1.3", time: time.clone(), breaker: failsafe, purse: None }),
        Box::new(Peer {
            name: "tower-circuitbreaker 0.2",
            time: time.clone(),
            breaker: tower_circuitbreaker,
            purse: None,
        }),
        Box::new(Peer {
            name: "tower-resilience 0.14",
            time: time.clone(),
            breaker: tower_resilience,
            purse: None,
        }),
        Box::new(Peer { name: "tower 0.5", time, breaker: |_| None, purse: Some(tps) }),
    ])
}

fn allocated(work: &mut dyn FnMut()) -> i64 {
    allocation_counter::measure(work).bytes_current
}

/// This repository's crate, with its leaks measured.
struct Ours(Amarra);

impl Subject for Ours {
    fn name(&self) -> &str {
        "amarra"
    }

    fn breaker(&self, setup: Setup) -> Option<Box<dyn Guard>> {
        self.0.breaker(setup)
    }

    fn purse(&self, percent: u8) -> Option<Box<dyn Purse>> {
        self.0.purse(percent)
    }

    fn pass(&self, time: Duration) {
        self.0.pass(time);
    }

    fn warp(&self, time: Duration) {
        self.0.warp(time);
    }

    fn leaks(&self, work: &mut dyn FnMut()) -> Option<i64> {
        Some(allocated(work))
    }
}

/// A paused runtime: the virtual clock of the async world. Real time passes by sleeping.
struct Time(Runtime);

impl Time {
    fn new() -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Ok(Self(builder.enable_time().start_paused(true).build()?))
    }
}

type MakePurse = fn(Rc<Time>, u8) -> Box<dyn Purse>;
type Make = fn(Setup) -> Option<Box<dyn Guard>>;

struct Peer {
    name: &'static str,
    time: Rc<Time>,
    breaker: Make,
    purse: Option<MakePurse>,
}

impl Subject for Peer {
    fn name(&self) -> &str {
        self.name
    }

    fn breaker(&self, setup: Setup) -> Option<Box<dyn Guard>> {
        let _within = self.time.0.enter();
        (self.breaker)(setup)
    }

    fn purse(&self, percent: u8) -> Option<Box<dyn Purse>> {
        self.purse.map(|make| make(Rc::clone(&self.time), percent))
    }

    fn pass(&self, time: Duration) {
        std::thread::sleep(time);
        self.warp(time);
    }

    fn warp(&self, time: Duration) {
        self.time.0.block_on(tokio::time::advance(time));
    }

    fn leaks(&self, work: &mut dyn FnMut()) -> Option<i64> {
        Some(allocated(work))
    }
}

struct Reclosed(recloser::AsyncRecloser);

fn recloser(setup: Setup) -> Option<Box<dyn Guard>> {
    let recloser = recloser::Recloser::custom()
        .closed_len(setup.window as usize)
        .half_open_len(setup.permits as usize)
        .open_wait(setup.open_wait)
        .build();
    Some(Box::new(Reclosed(recloser.into())))
}

impl Guard for Reclosed {
    fn start(&self) -> Option<Box<dyn Call + '_>> {
        start(|work| {
            let call = self.0.call(work);
            Box::pin(async { answer(matches!(call.await, Err(recloser::Error::Rejected))) })
        })
    }

    /// Its synchronous call pins the epoch that all users of crossbeam share, so this is asked of
    /// that one.
    fn garbage_held(&self) -> Option<i64> {
        let recloser = recloser::Recloser::custom().build();
        let held = |inside: bool| {
            allocated(&mut || {
                let make = || {
                    for _ in 0..20_000 {
                        let kib = vec![0_u8; 1024];
                        crossbeam_epoch::pin().defer(move || drop(kib));
                    }
                    Ok::<_, ()>(())
                };
                if inside {
                    // What is still there when the call ends could not be freed during it.
                    let _ = recloser.call(make);
                } else {
                    let _ = make();
                }
            })
        };
        Some(held(true) - held(false))
    }
}

fn answer(refused: bool) -> Answer {
    if refused { Answer::Refused } else { Answer::Done }
}

struct Failsafe<B>(B);

fn failsafe(setup: Setup) -> Option<Box<dyn Guard>> {
    let wait = failsafe::backoff::constant(setup.open_wait);
    let policy = failsafe::failure_policy::consecutive_failures(setup.calls_min, wait);
    Some(Box::new(Failsafe(failsafe::Config::new().failure_policy(policy).build())))
}

impl<B: failsafe::futures::CircuitBreaker> Guard for Failsafe<B> {
    fn start(&self) -> Option<Box<dyn Call + '_>> {
        start(|work| {
            let call = self.0.call(work);
            Box::pin(async { answer(matches!(call.await, Err(failsafe::Error::Rejected))) })
        })
    }
}

/// A service that does the work it is given.
#[derive(Debug, Clone)]
struct Worker;

impl Service<Work> for Worker {
    type Response = ();
    type Error = ();
    type Future = Work;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), ()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, work: Work) -> Work {
        work
    }
}

struct Layered<S>(RefCell<S>, fn(&str) -> bool);

impl<S> Guard for Layered<S>
where
    S: Service<Work>,
    S::Error: std::fmt::Debug,
{
    fn start(&self) -> Option<Box<dyn Call + '_>> {
        start(|work| {
            let mut service = self.0.borrow_mut();
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = service.poll_ready(&mut cx);
            let call = service.call(work);
            Box::pin(async move {
                let refused = |error: S::Error| (self.1)(&format!("{error:?}"));
                answer(call.await.err().is_some_and(refused))
            })
        })
    }
}

fn is_open(error: &str) -> bool {
    error.starts_with("OpenCircuit")
}

fn tower_circuitbreaker(setup: Setup) -> Option<Box<dyn Guard>> {
    let layer = tower_circuitbreaker::circuit_breaker_builder::<(), ()>()
        .sliding_window_size(setup.window as usize)
        .minimum_number_of_calls(setup.calls_min as usize)
        .permitted_calls_in_half_open(setup.permits as usize)
        .wait_duration_in_open(setup.open_wait)
        .build();
    Some(Box::new(Layered(RefCell::new(layer.layer(Worker)), is_open)))
}

fn tower_resilience(setup: Setup) -> Option<Box<dyn Guard>> {
    let layer = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder()
        .sliding_window_size(setup.window as usize)
        .minimum_number_of_calls(setup.calls_min as usize)
        .permitted_calls_in_half_open(setup.permits as usize)
        .wait_duration_in_open(setup.open_wait)
        .build()
        .ok()?;
    Some(Box::new(Layered(RefCell::new(layer.layer(Worker)), is_open)))
}

struct Tps(TpsBudget, Rc<Time>);

fn tps(time: Rc<Time>, percent: u8) -> Box<dyn Purse> {
    let within = time.0.enter();
    // It keeps what was paid in for its time to live: one that outlasts the probe.
    let budget = TpsBudget::new(Duration::from_secs(10), 0, f32::from(percent) / 100.0);
    drop(within);
    Box::new(Tps(budget, time))
}

impl Purse for Tps {
    fn deposit(&self) {
        let _within = self.1.0.enter();
        self.0.deposit();
    }

    fn withdraw(&self) -> bool {
        let _within = self.1.0.enter();
        self.0.withdraw()
    }

    fn idle_month(&self) -> Option<u64> {
        let after = |idle: Duration| {
            let within = self.1.0.enter();
            let budget = TpsBudget::new(Duration::from_secs(1), 0, 0.1);
            drop(within);
            self.1.0.block_on(tokio::time::advance(idle));
            let _within = self.1.0.enter();
            let started = Instant::now();
            budget.deposit();
            started.elapsed().as_nanos().max(1)
        };
        let (second, month) =
            (after(Duration::from_secs(1)), after(Duration::from_secs(30 * 86_400)));
        Some(u64::try_from(month * 1000 / second).unwrap_or(u64::MAX))
    }
}
