//! A breaker that keeps every call for ever and asks all of them each time: slow, plainly right.

use std::time::Duration;

use amarra_resilience::PerMille;
use amarra_resilience::breaker::{
    Config, Counts, Finish, Lost, Mode, Outcome, Snapshot, State, Window,
};

/// When, whether it failed, and whether it was slow.
type Call = (u64, bool, bool);

/// The reference. All times in nanoseconds.
pub struct Model {
    config: Config,
    now: u64,
    state: State,
    epoch: u64,
    /// When the current state was entered.
    since: u64,
    /// Each recorded call of the current epoch.
    calls: Vec<Call>,
    out: u64,
    trips: u32,
    /// A rate is over its limit, and only calls are wanting.
    pending: bool,
    /// When the latest call of a closed state was recorded.
    recorded: u64,
    stale: u64,
    seed: u64,
    /// Start of the ramp and calls asked for in it, by the share each met.
    ramp: Option<(u64, u64)>,
    pub path: Vec<State>,
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap()
}

/// The finalizer of SplitMix64, which the jitter is drawn with.
fn mix(seed: u64, n: u64) -> u64 {
    let z = seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Model {
    pub fn new(config: Config, seed: u64) -> Self {
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
            recorded: 0,
            stale: 0,
            seed,
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
        let doubled = nanos(self.config.open_wait) << (self.trips - 1).min(20);
        let whole = doubled.min(nanos(self.config.open_wait_max));
        let most = u128::from(whole) * u128::from(self.config.open_jitter.get()) / 1000;
        whole - u64::try_from((most * u128::from(mix(self.seed, self.epoch))) >> 64).unwrap()
    }

    fn bad(&self, calls: &[Call], of: usize) -> bool {
        let share = |n: usize| if of == 0 { 0 } else { n * 1000 };
        let failed = calls.iter().filter(|c| c.1).count();
        let slow = calls.iter().filter(|c| c.2).count();
        let reached = |n, rate: PerMille| of > 0 && share(n) >= usize::from(rate.get()) * of;
        reached(failed, self.config.failure_rate)
            || self.config.slow_calls.is_some_and(|rule| reached(slow, rule.rate))
    }

    pub fn at(&mut self, now: u64) {
        self.now = self.now.max(now);
        let end = self.since + nanos(self.config.half_open_wait);
        if self.state == State::HalfOpen && self.now >= end {
            let learned = !self.calls.is_empty() && self.out == 0;
            let good = learned && !self.bad(&self.calls, self.calls.len());
            self.go(if good { State::Closed } else { State::Open }, end);
        }
    }

    /// `Ok(epoch)`, or how long to wait.
    pub fn admit(&mut self, now: u64) -> Result<u64, u64> {
        self.at(now);
        if self.state == State::Open && self.now >= self.since + self.wait() {
            self.go(State::HalfOpen, self.now);
        }
        match self.state {
            State::Open => Err(self.since + self.wait() - self.now),
            State::ForcedOpen => Err(nanos(self.config.open_wait_max)),
            State::HalfOpen => {
                let used = self.calls.len() as u64 + self.out;
                if used >= u64::from(self.config.half_open_permits) {
                    return Err(self.since + nanos(self.config.half_open_wait) - self.now);
                }
                self.out += 1;
                Ok(self.epoch)
            }
            State::Closed => self.ramped().map(|()| self.epoch),
            State::Disabled | State::MetricsOnly => Ok(self.epoch),
        }
    }

    fn ramped(&mut self) -> Result<(), u64> {
        let (length, steps) = (nanos(self.config.ramp), u64::from(self.config.ramp_steps));
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

    pub fn finish(&mut self, now: u64, (epoch, started): (u64, u64), outcome: Outcome) -> Finish {
        self.at(now);
        if epoch != self.epoch {
            self.stale += 1;
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
            .is_some_and(|rule| outcome == Outcome::Slow || took >= nanos(rule.after));
        let failed = outcome == Outcome::Fail;
        self.calls.push((self.now, failed, slow));
        if self.state != State::HalfOpen {
            self.recorded = self.now;
        }
        let permits = usize::from(self.config.half_open_permits);
        match self.state {
            State::HalfOpen if self.bad(&self.calls, permits) => self.go(State::Open, self.now),
            State::HalfOpen if self.calls.len() >= permits => self.go(State::Closed, self.now),
            State::Closed => {
                let seen = self.window_at(self.now);
                let min = self.config.calls_min as usize;
                let look = failed || slow || self.pending;
                let bad = self.bad(&seen, seen.len());
                if look {
                    self.pending = bad && seen.len() < min;
                }
                if seen.len() >= min && look && bad {
                    let ramp = nanos(self.config.ramp);
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

    fn window_at(&self, now: u64) -> Vec<Call> {
        match self.config.window {
            Window::Count { calls } => {
                let skip = self.calls.len().saturating_sub(usize::from(calls));
                self.calls[skip..].to_vec()
            }
            Window::Time { span, slices } => {
                let slice = nanos(span) / u64::from(slices);
                let oldest = (now / slice + 1).saturating_sub(u64::from(slices));
                self.calls.iter().filter(|c| c.0 / slice >= oldest).copied().collect()
            }
        }
    }

    /// A permit was dropped, by its caller or by a panic.
    pub fn lose(&mut self, epoch: u64, lost: Lost) {
        if lost == Lost::Failed {
            // Not measured: it counts as one that took no time.
            self.finish(self.now, (epoch, self.now), Outcome::Fail);
            return;
        }
        self.out -= u64::from(epoch == self.epoch && self.state == State::HalfOpen);
    }

    /// Whether a call of `epoch` may still be sent, or how long to wait.
    pub fn begin(&mut self, now: u64, epoch: u64) -> Result<(), u64> {
        self.at(now);
        match self.state {
            _ if epoch == self.epoch => Ok(()),
            State::ForcedOpen => Err(nanos(self.config.open_wait_max)),
            State::HalfOpen => Err(self.since + nanos(self.config.half_open_wait) - self.now),
            State::Open => Err((self.since + self.wait()).saturating_sub(self.now)),
            _ => Ok(()),
        }
    }

    /// What a snapshot shows.
    pub fn snapshot(&self) -> Snapshot {
        let seen = match self.state {
            State::Closed | State::MetricsOnly => self.window_at(self.recorded),
            State::HalfOpen => self.calls.clone(),
            _ => Vec::new(),
        };
        let count = |of: fn(&Call) -> bool| seen.iter().filter(|call| of(call)).count() as u64;
        Snapshot {
            state: self.state,
            epoch: self.epoch,
            counts: Counts { calls: count(|_| true), failed: count(|c| c.1), slow: count(|c| c.2) },
            probes_out: u16::try_from(self.out).unwrap(),
            stale: self.stale,
            trips: self.trips,
        }
    }

    pub fn set_mode(&mut self, now: u64, mode: Mode) {
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
