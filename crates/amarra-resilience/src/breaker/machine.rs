//! The breaker as a pure state machine: one caller at a time, and time only as a value.

use std::time::Duration;

use amarra_core::Monotonic;

use super::config::Config;
use super::ramp::Ramp;
use super::state::{
    Cause, Counts, Finish, Mode, Outcome, Reason, Rejected, Snapshot, State, Transition,
};
use super::window::{Record, Window};

/// The transitions of one step: at most two, when a half-open period and the open period after it
/// both ended while nobody called.
pub(super) type Events = [Option<Transition>; 2];

/// The whole state of one breaker.
///
/// # State
/// `epoch` grows by one at each transition and is the only thing that ties a permit to a period.
/// Half-open: `probes_out + probes.calls <= half_open_permits`, always.
#[derive(Debug)]
pub(super) struct Machine {
    config: Config,
    /// What makes this breaker's jitter its own.
    seed: u64,
    /// The latest time seen; the breaker's clock never goes back, whatever its callers pass.
    now: Monotonic,
    state: State,
    epoch: u64,
    window: Window,
    /// When the open or half-open period ends.
    until: Monotonic,
    probes: Counts,
    probes_out: u16,
    /// Open periods in a row, the exponent of the next wait.
    trips: u32,
    ramp: Option<Ramp>,
    stale: u64,
    events: Events,
}

impl Machine {
    pub(super) fn new(config: Config, seed: u64) -> Self {
        Self {
            window: Window::new(config.window),
            config,
            seed,
            now: Monotonic::default(),
            state: State::Closed,
            epoch: 0,
            until: Monotonic::default(),
            probes: Counts::default(),
            probes_out: 0,
            trips: 0,
            ramp: None,
            stale: 0,
            events: [None; 2],
        }
    }

    /// Takes the transitions of the last step, for the caller to tell once the lock is released.
    pub(super) fn take_events(&mut self) -> Events {
        std::mem::take(&mut self.events)
    }

    pub(super) fn now(&self) -> Monotonic {
        self.now
    }

    /// Admits a call and returns the epoch it belongs to.
    pub(super) fn admit(&mut self, now: Monotonic) -> Result<u64, Rejected> {
        self.advance(now);
        if self.state == State::Open && self.now >= self.until {
            self.become_half_open();
        }
        match self.state {
            State::Disabled | State::MetricsOnly => Ok(self.epoch),
            State::Closed => self.admit_ramped().map(|()| self.epoch),
            State::HalfOpen if self.permits_left() > 0 => {
                self.probes_out = self.probes_out.saturating_add(1);
                Ok(self.epoch)
            }
            State::HalfOpen | State::Open | State::ForcedOpen => Err(self.refusal()),
        }
    }

    /// Tells whether a call admitted in `epoch` may still be sent.
    pub(super) fn confirm(&mut self, now: Monotonic, epoch: u64) -> Result<(), Rejected> {
        self.advance(now);
        if epoch == self.epoch {
            return Ok(());
        }
        match self.state {
            // The breaker closed or was switched off since: the callee is believed healthy.
            State::Closed | State::Disabled | State::MetricsOnly => Ok(()),
            State::Open | State::HalfOpen | State::ForcedOpen => Err(self.refusal()),
        }
    }

    /// Counts what a call of `epoch` answered after `took`.
    pub(super) fn finish(
        &mut self,
        now: Monotonic,
        epoch: u64,
        took: Duration,
        outcome: Outcome,
    ) -> Finish {
        self.advance(now);
        if epoch != self.epoch {
            self.stale = self.stale.saturating_add(1);
            return Finish::Stale { epoch };
        }
        let record = self.judge(took, outcome);
        match self.state {
            State::HalfOpen => {
                self.probes_out = self.probes_out.saturating_sub(1);
                if let Some(record) = record {
                    self.probes.add(record);
                    self.decide();
                }
            }
            State::Closed => {
                if let Some(record) = record {
                    self.window.record(self.now, record);
                    self.trip_if_due(record);
                }
            }
            State::MetricsOnly => {
                if let Some(record) = record {
                    self.window.record(self.now, record);
                }
            }
            State::Disabled | State::Open | State::ForcedOpen => {}
        }
        Finish::Recorded
    }

    /// Gives back the permit of a call that was dropped before it answered.
    pub(super) fn cancel(&mut self, epoch: u64) {
        if epoch == self.epoch && self.state == State::HalfOpen {
            self.probes_out = self.probes_out.saturating_sub(1);
        }
    }

    pub(super) fn set_mode(&mut self, now: Monotonic, mode: Mode) {
        self.advance(now);
        let to = match mode {
            Mode::Automatic => match self.state {
                State::Closed | State::Open | State::HalfOpen => return,
                State::ForcedOpen | State::Disabled | State::MetricsOnly => State::Closed,
            },
            Mode::ForcedOpen => State::ForcedOpen,
            Mode::Disabled => State::Disabled,
            Mode::MetricsOnly => State::MetricsOnly,
        };
        if to != self.state {
            self.trips = 0;
            self.ramp = None;
            self.window.clear();
            self.enter(to, self.now, Cause::Operator);
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let counts = match self.state {
            State::HalfOpen => self.probes,
            _ => self.window.counts(self.now),
        };
        Snapshot {
            state: self.state,
            epoch: self.epoch,
            counts,
            probes_out: self.probes_out,
            stale: self.stale,
            trips: self.trips,
        }
    }

    /// Moves the clock, and ends a half-open period whose wait is over: a probe still out by then
    /// has expired and speaks against the callee, as does a period in which nothing was learned.
    /// Otherwise the probes that did answer decide, or a callee with little traffic would never
    /// be believed again.
    fn advance(&mut self, now: Monotonic) {
        self.now = self.now.max(now);
        if self.state != State::HalfOpen || self.now < self.until {
            return;
        }
        let ended = self.until;
        match self.verdict(self.probes.calls) {
            Some(cause) => self.open(ended, cause),
            None if self.probes_out > 0 || self.probes.calls == 0 => {
                self.open(ended, Cause::ProbesExpired);
            }
            None => self.close(ended),
        }
    }

    /// Returns what an outcome counts as, `None` when it says nothing about the callee.
    fn judge(&self, took: Duration, outcome: Outcome) -> Option<Record> {
        if outcome == Outcome::Ignore {
            return None;
        }
        let slow = self
            .config
            .slow_calls
            .is_some_and(|rule| outcome == Outcome::Slow || took >= rule.after);
        Some(Record { failed: outcome == Outcome::Fail, slow })
    }

    /// Opens when a rate is reached. A good call is a reason to look only when it completes the
    /// minimum: success must not open a breaker that failures left closed.
    fn trip_if_due(&mut self, record: Record) {
        let counts = self.window.counts(self.now);
        let min = u64::from(self.config.calls_min);
        let worth_a_look = record.failed || record.slow || counts.calls == min;
        if counts.calls < min || !worth_a_look {
            return;
        }
        if let Some(cause) = self.over_rate(counts, counts.calls) {
            if !self.is_ramping() {
                self.trips = 0;
            }
            self.open(self.now, cause);
        }
    }

    /// Closes or opens as soon as the probes that are left cannot change the verdict.
    fn decide(&mut self) {
        let permits = u64::from(self.config.half_open_permits);
        match self.verdict(permits) {
            Some(cause) => self.open(self.now, cause),
            None if self.probes.calls >= permits => self.close(self.now),
            None => {}
        }
    }

    fn verdict(&self, of_calls: u64) -> Option<Cause> {
        self.over_rate(self.probes, of_calls)
    }

    fn over_rate(&self, counts: Counts, of_calls: u64) -> Option<Cause> {
        let slow_rule = self.config.slow_calls;
        if self.config.failure_rate.reached_by(counts.failed, of_calls) {
            Some(Cause::FailureRate)
        } else if slow_rule.is_some_and(|rule| rule.rate.reached_by(counts.slow, of_calls)) {
            Some(Cause::SlowRate)
        } else {
            None
        }
    }

    fn open(&mut self, at: Monotonic, cause: Cause) {
        self.trips = self.trips.saturating_add(1);
        self.enter(State::Open, at, cause);
        self.until = at.plus(self.open_wait());
    }

    fn become_half_open(&mut self) {
        self.enter(State::HalfOpen, self.now, Cause::WaitOver);
        self.until = self.now.plus(self.config.half_open_wait);
    }

    fn close(&mut self, at: Monotonic) {
        self.window.clear();
        self.ramp = Some(Ramp::new(at));
        self.enter(State::Closed, at, Cause::ProbesOk);
    }

    fn enter(&mut self, to: State, at: Monotonic, cause: Cause) {
        debug_assert!(self.state.may_become(to), "BRK-5: {:?} -> {to:?}", self.state);
        self.epoch = self.epoch.saturating_add(1);
        let event = Transition { from: self.state, to, epoch: self.epoch, at, cause };
        self.state = to;
        self.probes = Counts::default();
        self.probes_out = 0;
        if let Some(slot) = self.events.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(event);
        }
    }

    fn permits_left(&self) -> u64 {
        let used = self.probes.calls.saturating_add(u64::from(self.probes_out));
        u64::from(self.config.half_open_permits).saturating_sub(used)
    }

    /// Says why the current state refuses, and for how long at most.
    fn refusal(&self) -> Rejected {
        let left = self.until.since(self.now);
        match self.state {
            State::ForcedOpen => {
                Rejected { retry_after: self.config.open_wait_max, reason: Reason::ForcedOpen }
            }
            State::HalfOpen => Rejected { retry_after: left, reason: Reason::Probing },
            _ => Rejected { retry_after: left, reason: Reason::Open },
        }
    }

    /// Doubles per open period up to the maximum, then takes a share of it away at random.
    fn open_wait(&self) -> Duration {
        let doublings = self.trips.saturating_sub(1).min(63);
        let factor = u32::try_from(1_u64 << doublings).unwrap_or(u32::MAX);
        let wait = self.config.open_wait.saturating_mul(factor).min(self.config.open_wait_max);
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let random = u128::from(mix(self.seed, self.epoch));
        let off = random.saturating_mul(u128::from(self.config.open_jitter.of(nanos))) >> 64;
        Duration::from_nanos(nanos.saturating_sub(u64::try_from(off).unwrap_or(0)))
    }

    fn is_ramping(&self) -> bool {
        self.ramp.as_ref().is_some_and(|ramp| !ramp.is_over(&self.config, self.now))
    }

    fn admit_ramped(&mut self) -> Result<(), Rejected> {
        let Some(ramp) = &mut self.ramp else { return Ok(()) };
        ramp.admit(&self.config, self.now)
            .map_err(|retry_after| Rejected { retry_after, reason: Reason::Ramping })
    }
}

/// Spreads (`seed`, `n`) over the whole range: the finalizer of SplitMix64.
fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
