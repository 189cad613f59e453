//! The breaker's own source over loom's atomics: every interleaving of a few threads, and every
//! value a load may return by the memory model, checked against the laws.
#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the same source over other atomics, of which a model needs a part"
)]

use alloc::sync::Arc;
use alloc::vec::Vec;

use loom::thread;

use super::{config, ramp, settings, state};

#[path = "cells.rs"]
mod cells;
#[path = "engine.rs"]
mod engine;
#[path = "lane.rs"]
mod lane;
#[path = "ring.rs"]
mod ring;
#[path = "no_stripes.rs"]
mod stripes;
#[path = "window.rs"]
mod window;
#[path = "word.rs"]
mod word;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

    pub(super) fn pause() {
        loom::thread::yield_now();
    }
}

use config::{Config, Window};
use engine::{Done, Engine, Events};
use settings::Settings;
use state::{Finish, Outcome, State};

const MS: u64 = 1_000_000;
/// The open period that began at 0 is over.
const PROBING: u64 = 1000 * MS;
/// The half-open period that began at `PROBING` is over.
const EXPIRED: u64 = 1500 * MS;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    builder.check(model);
}

fn engine(permits: u16, calls: u16) -> Arc<Engine> {
    let config = Config {
        window: Window::Count { calls },
        calls_min: 1,
        half_open_permits: permits,
        half_open_wait: core::time::Duration::from_millis(500),
        open_wait: core::time::Duration::from_secs(1),
        open_jitter: crate::PerMille::new(0),
        ramp: core::time::Duration::ZERO,
        ..Config::default()
    };
    Arc::new(Engine::new(Arc::new(Settings::new(config, None)), 1))
}

fn admit(engine: &Engine, now: u64) -> Option<u64> {
    engine.admit(now, &mut Events::default()).ok()
}

fn finish(engine: &Engine, now: u64, epoch: u64, outcome: Outcome) -> (Finish, Vec<u64>) {
    let mut events = Events::default();
    let done = Done { epoch, took: 0, outcome };
    let finish = engine.finish(now, done, &mut events);
    (finish, events.iter().map(|event| event.epoch).collect())
}

/// Fails once: the breaker opens at 0.
fn trip(engine: &Engine) {
    assert_eq!(finish(engine, 0, 0, Outcome::Fail).1, [1]);
}

/// BRK-1: two callers come at the end of the open wait; one probe goes out.
#[test]
fn one_permit_admits_one_of_two() {
    explore(|| {
        let engine = engine(1, 1);
        trip(&engine);
        let other = Arc::clone(&engine);
        let second = thread::spawn(move || admit(&other, PROBING));
        let first = admit(&engine, PROBING);
        let second = second.join().unwrap();
        assert!(first.is_some() != second.is_some(), "{first:?} {second:?}");
        assert_eq!(first.or(second), Some(2));
        let seen = engine.snapshot();
        assert_eq!((seen.state, seen.epoch, seen.probes_out), (State::HalfOpen, 2, 1));
    });
}

/// BRK-2, BRK-5: two failures of one closed period open it once, and the loser hears so.
#[test]
fn two_failures_open_once() {
    explore(|| {
        let engine = engine(1, 2);
        let other = Arc::clone(&engine);
        let second = thread::spawn(move || finish(&other, 0, 0, Outcome::Fail));
        let first = finish(&engine, 0, 0, Outcome::Fail);
        let second = second.join().unwrap();
        let mut told = [first.1, second.1].concat();
        told.sort_unstable();
        assert_eq!(told, [1], "one transition, told once");
        let seen = engine.snapshot();
        let stale = [first.0, second.0].iter().filter(|f| **f != Finish::Recorded).count();
        assert_eq!((seen.state, seen.epoch), (State::Open, 1));
        assert_eq!(seen.stale, u64::try_from(stale).unwrap());
    });
}

/// BRK-4: a probe answers while another caller finds that it has expired; one of them decides.
#[test]
fn an_answer_and_its_expiry_decide_once() {
    for outcome in [Outcome::Ok, Outcome::Fail] {
        explore(move || {
            let engine = engine(1, 1);
            trip(&engine);
            let epoch = admit(&engine, PROBING).unwrap();
            let other = Arc::clone(&engine);
            let caller = thread::spawn(move || admit(&other, EXPIRED));
            let (answer, told) = finish(&engine, PROBING, epoch, outcome);
            let caller = caller.join().unwrap();
            let seen = engine.snapshot();
            match answer {
                Finish::Recorded if outcome == Outcome::Ok => {
                    assert_eq!((seen.state, seen.epoch), (State::Closed, 3));
                    assert_eq!((told, caller), (alloc::vec![3], Some(3)));
                }
                _ => {
                    assert_eq!((seen.state, seen.epoch), (State::Open, 3));
                    assert_eq!(caller, None);
                }
            }
        });
    }
}

/// BRK-3: a permit given back goes out at most once more.
#[test]
fn a_permit_given_back_is_there_once() {
    explore(|| {
        let engine = engine(1, 1);
        trip(&engine);
        let epoch = admit(&engine, PROBING).unwrap();
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let engine = Arc::clone(&engine);
                thread::spawn(move || admit(&engine, PROBING))
            })
            .collect();
        engine.give_back(epoch);
        let admitted = callers.into_iter().filter_map(|caller| caller.join().unwrap()).count();
        assert!(admitted <= 1);
        assert_eq!(usize::from(engine.snapshot().probes_out), admitted);
    });
}

/// BRK-2: a good call of a closed period leaves nothing in the next one, however late its record
/// comes; by the ring, whose cells have no tags.
#[test]
fn a_late_record_is_not_in_the_next_period() {
    explore(|| {
        let engine = engine(1, 4);
        let other = Arc::clone(&engine);
        let late = thread::spawn(move || {
            let known = crate::Monotonic::from_nanos(0);
            other.finish_good(0, known)
        });
        let done = finish(&engine, 0, 0, Outcome::Fail);
        if done.1 == [1] {
            let probe = admit(&engine, PROBING).unwrap();
            assert_eq!(finish(&engine, PROBING, probe, Outcome::Ok).1, [3]);
        }
        let _ = late.join().unwrap();
        let seen = engine.snapshot();
        if seen.epoch == 3 {
            assert_eq!(seen.counts.calls, 0, "of an earlier period");
        }
    });
}

/// The ramp's credit is neither lost nor doubled.
#[test]
fn two_callers_of_a_ramp_share_its_credit() {
    explore(|| {
        let config = Config {
            window: Window::Count { calls: 1 },
            calls_min: 1,
            half_open_permits: 1,
            open_wait: core::time::Duration::from_secs(1),
            open_jitter: crate::PerMille::new(0),
            ramp: core::time::Duration::from_secs(10),
            ramp_steps: 1,
            ..Config::default()
        };
        let engine = Arc::new(Engine::new(Arc::new(Settings::new(config, None)), 1));
        trip(&engine);
        let probe = admit(&engine, PROBING).unwrap();
        finish(&engine, PROBING, probe, Outcome::Ok);
        let other = Arc::clone(&engine);
        let caller = thread::spawn(move || admit(&other, PROBING));
        let first = admit(&engine, PROBING);
        let admitted = [first, caller.join().unwrap()].iter().flatten().count();
        assert_eq!(admitted, 1, "half of them, the first one");
    });
}

/// A thread goes from slice to slice while another sums: what was counted is always seen, wherever
/// it is, and once.
#[test]
fn a_count_that_moves_is_never_missed() {
    explore(|| {
        let spot = |slot: usize, mark| lane::Spot {
            slot,
            mark,
            ends: mark * MS,
            token: word::Token::closed(word::Word::new(word::Phase::Closed, 0)),
        };
        let lane = Arc::new(lane::Lane::new());
        lane.count(spot(0, 1), &[]);
        let other = Arc::clone(&lane);
        let writer = thread::spawn(move || {
            other.count(spot(1, 2), &[]);
            other.count(spot(2, 3), &[]);
        });
        assert_eq!(lane.calls(0, 1, &[]), 1);
        assert!(lane.calls(1, 2, &[]) <= 1);
        writer.join().unwrap();
        assert_eq!(
            [(0, 1), (1, 2), (2, 3)].map(|(slot, mark)| lane.calls(slot, mark, &[])),
            [1; 3]
        );
    });
}
