//! The breaker against a naive reference that keeps every call for ever, by random sequences.

use std::time::Duration;

use amarra_resilience::breaker::{
    Breaker, Config, Finish, Lost, Mode, Outcome, Permit, SlowCalls, State, Window,
};
use amarra_resilience::{Now, PerMille};
use proptest::prelude::*;

use crate::support::{Log, at, ms};

/// The reference. All times in milliseconds.
struct Model {
    config: Config,
    now: u64,
    state: State,
    epoch: u64,
    /// When the current state was entered.
    since: u64,
    /// (when, failed, slow) of each recorded call of the current epoch.
    calls: Vec<(u64, bool, bool)>,
    out: u64,
    trips: u32,
    /// A rate is over its limit, and only calls are wanting.
    pending: bool,
    /// Start of the ramp and calls asked for in it, by the share each met.
    ramp: Option<(u64, u64)>,
    path: Vec<State>,
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap()
}

impl Model {
    fn new(config: Config) -> Self {
        Self {
            config,
            now: 0,
            state: State::Closed,
            epoch: 0,
            since: 0,
            calls: Vec::new(),
            out: 0,
            trips: 0,
            pending: false,
            ramp: None,
            path: Vec::new(),
        }
    }

    fn go(&mut self, to: State, when: u64) {
        match to {
            State::Open => {
                self.trips += 1;
                self.ramp = None;
            }
            State::Closed if self.state == State::HalfOpen => self.ramp = Some((when, 999)),
            State::HalfOpen => {}
            _ => (self.trips, self.ramp) = (0, None),
        }
        self.state = to;
        self.since = when;
        self.epoch += 1;
        self.calls.clear();
        self.pending = false;
        self.out = 0;
        self.path.push(to);
    }

    fn wait(&self) -> u64 {
        let doubled = millis(self.config.open_wait) << (self.trips - 1).min(20);
        doubled.min(millis(self.config.open_wait_max))
    }

    fn bad(&self, calls: &[(u64, bool, bool)], of: usize) -> bool {
        let share = |n: usize| if of == 0 { 0 } else { n * 1000 };
        let failed = calls.iter().filter(|c| c.1).count();
        let slow = calls.iter().filter(|c| c.2).count();
        let reached = |n, rate: PerMille| of > 0 && share(n) >= usize::from(rate.get()) * of;
        reached(failed, self.config.failure_rate)
            || self.config.slow_calls.is_some_and(|rule| reached(slow, rule.rate))
    }

    fn at(&mut self, now: u64) {
        self.now = self.now.max(now);
        let end = self.since + millis(self.config.half_open_wait);
        if self.state == State::HalfOpen && self.now >= end {
            let learned = !self.calls.is_empty() && self.out == 0;
            let good = learned && !self.bad(&self.calls, self.calls.len());
            self.go(if good { State::Closed } else { State::Open }, end);
        }
    }

    /// `Ok(epoch)`, or how long to wait.
    fn admit(&mut self, now: u64) -> Result<u64, u64> {
        self.at(now);
        if self.state == State::Open && self.now >= self.since + self.wait() {
            self.go(State::HalfOpen, self.now);
        }
        match self.state {
            State::Open => Err(self.since + self.wait() - self.now),
            State::ForcedOpen => Err(millis(self.config.open_wait_max)),
            State::HalfOpen => {
                let used = self.calls.len() as u64 + self.out;
                if used >= u64::from(self.config.half_open_permits) {
                    return Err(self.since + millis(self.config.half_open_wait) - self.now);
                }
                self.out += 1;
                Ok(self.epoch)
            }
            State::Closed => self.ramped().map(|()| self.epoch),
            State::Disabled | State::MetricsOnly => Ok(self.epoch),
        }
    }

    fn ramped(&mut self) -> Result<(), u64> {
        let (length, steps) = (millis(self.config.ramp), u64::from(self.config.ramp_steps));
        let Some((from, credit)) = &mut self.ramp else { return Ok(()) };
        let passed = self.now - *from;
        if passed >= length {
            return Ok(());
        }
        let step = passed * steps / length;
        *credit += (step + 1) * 1000 / (steps + 1);
        if *credit >= 1000 {
            *credit -= 1000;
            return Ok(());
        }
        Err((step + 1) * (length / steps) - passed)
    }

    fn finish(&mut self, now: u64, (epoch, started): (u64, u64), outcome: Outcome) -> Finish {
        self.at(now);
        if epoch != self.epoch {
            return Finish::Stale { epoch };
        }
        self.out -= u64::from(self.state == State::HalfOpen);
        if outcome == Outcome::Ignore || self.state == State::Disabled {
            return Finish::Recorded;
        }
        let took = now.saturating_sub(started);
        let slow = self
            .config
            .slow_calls
            .is_some_and(|rule| outcome == Outcome::Slow || took >= millis(rule.after));
        let failed = outcome == Outcome::Fail;
        self.calls.push((self.now, failed, slow));
        let permits = usize::from(self.config.half_open_permits);
        match self.state {
            State::HalfOpen if self.bad(&self.calls, permits) => self.go(State::Open, self.now),
            State::HalfOpen if self.calls.len() >= permits => self.go(State::Closed, self.now),
            State::Closed => {
                let seen = self.window();
                let min = self.config.calls_min as usize;
                let look = failed || slow || self.pending;
                let bad = self.bad(&seen, seen.len());
                if look {
                    self.pending = bad && seen.len() < min;
                }
                if seen.len() >= min && look && bad {
                    let ramp = millis(self.config.ramp);
                    if self.ramp.is_none_or(|(from, _)| self.now - from >= ramp) {
                        self.trips = 0;
                    }
                    self.go(State::Open, self.now);
                }
            }
            _ => {}
        }
        Finish::Recorded
    }

    fn window(&self) -> Vec<(u64, bool, bool)> {
        match self.config.window {
            Window::Count { calls } => {
                let skip = self.calls.len().saturating_sub(usize::from(calls));
                self.calls[skip..].to_vec()
            }
            Window::Time { span, slices } => {
                let slice = millis(span) / u64::from(slices);
                let oldest = (self.now / slice + 1).saturating_sub(u64::from(slices));
                self.calls.iter().filter(|c| c.0 / slice >= oldest).copied().collect()
            }
        }
    }

    fn cancel(&mut self, epoch: u64) {
        if self.config.cancelled == Lost::Failed {
            // Not measured: it counts as one that took no time.
            self.finish(self.now, (epoch, self.now), Outcome::Fail);
            return;
        }
        self.out -= u64::from(epoch == self.epoch && self.state == State::HalfOpen);
    }

    fn set_mode(&mut self, now: u64, mode: Mode) {
        self.at(now);
        let forced = matches!(self.state, State::ForcedOpen | State::Disabled | State::MetricsOnly);
        let to = match mode {
            Mode::Automatic if forced => State::Closed,
            Mode::Automatic => return,
            Mode::ForcedOpen => State::ForcedOpen,
            Mode::Disabled => State::Disabled,
            Mode::MetricsOnly => State::MetricsOnly,
        };
        if to != self.state {
            self.go(to, self.now);
        }
    }
}

#[derive(Debug, Clone)]
pub enum Op {
    Admit,
    Finish(usize, Outcome),
    Drop(usize),
    Advance(u64),
    /// The next call passes a time this much too early.
    Back(u64),
    SetMode(Mode),
}

pub fn op() -> impl Strategy<Value = Op> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Ok),
        4 => Just(Outcome::Fail),
        1 => Just(Outcome::Slow),
        1 => Just(Outcome::Ignore),
    ];
    let mode = prop_oneof![
        4 => Just(Mode::Automatic),
        1 => Just(Mode::ForcedOpen),
        1 => Just(Mode::Disabled),
        1 => Just(Mode::MetricsOnly),
    ];
    prop_oneof![
        20 => Just(Op::Admit),
        20 => (any::<usize>(), outcome).prop_map(|(i, o)| Op::Finish(i, o)),
        3 => any::<usize>().prop_map(Op::Drop),
        6 => prop_oneof![0..50_u64, 0..2000_u64, Just(100), Just(400)].prop_map(Op::Advance),
        1 => (0..5000_u64).prop_map(Op::Back),
        1 => mode.prop_map(Op::SetMode),
    ]
}

pub fn config() -> impl Strategy<Value = Config> {
    let window = prop_oneof![
        (1..6_u16, 1..100_u64)
            .prop_map(|(slices, w)| Window::Time { span: ms(w * u64::from(slices)), slices }),
        (6..20_u16).prop_map(|calls| Window::Count { calls }),
    ];
    let slow = prop::option::of(
        (1..300_u64, 1..=1000_u16)
            .prop_map(|(a, r)| SlowCalls { after: ms(a), rate: PerMille::new(r) }),
    );
    let ramp =
        prop_oneof![Just((0, 1)), (1..5_u16, 1..200_u64).prop_map(|(s, w)| (w * u64::from(s), s))];
    let cancelled = prop_oneof![4 => Just(Lost::Ignored), 1 => Just(Lost::Failed)];
    let calls = (window, 1..6_u32, 1..=1000_u16, slow);
    (calls, cancelled, 1..4_u16, ramp).prop_map(
        |(calls, cancelled, half_open_permits, (ramp, ramp_steps))| Config {
            window: calls.0,
            calls_min: calls.1,
            failure_rate: PerMille::new(calls.2),
            slow_calls: calls.3,
            cancelled,
            panicked: Lost::Failed,
            half_open_permits,
            half_open_wait: ms(100),
            open_wait: ms(100),
            open_wait_max: ms(400),
            open_jitter: PerMille::new(0),
            ramp: ms(ramp),
            ramp_steps,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_breaker_is_its_reference(
        config in config(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        compare(config, ops, at)?;
    }

    /// A clock that is read only when it is needed makes no difference to calls this few: all but
    /// jumps back, which nobody sees who does not look, and drops, which have no clock.
    #[test]
    fn so_it_is_with_a_clock_that_is_read_on_demand(
        config in config(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let config = Config { cancelled: Lost::Ignored, ..config };
        let ops = ops.into_iter().filter(|op| !matches!(op, Op::Back(_))).collect();
        compare(config, ops, |millis| move || at(millis))?;
    }
}

/// Runs `ops` on a breaker and on its reference; `now` is how the breaker is told the time.
fn compare<N: Now>(
    config: Config,
    ops: Vec<Op>,
    now_at: impl Fn(u64) -> N,
) -> Result<(), TestCaseError> {
    let log = std::sync::Arc::new(Log::default());
    let breaker = Breaker::new("b", config, 1).unwrap().observed(log.clone());
    let mut model = Model::new(config);
    let mut now = 0_u64;
    let mut skew = 0_u64;
    let mut permits: Vec<(Permit<'_>, (u64, u64))> = Vec::new();
    for op in ops {
        let told = now.saturating_sub(std::mem::take(&mut skew));
        let seen = now_at(told);
        match op {
            Op::Admit => match (breaker.admit(seen), model.admit(told)) {
                (Ok(permit), Ok(epoch)) => {
                    prop_assert_eq!(permit.epoch(), epoch);
                    permits.push((permit, (epoch, told)));
                }
                (Err(refused), Err(wait)) => prop_assert_eq!(refused.retry_after, ms(wait)),
                (got, expect) => prop_assert!(false, "{:?} {:?}", got, expect),
            },
            Op::Finish(i, outcome) if !permits.is_empty() => {
                let (permit, of) = permits.swap_remove(i % permits.len());
                let got = permit.finish(seen, outcome);
                prop_assert_eq!(got, model.finish(told, of, outcome));
            }
            Op::Drop(i) if !permits.is_empty() => {
                let (permit, (epoch, _)) = permits.swap_remove(i % permits.len());
                drop(permit);
                model.cancel(epoch);
            }
            Op::Finish(..) | Op::Drop(_) => {}
            Op::Advance(by) => now += by,
            Op::Back(by) => skew = by,
            Op::SetMode(mode) => {
                breaker.set_mode(seen, mode);
                model.set_mode(told, mode);
            }
        }
        let got = breaker.snapshot();
        prop_assert_eq!((got.state, got.epoch), (model.state, model.epoch));
        prop_assert_eq!(got.trips, model.trips);
        prop_assert_eq!(u64::from(got.probes_out), model.out);
        prop_assert_eq!(log.path(), model.path.clone());
    }
    Ok(())
}
