//! The tower layers: readiness, refusals, cancellation and allocations.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::{Future, Ready, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use amarra_resilience::Monotonic;
use amarra_resilience::breaker::{Breaker, Config, Outcome, Registry, RegistryConfig, State};
use amarra_resilience::limiter::{Limiter, LimiterConfig};
use amarra_resilience::tower::{BreakerLayer, LimitLayer, Refused, Shared};
use futures_util::FutureExt;
use tower::{Layer, Service, service_fn};

use crate::support::{at, exact, ms, trip};

/// Answers as told, and insists on being asked for readiness before each call.
#[derive(Debug, Clone)]
struct Callee {
    polled: Rc<Cell<u32>>,
    called: Rc<Cell<u32>>,
    ready: bool,
    answer: Result<u32, &'static str>,
}

fn callee(answer: Result<u32, &'static str>) -> Callee {
    Callee { polled: Rc::default(), called: Rc::default(), ready: false, answer }
}

impl Service<()> for Callee {
    type Response = u32;
    type Error = &'static str;
    type Future = Ready<Result<u32, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.polled.set(self.polled.get() + 1);
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "TWR-2: called without being asked");
        self.called.set(self.called.get() + 1);
        ready(self.answer)
    }
}

fn once<S: Service<()>>(service: &mut S) -> Option<Result<S::Response, S::Error>> {
    let mut cx = Context::from_waker(Waker::noop());
    match service.poll_ready(&mut cx) {
        Poll::Ready(Ok(())) => service.call(()).now_or_never(),
        Poll::Ready(Err(error)) => Some(Err(error)),
        Poll::Pending => None,
    }
}

fn serve<S: Service<u32, Response = u32>>(service: &mut S, calls: u32) {
    for n in 0..calls {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        assert_eq!(service.call(n).now_or_never().and_then(Result::ok), Some(n));
    }
}

fn clock(now: &Cell<u64>) -> impl Fn() -> Monotonic + Clone + '_ {
    || at(now.get())
}

/// TWR-1.
#[test]
fn an_open_breaker_neither_polls_nor_calls() {
    let (breaker, now) = (Breaker::new("b", exact(), 1).unwrap(), Cell::new(0));
    let inner = callee(Err("down"));
    let mut service = BreakerLayer::new(&breaker, clock(&now)).layer(inner.clone());
    assert_eq!(once(&mut service), Some(Err(Refused::Inner("down"))));
    let refused = once(&mut service).unwrap().unwrap_err();
    assert!(!refused.was_sent() && refused.into_inner().is_none());
    assert_eq!((inner.polled.get(), inner.called.get()), (1, 1));
    now.set(1000);
    assert_eq!(once(&mut service), Some(Err(Refused::Inner("down"))), "the probe");
    assert_eq!((inner.polled.get(), inner.called.get()), (2, 2));
}

/// TWR-2: between readiness and the call the breaker changes its mind, in both directions.
#[test]
fn readiness_is_kept_and_not_made_up() {
    let (breaker, now) = (Breaker::new("b", exact(), 1).unwrap(), Cell::new(0));
    let inner = callee(Ok(7));
    let mut service = BreakerLayer::new(&breaker, clock(&now)).layer(inner.clone());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    trip(&breaker, at(0));
    assert!(matches!(service.call(()).now_or_never(), Some(Err(Refused::Refused(_)))));
    assert!(service.poll_ready(&mut cx).is_ready(), "refused: the inner one is not asked");
    now.set(1000);
    // It would be admitted now, but nobody asked the inner service since.
    assert!(matches!(service.call(()).now_or_never(), Some(Err(Refused::Refused(_)))));
    assert_eq!(inner.polled.get(), 1);
    assert_eq!(once(&mut service), Some(Ok(7)));
    assert_eq!(breaker.snapshot().state, State::Closed);
}

#[test]
fn a_response_that_is_dropped_gives_its_permit_back() {
    let breaker = Breaker::new("b", exact(), 1).unwrap();
    trip(&breaker, at(0));
    let hang = service_fn(|()| pending::<Result<(), ()>>());
    let mut service = BreakerLayer::new(&breaker, || at(1000)).layer(hang);
    for _ in 0..3 {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        let mut waiting = Box::pin(service.call(()));
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        assert_eq!(breaker.snapshot().probes_out, 1);
        drop(waiting);
        assert_eq!(breaker.snapshot().probes_out, 0);
    }
}

/// TWR-3.
#[test]
fn a_clone_asks_for_itself() {
    let breaker = Breaker::new("b", exact(), 1).unwrap();
    let inner = callee(Ok(7));
    let mut service = BreakerLayer::new(&breaker, || at(0)).layer(inner.clone());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut clone = BreakerLayer::new(&breaker, || at(0)).layer(callee(Ok(8))).clone();
    assert_eq!(once(&mut clone), Some(Ok(8)));
    assert_eq!(service.call(()).now_or_never(), Some(Ok(7)));
    assert_eq!(service.get_ref().called.get(), 1);
}

#[test]
fn a_judge_says_what_an_answer_means() {
    let breaker = Breaker::new("b", exact(), 1).unwrap();
    let judge = |answer: &Result<u32, &'static str>| match answer {
        Err("declined") => Outcome::Ok,
        answer => Outcome::of_result(answer),
    };
    let layer = BreakerLayer::new(&breaker, || at(0)).judged(judge);
    assert_eq!(
        once(&mut layer.layer(callee(Err("declined")))),
        Some(Err(Refused::Inner("declined")))
    );
    assert_eq!(breaker.snapshot().state, State::Closed);
    let _ = once(&mut layer.layer(callee(Err("down"))));
    assert_eq!(breaker.snapshot().state, State::Open);
}

/// BRK-3 for the parts of a call that are not the inner future.
#[test]
fn a_panic_of_the_inner_service_or_of_the_judge_is_a_failed_probe() {
    let check = |panics: &str, probe: &mut dyn FnMut(&Breaker)| {
        let breaker = Breaker::new("b", exact(), 1).unwrap();
        trip(&breaker, at(0));
        let panicked = catch_unwind(AssertUnwindSafe(|| probe(&breaker)));
        assert!(panicked.is_err(), "{panics}");
        let seen = breaker.snapshot();
        assert_eq!((seen.state, seen.trips, seen.probes_out), (State::Open, 2, 0), "{panics}");
        assert_eq!(breaker.admit(at(1000)).unwrap_err().retry_after, ms(2000), "{panics}");
    };
    check("the inner service", &mut |breaker| {
        let inner = service_fn(|()| -> Ready<Result<u32, ()>> { panic!("no answer") });
        _ = once(&mut BreakerLayer::new(breaker, || at(1000)).layer(inner));
    });
    check("the judge", &mut |breaker| {
        let judge = |_: &Result<u32, &'static str>| -> Outcome { panic!("no verdict") };
        let layer = BreakerLayer::new(breaker, || at(1000)).judged(judge);
        _ = once(&mut layer.layer(callee(Ok(1))));
    });
}

#[test]
fn a_call_allocates_nothing() {
    let breaker = || Breaker::new("b", Config::default(), 1).unwrap();
    let check = |serve: &mut dyn FnMut(u32)| {
        // A busy breaker grows its cells once.
        serve(5000);
        assert_eq!(allocation_counter::measure(|| serve(5000)).count_total, 0);
    };
    let inner = || service_fn(|n: u32| ready(Ok::<_, ()>(n)));
    let mut counted = BreakerLayer::new(Arc::new(breaker()), || at(0)).layer(inner());
    check(&mut |calls| serve(&mut counted, calls));
    let mut shared = BreakerLayer::new(Shared::new(breaker()), || at(0)).layer(inner());
    check(&mut |calls| serve(&mut shared, calls));
    let config = Config { open_wait: ms(60_000), open_wait_max: ms(60_000), ..exact() };
    let breaker = Breaker::new("b", config, 1).unwrap();
    trip(&breaker, at(0));
    let mut service = BreakerLayer::new(&breaker, || at(0)).layer(callee(Ok(1)));
    let info = allocation_counter::measure(|| {
        for _ in 0..1000 {
            assert!(once(&mut service).unwrap().is_err());
        }
    });
    assert_eq!(info.count_total, 0, "refused");
}

#[test]
fn a_keyed_breaker_at_rest_is_small() {
    let registry = Registry::<u32>::new(RegistryConfig::default(), 1).unwrap();
    let keys = 10_000;
    let info = allocation_counter::measure(|| {
        for key in 0..keys {
            let breaker = registry.get(&key, at(0));
            for _ in 0..20 {
                breaker.admit(at(0)).unwrap().finish(at(0), Outcome::Ok);
            }
        }
    });
    assert_eq!(registry.len(), keys as usize);
    // What the map itself takes for a key: an entry is a pointer and a time.
    let map = allocation_counter::measure(|| {
        let mut map: BTreeMap<u32, (usize, u64)> = BTreeMap::new();
        (0..keys).for_each(|key| _ = map.insert(key, (0, 0)));
        std::mem::forget(map);
    });
    let each = (info.bytes_current - map.bytes_current) / i64::from(keys);
    assert!((100..=256).contains(&each), "{each} bytes a breaker");
}

#[test]
fn a_limited_service_refuses_what_is_too_fast() {
    let config = LimiterConfig { burst: 2, ..LimiterConfig::default() };
    let limiter = Arc::new(Limiter::new(config).unwrap());
    let inner = callee(Ok(1));
    let mut service = LimitLayer::new(limiter, || at(0)).layer(inner.clone());
    let got: Vec<_> = (0..3).map(|_| once(&mut service).unwrap().is_ok()).collect();
    assert_eq!((got, inner.called.get()), (vec![true, true, false], 2));
}
