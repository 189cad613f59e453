//! The breaker's laws checked after every step of random sequences, without a reference model.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_core::Monotonic;
use amarra_resilience::PerMille;
use amarra_resilience::breaker::{Breaker, Config, Finish, Lost, Outcome, Permit, Reason, State};
use proptest::prelude::*;

use crate::model::{Op, config, op};
use crate::support::{Log, at, breaker, exact, ms, trip};

/// A breaker, what it told, and what its laws need to know of the past.
struct Watched<'a> {
    breaker: &'a Breaker,
    log: &'a Log,
    config: Config,
    latest: Monotonic,
    /// Probes out or answered, per half-open epoch.
    probes: BTreeMap<u64, u64>,
    told: usize,
}

impl<'a> Watched<'a> {
    fn admit(&mut self, now: Monotonic) -> Option<(Permit<'a>, Monotonic)> {
        self.latest = self.latest.max(now);
        let got = self.breaker.admit(now);
        let seen = self.breaker.snapshot();
        let half_open_since = self.log.0.lock().unwrap().last().map(|t| t.at);
        match &got {
            Ok(permit) => {
                assert!(!matches!(seen.state, State::Open | State::ForcedOpen), "BRK-8");
                if seen.state == State::HalfOpen {
                    let probes = self.probes.entry(permit.epoch()).or_default();
                    *probes += 1;
                    assert!(*probes <= u64::from(self.config.half_open_permits), "BRK-1");
                }
            }
            Err(refused) => {
                if refused.reason == Reason::Probing {
                    let end = half_open_since.unwrap().plus(self.config.half_open_wait);
                    assert!(self.latest < end, "BRK-4: half-open beyond its wait");
                }
                let longest =
                    self.config.open_wait_max.max(self.config.half_open_wait).max(self.config.ramp);
                assert!(refused.retry_after <= longest, "BRK-6: a wait grew");
            }
        }
        got.ok().map(|permit| (permit, now))
    }

    fn finish(&mut self, permit: Permit<'_>, now: Monotonic, outcome: Outcome) {
        self.latest = self.latest.max(now);
        // A cancelled call of another epoch moves nothing but time, which this one would move too.
        let epoch = permit.epoch();
        let before = self.breaker.snapshot();
        let told = self.log.0.lock().unwrap().len();
        let finish = permit.finish(now, outcome);
        let after = self.breaker.snapshot();
        if before.epoch != epoch {
            assert_eq!(finish, Finish::Stale { epoch });
        }
        if finish == (Finish::Stale { epoch }) {
            assert_eq!(after.stale, before.stale + 1);
            if self.log.0.lock().unwrap().len() == told {
                let expect = (before.state, before.epoch, before.probes_out, before.trips);
                let got = (after.state, after.epoch, after.probes_out, after.trips);
                assert_eq!(got, expect, "BRK-2");
            }
        } else if before.state == State::HalfOpen && outcome == Outcome::Ignore {
            self.give_back(epoch);
            assert_eq!(after.counts, before.counts, "BRK-7");
            assert_eq!(after.probes_out + 1, before.probes_out, "BRK-7");
        }
    }

    fn cancel(&mut self, permit: Permit<'_>) {
        let before = self.breaker.snapshot();
        let epoch = permit.epoch();
        drop(permit);
        let after = self.breaker.snapshot();
        assert_eq!(
            (after.state, after.epoch, after.counts),
            (before.state, before.epoch, before.counts)
        );
        let freed = u16::from(before.state == State::HalfOpen && before.epoch == epoch);
        assert_eq!(after.probes_out + freed, before.probes_out, "BRK-3");
        if freed == 1 {
            self.give_back(epoch);
        }
    }

    fn give_back(&mut self, epoch: u64) {
        *self.probes.get_mut(&epoch).unwrap() -= 1;
    }

    /// BRK-5, for the transitions told since the last look.
    fn check_path(&mut self) {
        let log = self.log.0.lock().unwrap();
        for (n, event) in log.iter().enumerate().skip(self.told) {
            let from = n.checked_sub(1).map_or(State::Closed, |before| log[before].to);
            assert_eq!(event.from, from, "BRK-5: one event each");
            assert!(event.from.may_become(event.to), "BRK-5: {event:?}");
            assert_eq!(event.epoch, n as u64 + 1, "BRK-5: epochs count transitions");
        }
        self.told = log.len();
        let seen = self.breaker.snapshot();
        assert_eq!(seen.epoch, log.len() as u64);
        assert_eq!(seen.state, log.last().map_or(State::Closed, |t| t.to));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold_after_every_step(
        config in config(),
        jitter in 0..=1000_u16,
        seed in any::<u64>(),
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let cancelled = Lost::Ignored;
        let config = Config { open_jitter: PerMille::new(jitter), cancelled, ..config };
        let log = Arc::new(Log::default());
        let breaker = Breaker::new("b", config, seed).unwrap().observed(log.clone());
        let mut watched = Watched {
            breaker: &breaker,
            log: &log,
            config,
            latest: at(0),
            probes: BTreeMap::new(),
            told: 0,
        };
        let (mut now, mut skew) = (0_u64, 0_u64);
        let mut permits = Vec::new();
        for op in ops {
            let seen = at(now.saturating_sub(std::mem::take(&mut skew)));
            match op {
                Op::Admit => permits.extend(watched.admit(seen)),
                Op::Finish(i, outcome) if !permits.is_empty() => {
                    let (permit, _) = permits.swap_remove(i % permits.len());
                    watched.finish(permit, seen, outcome);
                }
                Op::Drop(i) if !permits.is_empty() => {
                    let (permit, _) = permits.swap_remove(i % permits.len());
                    watched.cancel(permit);
                }
                Op::Finish(..) | Op::Drop(_) | Op::Panic(_) | Op::Begin(_) | Op::Call(..) => {}
                Op::Advance(by) => now += by,
                Op::Back(by) => skew = by,
                Op::SetMode(mode) => {
                    watched.latest = watched.latest.max(seen);
                    breaker.set_mode(seen, mode);
                }
            }
            watched.check_path();
        }
    }
}

/// BRK-6.
#[test]
fn a_backward_jump_cannot_lengthen_an_open_wait() {
    let (breaker, _) = breaker(exact());
    trip(&breaker, at(10_000));
    assert_eq!(breaker.admit(at(10_400)).unwrap_err().retry_after, ms(600));
    assert_eq!(breaker.admit(at(0)).unwrap_err().retry_after, ms(600));
    let probe = breaker.admit(at(11_000)).unwrap();
    // Nor does it keep a half-open period alive: the failure is recorded at the latest time seen.
    probe.finish(at(0), Outcome::Fail);
    assert_eq!(breaker.admit(at(11_000)).unwrap_err().retry_after, ms(2000));
}
