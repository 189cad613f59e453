//! The bulkhead: its bounds, its order, and nothing left behind.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use amarra_resilience::bulkhead::{Bulkhead, BulkheadConfig, Full};

use crate::support::{World, at, ms};

fn bulkhead(concurrency_max: u32, queue_max: u32) -> Bulkhead {
    let queue_wait_max = ms(100);
    Bulkhead::new(BulkheadConfig { concurrency_max, queue_max, queue_wait_max }).unwrap()
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// BLK-1.
#[test]
fn so_many_run_so_many_wait_and_one_more_is_refused() {
    let (world, env) = World::env(1);
    let bulkhead = bulkhead(2, 1);
    let slots = [(); 2].map(|()| world.run(bulkhead.acquire(&env, at(1000))).unwrap());
    let mut waiting = pin!(bulkhead.acquire(&env, at(1000)));
    assert!(poll(waiting.as_mut()).is_pending());
    assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (2, 1));
    assert_eq!(bulkhead.load().get(), 1000);
    assert_eq!(world.run(bulkhead.acquire(&env, at(1000))).unwrap_err(), Full);
    drop(slots);
    assert!(matches!(poll(waiting.as_mut()), Poll::Ready(Ok(_))));
    assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (0, 0));
}

/// BLK-2.
#[test]
fn those_who_wait_are_served_in_order_and_not_overtaken() {
    let (world, env) = World::env(1);
    let bulkhead = bulkhead(1, 2);
    let slot = world.run(bulkhead.acquire(&env, at(1000))).unwrap();
    let mut first = pin!(bulkhead.acquire(&env, at(1000)));
    let mut second = pin!(bulkhead.acquire(&env, at(1000)));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    drop(slot);
    assert!(poll(second.as_mut()).is_pending());
    let Poll::Ready(Ok(slot)) = poll(first.as_mut()) else { panic!("first in line") };
    drop(slot);
    assert!(matches!(poll(second.as_mut()), Poll::Ready(Ok(_))));
}

#[test]
fn a_wait_ends_by_its_maximum_or_by_the_deadline() {
    let check = |until, expect| {
        let (world, env) = World::env(1);
        let bulkhead = bulkhead(1, 1);
        let _slot = world.run(bulkhead.acquire(&env, at(1000))).unwrap();
        assert_eq!(world.run(bulkhead.acquire(&env, until)).unwrap_err(), Full);
        assert_eq!(env.monotonic(), expect);
        assert_eq!(bulkhead.waiting(), 0);
    };
    check(at(1000), at(100));
    check(at(30), at(30));
}

/// BLK-3.
#[test]
fn a_wait_that_is_dropped_frees_its_place_even_when_its_turn_had_come() {
    let (world, env) = World::env(1);
    let bulkhead = bulkhead(1, 1);
    let slot = world.run(bulkhead.acquire(&env, at(1000))).unwrap();
    {
        let mut waiting = pin!(bulkhead.acquire(&env, at(1000)));
        assert!(poll(waiting.as_mut()).is_pending());
        drop(slot); // assigns the place to the one who waits
    }
    assert_eq!((bulkhead.in_flight(), bulkhead.waiting()), (0, 0));
    assert_eq!(world.sleeping(), 0);
    assert!(world.run(bulkhead.acquire(&env, at(1000))).is_ok());
}

#[test]
fn no_place_at_all_is_refused_by_name() {
    let config = BulkheadConfig { concurrency_max: 0, ..BulkheadConfig::default() };
    assert_eq!(Bulkhead::new(config).unwrap_err().field, "concurrency_max");
}
