//! The throttle: what it lets through of a callee that accepts all, some or none.

use amarra_core::SeededEntropy;
use amarra_resilience::PerMille;
use amarra_resilience::breaker::Outcome;
use amarra_resilience::throttle::{Throttle, ThrottleConfig};

use crate::support::at;

/// Sends a call a millisecond; returns how many of them got through.
fn send(throttle: &Throttle, from: u64, calls: u64, accepts: impl Fn(u64) -> bool) -> u64 {
    let entropy = SeededEntropy::new(from, "throttle");
    let mut sent = 0;
    for millis in from..from + calls {
        if throttle.admit(at(millis), &entropy).is_ok() {
            sent += 1;
            let outcome = if accepts(millis) { Outcome::Ok } else { Outcome::Fail };
            throttle.record(at(millis), outcome);
        }
    }
    sent
}

fn throttle() -> Throttle {
    Throttle::new(ThrottleConfig::default()).unwrap()
}

/// THR-1.
#[test]
fn nothing_is_refused_while_all_is_accepted() {
    assert_eq!(send(&throttle(), 0, 100_000, |_| true), 100_000);
    // Nor while half of it is: twice what is accepted is let through.
    assert_eq!(send(&throttle(), 0, 100_000, |n| n % 2 == 0), 100_000);
}

/// THR-2.
#[test]
fn a_dead_callee_gets_what_is_never_refused_and_no_more() {
    let throttle = throttle();
    send(&throttle, 0, 30_000, |_| false);
    let sent = send(&throttle, 30_000, 30_000, |_| false);
    assert!((1300..=1700).contains(&sent), "{sent} of 30000");
}

/// THR-3: what is sent is about twice what is accepted, the refused calls counted as asked for.
#[test]
fn a_callee_that_accepts_a_tenth_gets_twice_that() {
    let throttle = throttle();
    let accepts = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 == 0;
    send(&throttle, 0, 60_000, accepts);
    let sent = send(&throttle, 60_000, 60_000, accepts);
    assert!(sent < 10_000, "{sent} of 60000 when a sixteenth is accepted");
}

#[test]
fn all_is_let_through_within_three_windows_of_a_recovery() {
    let throttle = throttle();
    send(&throttle, 0, 60_000, |_| false);
    send(&throttle, 60_000, 90_000, |_| true);
    assert_eq!(send(&throttle, 150_000, 10_000, |_| true), 10_000);
}

#[test]
fn bad_bounds_are_named() {
    let check = |config: ThrottleConfig, field| {
        assert_eq!(Throttle::new(config).unwrap_err().field, field);
    };
    let fine = ThrottleConfig::default();
    check(ThrottleConfig { per_accepted_milli: 999, ..fine }, "per_accepted_milli");
    check(ThrottleConfig { span: std::time::Duration::ZERO, ..fine }, "span");
    check(ThrottleConfig { slices: 0, ..fine }, "slices");
    check(ThrottleConfig { refused_max: PerMille::ALL, ..fine }, "refused_max");
}
