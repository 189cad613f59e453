//! The rate limiter against a leaky bucket replayed from the start, and its bounds.

use std::time::Duration;

use amarra_core::Monotonic;
use amarra_resilience::limiter::{KeyedLimiter, Limiter, LimiterConfig};
use proptest::prelude::*;

use crate::support::{at, ms};

fn nanos(n: u64) -> Monotonic {
    Monotonic::from_nanos(n)
}

/// Replays every call admitted so far through a bucket that leaks one nanosecond a nanosecond, and
/// says whether one more at `now` finds room.
fn has_room(admitted: &[u64], now: u64, interval: u64, burst: u64) -> Result<(), u64> {
    let (mut level, mut last) = (0_u64, 0_u64);
    for &call in admitted {
        level = level.saturating_sub(call - last) + interval;
        last = call;
    }
    let level = level.saturating_sub(now - last);
    let room = interval * (burst - 1);
    if level <= room { Ok(()) } else { Err(level - room) }
}

proptest! {
    /// LIM-1.
    #[test]
    fn it_is_the_leaky_bucket(
        calls in 1..50_u32,
        period in 1..10_000_u64,
        burst in 1..6_u32,
        gaps in prop::collection::vec(0..800_u64, 1..200),
    ) {
        let config = LimiterConfig {
            calls, period: Duration::from_nanos(period), burst, ..LimiterConfig::default()
        };
        let limiter = Limiter::new(config).unwrap();
        let keyed = KeyedLimiter::new(config).unwrap();
        let interval = period.div_ceil(u64::from(calls));
        let (mut now, mut admitted) = (0, Vec::new());
        for gap in gaps {
            now += gap;
            let got = limiter.admit(nanos(now));
            let expect = has_room(&admitted, now, interval, u64::from(burst));
            let wait = got.map_err(|limited| limited.retry_after);
            prop_assert_eq!(wait, expect.map_err(Duration::from_nanos));
            prop_assert_eq!(keyed.admit(&"k", nanos(now)), got);
            if got.is_ok() {
                admitted.push(now);
            }
        }
        // LIM-1, for every span that begins and ends with a call.
        for (i, from) in admitted.iter().enumerate() {
            for (n, to) in admitted[i..].iter().enumerate() {
                let most = u64::from(burst) + (to - from) / interval;
                let calls = n as u64 + 1;
                prop_assert!(calls <= most, "{} calls in {}", calls, to - from);
            }
        }
    }
}

/// LIM-2 and LIM-3.
#[test]
fn a_refusal_says_exactly_when() {
    let limiter = Limiter::new(LimiterConfig { burst: 2, ..LimiterConfig::default() }).unwrap();
    assert!(limiter.admit(at(0)).is_ok() && limiter.admit(at(0)).is_ok());
    for _ in 0..100 {
        assert_eq!(limiter.admit(at(0)).unwrap_err().retry_after, ms(10));
    }
    assert!(limiter.admit(nanos(9_999_999)).is_err());
    assert!(limiter.admit(at(10)).is_ok(), "a refused call costs nothing");
}

/// LIM-4.
#[test]
fn keys_do_not_share_and_the_bound_holds() {
    let config = LimiterConfig { burst: 1, keys_max: 2, ..LimiterConfig::default() };
    let limiter = KeyedLimiter::new(config).unwrap();
    assert!(limiter.is_empty());
    assert!(limiter.admit(&1, at(0)).is_ok());
    assert!(limiter.admit(&1, at(0)).is_err());
    assert!(limiter.admit(&2, at(0)).is_ok());
    // Beyond the bound all share one allowance: neither free for new keys nor closed to them.
    assert!(limiter.admit(&3, at(0)).is_ok());
    assert!(limiter.admit(&4, at(0)).is_err());
    assert_eq!(limiter.len(), 2);
    assert!(limiter.admit(&1, at(9)).is_err(), "a key in debt is not forgotten for a new one");
    assert!(limiter.admit(&5, at(10)).is_ok());
    assert!(!limiter.is_empty());
    assert_eq!(limiter.len(), 1, "keys that paid their debt made room");
}

#[test]
fn bad_rates_are_named() {
    let check = |change: fn(&mut LimiterConfig), field| {
        let mut config = LimiterConfig::default();
        change(&mut config);
        assert_eq!(config.validate().unwrap_err().field, field);
        assert_eq!(Limiter::new(config).unwrap_err().field, field);
        assert_eq!(KeyedLimiter::<u32>::new(config).unwrap_err().field, field);
    };
    check(|c| c.calls = 0, "calls");
    check(|c| c.period = Duration::ZERO, "period");
    check(|c| c.burst = 0, "burst");
    check(|c| c.keys_max = 0, "keys_max");
}
