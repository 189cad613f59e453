//! Adaptive concurrency against a callee with a queue, and the defects of its model.

use amarra_resilience::adaptive::{Adaptive, AdaptiveConfig, Ticket};
use amarra_resilience::breaker::Outcome;

use crate::support::at;

/// Serves ten calls at once in ten milliseconds each; the others wait.
struct Callee {
    limit: Adaptive,
    millis: u64,
    servers: u64,
}

impl Callee {
    fn new(config: AdaptiveConfig, servers: u64) -> Self {
        Self { limit: Adaptive::new(config).unwrap(), millis: 0, servers }
    }

    fn took(&self, in_flight: usize) -> u64 {
        10 * (in_flight as u64).div_ceil(self.servers).max(1)
    }

    /// Sends as many calls as it may, up to `wanted`, and waits until all have answered.
    fn round(&mut self, wanted: usize, outcome: Outcome) -> usize {
        let now = at(self.millis);
        let tickets: Vec<Ticket<'_>> =
            (0..wanted).map_while(|_| self.limit.admit(now).ok()).collect();
        let sent = tickets.len();
        assert!(sent <= self.limit.limit() as usize, "ADP-1");
        self.millis += self.took(sent);
        tickets.into_iter().for_each(|ticket| ticket.finish(at(self.millis), outcome));
        sent
    }

    fn rounds(&mut self, rounds: usize, wanted: usize, outcome: Outcome) -> Vec<usize> {
        (0..rounds).map(|_| self.round(wanted, outcome)).collect()
    }
}

/// ADP-1, ADP-3; Netflix concurrency-limits 134 and 165: under a load that never ends, the limit
/// settles and stays.
#[test]
fn it_settles_near_what_the_callee_bears_and_does_not_drift() {
    let mut callee = Callee::new(AdaptiveConfig::default(), 10);
    let sent = callee.rounds(20_000, 10_000, Outcome::Ok);
    let early = *sent[100..5000].iter().max().unwrap();
    let late = *sent[15_000..].iter().max().unwrap();
    assert!((10..=40).contains(&early), "{early}");
    assert!((10..=early).contains(&late), "{late} after {early}");
}

/// Netflix concurrency-limits 35: room is found within seconds.
#[test]
fn it_grows_into_room_within_seconds() {
    let mut callee = Callee::new(AdaptiveConfig::default(), 500);
    while callee.limit.limit() < 500 {
        callee.round(10_000, Outcome::Ok);
        assert!(callee.millis < 6000, "{} after 6 s", callee.limit.limit());
    }
}

/// ADP-4.
/// Netflix concurrency-limits 176: failures shrink it, also quick ones.
#[test]
fn failures_shrink_it_to_its_least() {
    let mut callee = Callee::new(AdaptiveConfig::default(), 500);
    callee.rounds(1000, 10_000, Outcome::Fail);
    assert_eq!(callee.limit.limit(), AdaptiveConfig::default().limit_min);
    callee.rounds(1000, 10_000, Outcome::Ok);
    assert!(callee.limit.limit() > 100, "and it comes back");
}

/// ADP-2.
#[test]
fn a_limit_nobody_reaches_does_not_grow() {
    let mut callee = Callee::new(AdaptiveConfig::default(), 500);
    callee.rounds(5000, 5, Outcome::Ok);
    assert!(callee.limit.limit() <= AdaptiveConfig::default().initial);
}

/// ADP-3: a callee that became slower for good is not believed overloaded for good.
#[test]
fn a_callee_that_changed_is_measured_anew() {
    let mut callee = Callee::new(AdaptiveConfig::default(), 100);
    callee.rounds(3000, 10_000, Outcome::Ok);
    callee.servers = 20;
    callee.rounds(5000, 10_000, Outcome::Ok);
    let shrunk = callee.limit.limit();
    assert!((15..=60).contains(&shrunk), "{shrunk}");
}

/// ADP-3, ADP-4: a failure while the shortest call is measured anew is a failure, and no measure.
#[test]
fn failures_while_it_is_measured_shrink_it_and_do_not_make_it_forget() {
    let mut callee = Callee::new(AdaptiveConfig::default(), 10);
    let least = AdaptiveConfig::default().limit_min;
    let mut before = 0;
    while callee.limit.limit() > least {
        before = callee.limit.limit();
        callee.round(10_000, Outcome::Ok);
    }
    while callee.limit.limit() == least {
        callee.round(10_000, Outcome::Fail);
    }
    assert_eq!(callee.limit.limit(), before * 9 / 10);
    // What it learned of the callee at rest is still known: it settles where it did.
    let sent = callee.rounds(200, 10_000, Outcome::Ok);
    assert!(sent.iter().all(|sent| *sent <= 40), "{sent:?}");
}

/// ADP-5.
#[test]
fn a_dropped_ticket_frees_its_place_and_teaches_nothing() {
    let limit = Adaptive::new(AdaptiveConfig { initial: 4, ..AdaptiveConfig::default() }).unwrap();
    for millis in 0..1000 {
        let held: Vec<_> = (0..4).map(|_| limit.admit(at(millis)).unwrap()).collect();
        assert_eq!(limit.admit(at(millis)).unwrap_err().limit, 4);
        drop(held);
    }
    assert_eq!((limit.in_flight(), limit.limit()), (0, 4));
    assert_eq!(limit.load().get(), 0);
}

#[test]
fn bad_bounds_are_named() {
    let check = |change: fn(&mut AdaptiveConfig), field| {
        let mut config = AdaptiveConfig::default();
        change(&mut config);
        assert_eq!(Adaptive::new(config).unwrap_err().field, field);
    };
    check(|c| c.limit_min = 0, "limit_min");
    check(|c| c.limit_max = 3, "limit_max");
    check(|c| c.initial = 3, "initial");
    check(|c| c.window = std::time::Duration::ZERO, "window");
    check(|c| c.samples_min = 0, "samples_min");
    check(|c| c.backoff = amarra_resilience::PerMille::new(0), "backoff");
}
