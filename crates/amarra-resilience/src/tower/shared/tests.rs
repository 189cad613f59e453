//! What becomes of handles: how many there are, who keeps one, and for how long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;

use super::*;
use crate::breaker::{Config, Observer, Transition};

fn shared() -> Shared {
    Shared::new(Breaker::new("b", Config::default(), 1).unwrap())
}

fn shared_at(place: usize) -> Shared {
    let breaker = Breaker::new("b", Config::default(), 1).unwrap();
    Shared(Arc::new(Placed { breaker, place }))
}

fn handles(shared: &Shared) -> usize {
    Arc::strong_count(&shared.0)
}

#[test]
fn a_call_counts_no_reference_after_the_first_of_its_thread() {
    let shared = shared();
    drop(shared.lend());
    let kept = Arc::downgrade(&shared.0);
    for _ in 0..100 {
        assert_eq!(handles(&shared), 2, "the service and the spare of this thread");
        let lent = shared.lend();
        assert_eq!(handles(&shared), 2, "the service and the spare, now the response's");
        assert_eq!(lent.name(), "b");
        drop(lent);
    }
    drop(shared);
    assert!(kept.upgrade().is_none());
}

#[test]
fn responses_that_overlap_leave_one_spare() {
    let shared = shared();
    let lent = [shared.lend(), shared.lend(), shared.lend()];
    assert_eq!(handles(&shared), 4);
    drop(lent);
    assert_eq!(handles(&shared), 2);
}

#[test]
fn the_last_one_on_a_thread_leaves_nothing() {
    let gone = |end: fn(Shared)| {
        let shared = shared();
        let kept = Arc::downgrade(&shared.0);
        end(shared);
        assert!(kept.upgrade().is_none());
    };
    gone(drop);
    gone(|shared| drop(shared.lend()));
    gone(|shared| {
        let clone = shared.clone();
        drop(shared.lend());
        drop(shared);
        drop(clone.lend());
    });
    // Responses that outlive their service.
    gone(|shared| {
        let lent = shared.lend();
        drop(shared);
        drop(lent);
    });
    gone(|shared| {
        let lent = [shared.lend(), shared.lend()];
        drop(shared);
        drop(lent);
    });
}

#[test]
fn two_breakers_of_one_place_take_turns_and_nothing_is_lost() {
    let (a, b) = (shared_at(3), shared_at(3 + PLACES));
    for _ in 0..3 {
        drop(a.lend());
        assert_eq!((handles(&a), handles(&b)), (2, 1));
        drop(b.lend());
        assert_eq!((handles(&a), handles(&b)), (1, 2));
        let (of_a, of_b) = (a.lend(), b.lend());
        assert_eq!((handles(&a), handles(&b)), (2, 2));
        drop((of_a, of_b));
    }
    // The spare of another is put back by who looks for its own.
    let kept = Arc::downgrade(&a.0);
    drop(b.lend());
    let other = a.clone();
    drop(a);
    assert_eq!(handles(&b), 2);
    drop(other);
    assert!(kept.upgrade().is_none());
}

#[test]
fn a_response_may_end_on_another_thread_which_keeps_it_until_its_end() {
    let shared = shared();
    let kept = Arc::downgrade(&shared.0);
    let lent = shared.lend();
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| {
            drop(lent);
            assert_eq!(handles(&shared), 2);
            drop(shared.lend());
            assert_eq!(handles(&shared), 2);
        });
        ended.join().unwrap();
    });
    // Joined by hand: its thread-locals are gone.
    assert_eq!(handles(&shared), 1);
    drop(shared);
    assert!(kept.upgrade().is_none());
}

#[test]
fn a_panic_gives_the_handle_back() {
    let shared = shared();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _lent = shared.lend();
        panic!("the call's own");
    }));
    assert!(panicked.is_err());
    assert_eq!(handles(&shared), 2);
}

/// Calls another breaker of the same place when the last handle of its own is dropped.
#[derive(Debug)]
struct Caller(Shared, Arc<AtomicUsize>);

impl Observer for Caller {
    fn transition(&self, _: &str, _: &Transition) {}
}

impl Drop for Caller {
    fn drop(&mut self) {
        drop(self.0.lend());
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

fn watched_at(place: usize, other: &Shared, ended: &Arc<AtomicUsize>) -> Shared {
    let observer = Arc::new(Caller(other.clone(), Arc::clone(ended)));
    let breaker = Breaker::new("b", Config::default(), 1).unwrap().observed(observer);
    Shared(Arc::new(Placed { breaker, place }))
}

#[test]
fn an_end_may_call_again() {
    let ended = Arc::new(AtomicUsize::new(0));
    let other = shared_at(5);
    // Dropped with its service, and by the response of another whose spare takes its place.
    let first = watched_at(5, &other, &ended);
    drop(first.lend());
    drop(first);
    assert_eq!(ended.load(Ordering::Relaxed), 1);
    let second = watched_at(5, &other, &ended);
    let lent = second.lend();
    drop(second);
    let third = shared_at(5);
    drop(third.lend());
    drop(lent);
    assert_eq!(ended.load(Ordering::Relaxed), 2);
    assert!(handles(&other) <= 2);
}

#[test]
fn a_thread_that_ends_drops_its_spares_which_may_call_again() {
    let ended = Arc::new(AtomicUsize::new(0));
    let other = shared_at(6);
    let service = watched_at(6, &other, &ended);
    let kept: Weak<Placed> = Arc::downgrade(&service.0);
    let lent = service.lend();
    std::thread::scope(|scope| {
        let run = scope.spawn(move || drop(lent));
        run.join().unwrap();
    });
    assert_eq!(handles(&service), 1);
    drop(service);
    assert!(kept.upgrade().is_none());
    assert_eq!((ended.load(Ordering::Relaxed), handles(&other)), (1, 2));
}
