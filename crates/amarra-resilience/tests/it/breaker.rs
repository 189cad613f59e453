//! The breaker's rules one by one.

use amarra_resilience::PerMille;
use amarra_resilience::breaker::{
    Breaker, Cause, Config, Finish, Mode, Outcome, Reason, SlowCalls, State, Window,
};

use crate::support::{at, breaker, exact, ms, trip};

fn feed(breaker: &Breaker, outcomes: &[Outcome]) {
    for outcome in outcomes {
        breaker.admit(at(0)).unwrap().finish(at(0), *outcome);
    }
}

const OK: Outcome = Outcome::Ok;
const FAIL: Outcome = Outcome::Fail;

#[test]
fn fewer_calls_than_the_minimum_never_open() {
    let (breaker, _) = breaker(Config { calls_min: 4, ..exact() });
    feed(&breaker, &[FAIL, FAIL, FAIL]);
    assert_eq!(breaker.snapshot().state, State::Closed);
    feed(&breaker, &[FAIL]);
    assert_eq!(breaker.snapshot().state, State::Open);
}

#[test]
fn the_failure_rate_opens_exactly_at_its_value() {
    let check = |outcomes: &[Outcome], expect| {
        let failure_rate = PerMille::percent(50);
        let (breaker, _) = breaker(Config { calls_min: 4, failure_rate, ..exact() });
        feed(&breaker, outcomes);
        assert_eq!(breaker.snapshot().state, expect, "{outcomes:?}");
    };
    check(&[OK, OK, OK, FAIL], State::Closed);
    check(&[OK, OK, FAIL, FAIL], State::Open);
    // The good call that completes the minimum does not hide the bad ones before it.
    check(&[FAIL, FAIL, OK, OK], State::Open);
}

/// The cells of the window tell slices apart by 16 bits of their number.
#[test]
fn what_is_as_old_as_a_turn_of_the_tags_does_not_come_back() {
    let check = |slices: u16, record: Outcome| {
        let span = ms(u64::from(slices));
        let slow = SlowCalls { after: ms(1000), rate: PerMille::percent(50) };
        let window = Window::Time { span, slices };
        let (breaker, _) =
            breaker(Config { window, calls_min: 2, slow_calls: Some(slow), ..exact() });
        breaker.admit(at(0)).unwrap().finish(at(0), record);
        let later = at(u64::from(slices) << 16);
        breaker.admit(later).unwrap().finish(later, record);
        let seen = breaker.snapshot();
        assert_eq!((seen.counts.calls, seen.counts.slow <= 1), (1, true), "{slices} {record:?}");
        assert_eq!(seen.state, State::Closed, "{slices} {record:?}");
    };
    for slices in [1, 2, 10, 256] {
        [OK, FAIL, Outcome::Slow].into_iter().for_each(|record| check(slices, record));
    }
}

/// BRK-7.
#[test]
fn ignored_outcomes_count_nowhere() {
    let (breaker, _) = breaker(Config { calls_min: 1, half_open_permits: 2, ..exact() });
    feed(&breaker, &[Outcome::Ignore; 10]);
    assert_eq!(breaker.snapshot().counts.calls, 0);
    trip(&breaker, at(0));
    for _ in 0..10 {
        breaker.admit(at(1000)).unwrap().finish(at(1000), Outcome::Ignore);
    }
    let seen = breaker.snapshot();
    assert_eq!((seen.state, seen.probes_out, seen.counts.calls), (State::HalfOpen, 0, 0));
}

/// BRK-3.
#[test]
fn a_cancelled_call_of_the_closed_state_leaves_no_trace() {
    let (breaker, log) = breaker(exact());
    (0..10).for_each(|_| drop(breaker.admit(at(0)).unwrap()));
    assert_eq!(breaker.snapshot().counts.calls, 0);
    assert!(log.path().is_empty());
}

#[test]
fn slow_calls_open_whatever_they_answer() {
    let slow_calls = Some(SlowCalls { after: ms(100), rate: PerMille::percent(50) });
    let config = Config { slow_calls, calls_min: 2, failure_rate: PerMille::ALL, ..exact() };
    let check = |took: u64, outcome, expect, cause| {
        let (breaker, log) = breaker(config);
        for _ in 0..2 {
            breaker.admit(at(0)).unwrap().finish(at(took), outcome);
        }
        let got = (breaker.snapshot().state, log.0.lock().unwrap().first().map(|t| t.cause));
        assert_eq!(got, (expect, cause), "{took} ms {outcome:?}");
    };
    check(99, OK, State::Closed, None);
    check(100, OK, State::Open, Some(Cause::SlowRate));
    check(0, Outcome::Slow, State::Open, Some(Cause::SlowRate));
    check(100, FAIL, State::Open, Some(Cause::FailureRate));
    check(100, Outcome::Ignore, State::Closed, None);
}

#[test]
fn a_slow_probe_opens_again() {
    let slow_calls = Some(SlowCalls { after: ms(100), rate: PerMille::percent(50) });
    let (breaker, log) = breaker(Config { slow_calls, ..exact() });
    trip(&breaker, at(0));
    breaker.admit(at(1000)).unwrap().finish(at(1100), OK);
    assert_eq!(log.0.lock().unwrap().last().unwrap().cause, Cause::SlowRate);
    assert_eq!(breaker.snapshot().state, State::Open);
}

#[test]
fn time_spent_waiting_before_the_call_is_not_its_slowness() {
    let slow_calls = Some(SlowCalls { after: ms(100), rate: PerMille::percent(50) });
    let (breaker, _) = breaker(Config { slow_calls, ..exact() });
    let mut permit = breaker.admit(at(0)).unwrap();
    permit.begin(at(500)).unwrap();
    permit.finish(at(599), OK);
    assert_eq!(breaker.snapshot().state, State::Closed);
}

/// A thread that was put aside between reading the clock and reporting is late, its callee is not.
#[test]
fn a_call_is_timed_by_its_own_readings_whatever_others_read_since() {
    let slow_calls = Some(SlowCalls { after: ms(100), rate: PerMille::percent(50) });
    let (breaker, _) = breaker(Config { slow_calls, calls_min: 1, ..exact() });
    let early = breaker.admit(at(0)).unwrap();
    breaker.admit(at(200)).unwrap().finish(at(250), OK);
    early.finish(at(99), OK);
    assert_eq!(breaker.snapshot().state, State::Closed);
}

#[test]
fn a_permit_of_a_period_that_ended_badly_is_not_confirmed() {
    let (breaker, _) = breaker(exact());
    let mut waiting = breaker.admit(at(0)).unwrap();
    assert_eq!(waiting.begin(at(0)), Ok(()));
    trip(&breaker, at(0));
    assert_eq!(waiting.begin(at(10)).unwrap_err().reason, Reason::Open);
    let mut probe = breaker.admit(at(1000)).unwrap();
    assert_eq!(waiting.begin(at(1000)).unwrap_err().reason, Reason::Probing);
    assert_eq!(probe.begin(at(1499)), Ok(()));
    assert_eq!(probe.begin(at(1500)).unwrap_err().reason, Reason::Open, "the probe expired");
    breaker.set_mode(at(1500), Mode::ForcedOpen);
    assert_eq!(waiting.begin(at(1500)).unwrap_err().reason, Reason::ForcedOpen);
    breaker.set_mode(at(1500), Mode::Automatic);
    assert_eq!(waiting.begin(at(1500)), Ok(()), "closed again: the callee is believed healthy");
}

/// BRK-8.
#[test]
fn open_waits_double_up_to_the_maximum() {
    let (breaker, _) = breaker(exact());
    trip(&breaker, at(0));
    let mut now = at(0);
    let waits: Vec<_> = (0..6)
        .map(|_| {
            let wait = breaker.admit(now).unwrap_err().retry_after;
            let almost = now.plus(wait - ms(1));
            assert_eq!(breaker.admit(almost).unwrap_err().retry_after, ms(1));
            now = now.plus(wait);
            breaker.admit(now).unwrap().finish(now, FAIL);
            wait.as_millis()
        })
        .collect();
    assert_eq!(waits, [1000, 2000, 4000, 8000, 8000, 8000]);
}

#[test]
fn open_waits_are_random_within_their_share_and_repeat_by_seed() {
    let wait = |seed| {
        let config = Config { open_jitter: PerMille::percent(25), ..exact() };
        let breaker = Breaker::new("b", config, seed).unwrap();
        trip(&breaker, at(0));
        breaker.admit(at(0)).unwrap_err().retry_after
    };
    let waits: Vec<_> = (0..50).map(wait).collect();
    assert!(waits.iter().all(|w| (ms(750)..=ms(1000)).contains(w)), "{waits:?}");
    let distinct: std::collections::BTreeSet<_> = waits.iter().collect();
    assert!(distinct.len() > 40);
    assert_eq!(waits, (0..50).map(wait).collect::<Vec<_>>());
}

#[test]
fn probes_are_judged_together() {
    let check = |outcomes: &[Outcome], expect| {
        let (breaker, _) = breaker(Config { half_open_permits: 3, ..exact() });
        trip(&breaker, at(0));
        for outcome in outcomes {
            breaker.admit(at(1000)).unwrap().finish(at(1000), *outcome);
        }
        assert_eq!(breaker.snapshot().state, expect, "{outcomes:?}");
    };
    check(&[OK, OK], State::HalfOpen);
    check(&[OK, OK, OK], State::Closed);
    check(&[FAIL], State::HalfOpen);
    check(&[OK, FAIL, OK], State::Closed);
    // Decided as soon as the third cannot change it.
    check(&[FAIL, FAIL], State::Open);
}

/// BRK-4.
#[test]
fn a_half_open_period_ends_with_what_it_learned() {
    let check = |finished: &[Outcome], out: usize, expect, cause| {
        let (breaker, log) = breaker(Config { half_open_permits: 5, ..exact() });
        trip(&breaker, at(0));
        drop(breaker.admit(at(1000)).unwrap());
        for outcome in finished {
            breaker.admit(at(1000)).unwrap().finish(at(1000), *outcome);
        }
        let lost: Vec<_> = (0..out).map(|_| breaker.admit(at(1000)).unwrap()).collect();
        let _ = breaker.admit(at(1499));
        assert_eq!(log.path().len(), 2, "still half-open before the wait is over");
        let _ = breaker.admit(at(1500));
        let last = *log.0.lock().unwrap().last().unwrap();
        assert_eq!((last.to, last.cause, last.at), (expect, cause, at(1500)), "{finished:?} {out}");
        drop(lost);
    };
    check(&[], 1, State::Open, Cause::ProbesExpired);
    check(&[OK, OK], 1, State::Open, Cause::ProbesExpired);
    check(&[], 0, State::Open, Cause::ProbesExpired);
    check(&[OK, FAIL], 0, State::Open, Cause::FailureRate);
    // Little traffic: one good probe and nothing lost is all there is to learn from.
    check(&[OK], 0, State::Closed, Cause::ProbesOk);
}

#[test]
fn reclosing_starts_with_nothing_recorded() {
    let (breaker, _) = breaker(Config { calls_min: 2, ..exact() });
    feed(&breaker, &[FAIL, FAIL]);
    breaker.admit(at(1000)).unwrap().finish(at(1000), OK);
    breaker.admit(at(1000)).unwrap().finish(at(1000), FAIL);
    let seen = breaker.snapshot();
    assert_eq!((seen.state, seen.counts.calls), (State::Closed, 1));
}

#[test]
fn a_trip_within_the_ramp_backs_off_further_and_after_it_starts_over() {
    let check = |trip_at: u64, expect: u64| {
        let (breaker, _) = breaker(Config { ramp: ms(4000), ramp_steps: 4, ..exact() });
        trip(&breaker, at(0));
        breaker.admit(at(1000)).unwrap().finish(at(1000), OK);
        trip(&breaker, at(trip_at));
        assert_eq!(breaker.admit(at(trip_at)).unwrap_err().retry_after, ms(expect), "{trip_at}");
    };
    check(1000, 2000);
    check(4999, 2000);
    check(5000, 1000);
}

#[test]
fn a_breaker_that_just_closed_admits_a_growing_share() {
    let window = Window::Count { calls: 100 };
    let (breaker, _) = breaker(Config { ramp: ms(4000), ramp_steps: 4, window, ..exact() });
    trip(&breaker, at(0));
    breaker.admit(at(1000)).unwrap().finish(at(1000), OK);
    let admitted = |now: u64| {
        (0..100)
            .filter(|_| match breaker.admit(at(now)) {
                Ok(permit) => permit.finish(at(now), OK) == Finish::Recorded,
                Err(refused) => {
                    assert_eq!(refused.reason, Reason::Ramping);
                    false
                }
            })
            .count()
    };
    let got = [1000, 2000, 3000, 4000, 5000].map(admitted);
    assert_eq!(got, [20, 40, 60, 80, 100]);
}

#[test]
fn an_operator_decides_until_it_gives_back() {
    let (breaker, log) = breaker(exact());
    let old = breaker.admit(at(0)).unwrap();
    breaker.set_mode(at(0), Mode::ForcedOpen);
    breaker.set_mode(at(0), Mode::ForcedOpen);
    assert_eq!(breaker.admit(at(1_000_000)).unwrap_err().reason, Reason::ForcedOpen);
    assert_eq!(old.finish(at(0), FAIL), Finish::Stale { epoch: 0 });
    breaker.set_mode(at(0), Mode::Disabled);
    feed(&breaker, &[FAIL; 10]);
    assert_eq!(breaker.snapshot().counts.calls, 0);
    breaker.set_mode(at(0), Mode::MetricsOnly);
    feed(&breaker, &[FAIL; 10]);
    assert_eq!(breaker.snapshot().counts.failed, 10);
    breaker.set_mode(at(0), Mode::Automatic);
    breaker.set_mode(at(0), Mode::Automatic);
    assert_eq!(breaker.snapshot().counts.calls, 0, "starts with nothing recorded");
    let path = [State::ForcedOpen, State::Disabled, State::MetricsOnly, State::Closed];
    assert_eq!(log.path(), path);
    trip(&breaker, at(1_000_000));
    breaker.set_mode(at(1_000_000), Mode::Automatic);
    assert_eq!(breaker.snapshot().state, State::Open, "handing back what was not taken");
}

/// BRK-5.
#[test]
fn two_periods_that_ended_unseen_are_told_in_order() {
    let (breaker, log) = breaker(exact());
    trip(&breaker, at(0));
    let lost = breaker.admit(at(1000)).unwrap();
    let probe = breaker.admit(at(1_000_000)).unwrap();
    let told: Vec<_> =
        log.0.lock().unwrap().iter().map(|t| (t.to, t.epoch, t.at)).skip(2).collect();
    assert_eq!(told, [(State::Open, 3, at(1500)), (State::HalfOpen, 4, at(1_000_000))]);
    drop((lost, probe));
}

#[test]
fn a_bad_configuration_makes_no_breaker() {
    let config = Config { half_open_permits: 0, ..exact() };
    assert_eq!(Breaker::new("b", config, 1).unwrap_err().field, "half_open_permits");
    let entropy = amarra_core::SeededEntropy::new(1, "b");
    assert!(Breaker::seeded("b", config, &entropy).is_err());
    assert_eq!(Breaker::seeded("b", exact(), &entropy).unwrap().name(), "b");
}
