//! The registry of breakers: one per key, bounded, forgetful of the idle only.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use amarra_resilience::breaker::{Breaker, Config, Outcome, Registry, RegistryConfig, State};
use proptest::prelude::*;

use crate::support::{Log, at, exact, ms, trip};

fn registry(keys_max: usize) -> Registry<u32> {
    let config = RegistryConfig { breaker: exact(), keys_max, idle_after: ms(1000) };
    Registry::new(config, 1).unwrap()
}

#[test]
fn one_key_opens_and_the_others_do_not_notice() {
    let registry = registry(10);
    trip(&registry.get(&1, at(0)), at(0));
    assert!(registry.get(&1, at(0)).admit(at(0)).is_err());
    assert!(registry.get(&2, at(0)).admit(at(0)).is_ok());
    assert_eq!(registry.get(&2, at(0)).name(), "2");
}

/// REG-1.
#[test]
fn idle_breakers_are_forgotten_and_held_ones_are_not() {
    let registry = registry(10);
    let held = registry.get(&1, at(0));
    let _ = registry.get(&2, at(0));
    let _ = registry.get(&3, at(900));
    let _ = registry.get(&3, at(1000));
    assert_eq!(registry.len(), 2);
    assert!(Arc::ptr_eq(&held, &registry.get(&1, at(1000))));
}

#[test]
fn a_breaker_asked_for_again_is_not_idle() {
    let registry = registry(10);
    assert!(registry.is_empty());
    trip(&registry.get(&1, at(0)), at(0));
    for now in [900, 1000] {
        assert_eq!(registry.get(&1, at(now)).snapshot().state, State::Open, "at {now}");
    }
    assert!(!registry.is_empty());
    let _ = registry.get(&2, at(1899));
    assert_eq!(registry.len(), 2);
    let _ = registry.get(&2, at(2000));
    assert_eq!(registry.len(), 1);
}

/// REG-1.
#[test]
fn at_the_bound_the_longest_unused_gives_way_unless_it_is_open_or_held() {
    let registry = registry(3);
    trip(&registry.get(&1, at(0)), at(0));
    let held = registry.get(&2, at(1));
    let _ = registry.get(&3, at(2));
    let _ = registry.get(&4, at(3));
    assert_eq!(registry.len(), 3);
    assert_eq!(registry.get(&1, at(3)).snapshot().state, State::Open, "an outage is remembered");
    assert!(Arc::ptr_eq(&held, &registry.get(&2, at(3))));
    // Four is there, three is not: had it been kept, it would be the very same one.
    let four = registry.get(&4, at(4));
    four.admit(at(4)).unwrap().finish(at(4), Outcome::Fail);
    // Nothing can give way now: the new key is served but not kept.
    assert!(registry.get(&5, at(4)).admit(at(4)).is_ok());
    assert_eq!(registry.len(), 3);
    assert_eq!(registry.get(&4, at(4)).snapshot().state, State::Open);
}

/// REG-2.
#[test]
fn a_flood_of_keys_stays_within_the_bound() {
    let registry = registry(100);
    for key in 0..10_000 {
        let _ = registry.get(&key, at(0));
        assert!(registry.len() <= 100);
    }
}

#[test]
fn breakers_of_two_keys_wait_differently_and_tell_one_observer() {
    let log = Arc::new(Log::default());
    let breaker = Config { open_jitter: amarra_resilience::PerMille::ALL, ..exact() };
    let config = RegistryConfig { breaker, ..RegistryConfig::default() };
    let registry = Registry::new(config, 1).unwrap().observed(log.clone());
    let wait = |key: u32| {
        let breaker = registry.get(&key, at(0));
        trip(&breaker, at(0));
        breaker.admit(at(0)).unwrap_err().retry_after
    };
    assert_ne!(wait(1), wait(2));
    assert_eq!(log.path().len(), 2);
}

#[test]
fn bad_bounds_are_named() {
    let check = |config: RegistryConfig, field| {
        assert_eq!(config.validate().unwrap_err().field, field);
        assert!(Registry::<u32>::new(config, 1).is_err());
    };
    check(RegistryConfig { keys_max: 0, ..RegistryConfig::default() }, "keys_max");
    check(RegistryConfig { idle_after: ms(0), ..RegistryConfig::default() }, "idle_after");
    let breaker = Config { calls_min: 0, ..exact() };
    let config = RegistryConfig { breaker, ..RegistryConfig::default() };
    check(config, "calls_min");
}

#[derive(Debug, Clone)]
enum Op {
    /// Asks for a key, and keeps what it gets.
    Hold(u32),
    /// Asks for a key, opens its breaker, and lets go of it.
    Open(u32),
    LetGo(usize),
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..12_u32).prop_map(Op::Hold),
        1 => (0..12_u32).prop_map(Op::Open),
        5 => any::<usize>().prop_map(Op::LetGo),
        4 => prop_oneof![0..20_u64, 0..300_u64].prop_map(Op::Advance),
    ]
}

/// A breaker a key had: who it is, when it was asked for, whether it was kept, and open.
struct Had {
    breaker: Weak<Breaker>,
    used: u64,
    kept: bool,
    open: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// REG-1, REG-2.
    #[test]
    fn a_key_has_one_breaker_while_it_is_held_or_not_idle(
        keys_max in 1..16_usize,
        ops in prop::collection::vec(op(), 1..150),
    ) {
        const IDLE: u64 = 100;
        let config = RegistryConfig { breaker: exact(), keys_max, idle_after: ms(IDLE) };
        let registry = Registry::<u32>::new(config, 1).unwrap();
        let mut had: BTreeMap<u32, Had> = BTreeMap::new();
        let mut held: Vec<Arc<Breaker>> = Vec::new();
        let mut now = 0_u64;
        for op in ops {
            let key = match op {
                Op::Hold(key) | Op::Open(key) => key,
                Op::LetGo(i) => {
                    if !held.is_empty() {
                        held.swap_remove(i % held.len());
                    }
                    continue;
                }
                Op::Advance(by) => {
                    now += by;
                    continue;
                }
            };
            let got = registry.get(&key, at(now));
            prop_assert!(registry.len() <= keys_max, "REG-2");
            if let Some(before) = had.get(&key).filter(|before| before.kept) {
                let is_it = |other: &Arc<Breaker>| before.breaker.as_ptr() == Arc::as_ptr(other);
                let is_held = held.iter().any(is_it);
                // At the bound what is at rest may give way to others at any time.
                let stays = keys_max >= 12 || before.open;
                let fresh = now - before.used < IDLE && stays;
                if is_held || fresh {
                    prop_assert!(is_it(&got), "REG-1");
                }
            }
            let mine = held.iter().filter(|other| Arc::ptr_eq(other, &got)).count();
            let kept = Arc::strong_count(&got) > mine + 1;
            prop_assert!(kept || registry.len() == keys_max, "there was room");
            let open = matches!(op, Op::Open(_)) || got.snapshot().state == State::Open;
            if open && got.snapshot().state == State::Closed {
                trip(&got, at(now));
            }
            had.insert(key, Had { breaker: Arc::downgrade(&got), used: now, kept, open });
            if matches!(op, Op::Hold(_)) {
                held.push(got);
            }
        }
    }
}
