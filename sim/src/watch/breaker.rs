//! The books kept of one breaker: what was sent and answered, against what the breaker says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::Monotonic;
use amarra_resilience::breaker::{Config, Reason, Snapshot, State, Window};
use amarra_shop::Guard;

use super::{Bounds, Broken, Ended, seconds};

/// A call that is out.
#[derive(Debug, Clone, Copy)]
struct Out {
    at: Monotonic,
    epoch: u64,
    state: State,
}

/// A call that ended badly, or may have: the caller may have given up of its own accord.
#[derive(Debug, Clone, Copy)]
struct Bad {
    at: Monotonic,
    /// Whether it failed, or may have.
    failed: bool,
    /// Whether it surely failed.
    surely: bool,
    /// Whether the breaker was surely told.
    reported: bool,
    slow: bool,
}

/// One breaker and its books.
#[derive(Debug)]
pub(crate) struct Books {
    guard: Arc<Guard>,
    config: Config,
    timeout: Duration,
    /// As it was seen last, and when.
    seen: Snapshot,
    seen_at: Monotonic,
    /// When its period began, where that is known.
    since: Option<Monotonic>,
    sends: u64,
    out: BTreeMap<u64, Out>,
    /// Of this closed period.
    bad: Vec<Bad>,
    /// Answers of this half-open period: all, and failed ones.
    probes: (u64, u64),
    /// When calls ended whose period was over.
    stale: Vec<Monotonic>,
}

/// How late a timer may be for a try to count as given up by it.
const LATE: Duration = Duration::from_millis(20);
/// Slack for what is rounded.
const SLACK: Duration = Duration::from_micros(2);

impl Books {
    /// Opens the books of a guard that has a breaker.
    pub(super) fn open(guard: Arc<Guard>, bounds: Bounds, now: Monotonic) -> Option<Self> {
        let seen = guard.breaker()?.snapshot();
        Some(Self {
            guard,
            config: bounds.breaker,
            timeout: bounds.timeout,
            seen,
            seen_at: now,
            since: Some(now),
            sends: 0,
            out: BTreeMap::new(),
            bad: Vec::new(),
            probes: (0, 0),
            stale: Vec::new(),
        })
    }

    /// Looks at the breaker.
    pub(super) fn look(&mut self, now: Monotonic, broken: &mut Vec<Broken>) {
        let guard = Arc::clone(&self.guard);
        let Some(breaker) = guard.breaker() else { return };
        let is = breaker.snapshot();
        if is.epoch != self.seen.epoch || is.state != self.seen.state {
            self.turned(is, broken);
            if is.state == State::Open
                && let (Some(since), Err(refused)) = (self.since, breaker.peek(now))
            {
                self.check_wait(is, now.plus(refused.retry_after).since(since), broken);
            }
        }
        let refused = breaker.peek(now).err();
        if let Some(since) = self.since {
            let passed = now.since(since);
            let over = |wait: Duration| passed > wait + SLACK;
            match (is.state, refused.map(|r| r.reason)) {
                (State::Open, Some(_)) if over(self.open_wait(is.trips)) => {
                    let what = format!("is open for {passed:?}, longer than its wait");
                    broken.push(("BRK-6", what));
                }
                (State::HalfOpen, Some(Reason::Probing)) if over(self.config.half_open_wait) => {
                    broken.push(("BRK-4", format!("is half-open for {passed:?}")));
                }
                _ => {}
            }
        }
        if is.state == State::HalfOpen && is.probes_out > 0 && guard.in_flight() == 0 {
            let what = format!("has {} probes out and nothing in flight", is.probes_out);
            broken.push(("BRK-3", what));
        }
        if is.state == State::Closed {
            self.check_counts(is, now, broken);
        }
        let late = self.stale.iter().filter(|at| **at < now).count();
        if is.stale < u64::try_from(late).unwrap_or(0) {
            let what = format!("counts {} stale results where {late} came too late", is.stale);
            broken.push(("BRK-2", what));
        }
        (self.seen, self.seen_at) = (is, now);
    }

    /// Notes a call that leaves, and returns its number.
    pub(super) fn sent(&mut self, now: Monotonic, broken: &mut Vec<Broken>) -> u64 {
        self.look(now, broken);
        let Snapshot { state, epoch, .. } = self.seen;
        self.sends += 1;
        if self.sends > self.guard.tries() {
            let (sends, tries) = (self.sends, self.guard.tries());
            broken.push(("CLE-1", format!("was sent {sends} calls of {tries} admitted tries")));
        }
        if matches!(state, State::Open | State::ForcedOpen) {
            broken.push(("BRK-8", format!("was sent a call while open, at {}", seconds(now))));
        }
        let number = self.sends;
        self.out.insert(number, Out { at: now, epoch, state });
        if state == State::HalfOpen {
            let expires = self.since.map(|since| since.plus(self.config.half_open_wait + SLACK));
            if expires.is_some_and(|at| now > at) {
                broken.push(("BRK-4", "was sent a probe after its period".to_owned()));
            }
            let out = self.out.values().filter(|o| o.epoch == epoch).count();
            let out = u64::try_from(out).unwrap_or(u64::MAX).saturating_add(self.probes.0);
            if out > u64::from(self.config.half_open_permits) {
                broken.push(("BRK-1", format!("has {out} probes out or answered in one period")));
            }
        }
        number
    }

    /// Notes how a call ended, before its breaker hears of it.
    pub(super) fn ended(&mut self, now: Monotonic, number: u64, ended: Ended) {
        let Some(out) = self.out.remove(&number) else { return };
        let took = now.since(out.at);
        // A try is given up when its time is over; earlier or later it was its caller who left.
        let in_time = took >= self.timeout && took <= self.timeout + LATE;
        let in_vain = ended == Ended::Dropped && !in_time;
        let epoch = self.guard.breaker().map_or(out.epoch, |breaker| breaker.snapshot().epoch);
        if out.epoch != epoch {
            // Given up before its time, it is not reported at all.
            if ended != Ended::Dropped {
                self.stale.push(now);
            }
            return;
        }
        let expires = self.since.map(|since| since.plus(self.config.half_open_wait));
        if out.state == State::HalfOpen && expires.is_none_or(|at| now >= at) {
            return;
        }
        let failed = ended != Ended::Answered;
        let slow = self.config.slow_calls.is_some_and(|rule| took >= rule.after);
        if out.state == State::HalfOpen && !in_vain {
            self.probes.0 += 1;
            self.probes.1 += u64::from(failed);
        }
        if out.state == State::Closed && (failed || slow) {
            self.bad.push(Bad {
                at: now,
                failed,
                surely: failed && !in_vain,
                reported: !in_vain,
                slow,
            });
        }
    }

    /// Notes that the breaker turned since it was looked at last.
    fn turned(&mut self, is: Snapshot, broken: &mut Vec<Broken>) {
        let was = self.seen;
        let steps = is.epoch.saturating_sub(was.epoch);
        let middle = [State::Closed, State::Open, State::HalfOpen];
        let legal = match steps {
            0 => false,
            1 => may_become(was.state, is.state),
            _ => middle.iter().any(|m| may_become(was.state, *m) && may_become(*m, is.state)),
        };
        if !legal {
            let what = format!("went from {:?} to {:?} in {steps} steps", was.state, is.state);
            broken.push(("BRK-5", what));
        }
        // The clock is read right before a breaker turns; an expired half-open period ended when
        // it expired.
        let expires = self.since.map(|since| since.plus(self.config.half_open_wait));
        let expired = was.state == State::HalfOpen && expires.is_none_or(|at| self.seen_at >= at);
        self.since = match steps {
            1 if expired => expires,
            1 => Some(self.seen_at),
            _ => None,
        };
        match (was.state, is.state) {
            (State::Closed, State::Open) => self.check_opening(was, broken),
            (State::HalfOpen, State::Closed) => self.check_closing(broken),
            (State::HalfOpen, State::Open) if is.trips != was.trips.saturating_add(1) => {
                broken.push(("BRK-8", format!("forgot that it was open {} times", was.trips)));
            }
            _ => {}
        }
        self.bad.clear();
        self.probes = (0, 0);
    }

    /// It opens only for enough bad calls that it sent in this closed period.
    fn check_opening(&self, was: Snapshot, broken: &mut Vec<Broken>) {
        let least = |rate: amarra_resilience::PerMille| {
            u64::from(self.config.calls_min).saturating_mul(u64::from(rate.get())).div_ceil(1000)
        };
        let failed = self.count(|bad| bad.failed, self.seen_at, 1);
        let slow = self.count(|bad| bad.slow, self.seen_at, 1);
        let by_slow = self.config.slow_calls.is_some_and(|rule| slow >= least(rule.rate));
        if failed < least(self.config.failure_rate) && !by_slow {
            let what = format!(
                "opened after {failed} failed and {slow} slow calls of this period, in epoch {}",
                was.epoch
            );
            broken.push(("BRK-7", what));
        }
    }

    /// It closes only after probes that answered, mostly well.
    fn check_closing(&self, broken: &mut Vec<Broken>) {
        let (answered, failed) = self.probes;
        if answered == 0 || self.config.failure_rate.reached_by(failed, answered) {
            broken.push(("BRK-4", format!("closed after {failed} of {answered} probes failed")));
        }
    }

    /// The counts of a closed breaker are those of the wire, give or take a slice.
    fn check_counts(&self, is: Snapshot, now: Monotonic, broken: &mut Vec<Broken>) {
        let last = self.bad.last().map_or(now, |bad| bad.at);
        let most = self.count(|bad| bad.failed, last, 2);
        if is.counts.failed > most {
            let what = format!("counts {} failures of {most} on the wire", is.counts.failed);
            broken.push(("BRK-7", what));
        }
        let settled = |bad: &Bad| bad.at < now;
        let least = self.count(|bad| bad.surely && settled(bad), now, -2);
        if is.counts.failed < least {
            let what = format!("counts {} failures of {least} on the wire", is.counts.failed);
            broken.push(("PIP-4", what));
        }
        let slow = |bad: &Bad| bad.slow && bad.reported && settled(bad);
        let slow_surely = self.count(slow, now, -2);
        if self.config.slow_calls.is_some() && is.counts.slow < slow_surely {
            let what = format!("counts {} slow calls of {slow_surely} on the wire", is.counts.slow);
            broken.push(("PIP-4", what));
        }
    }

    /// Counts bad calls of a window that ends at `until`, so many slices longer than configured.
    fn count(&self, which: impl Fn(&Bad) -> bool, until: Monotonic, slices: i32) -> u64 {
        let Window::Time { span, slices: all } = self.config.window else { return u64::MAX };
        let slice = span / u32::from(all.max(1));
        let more = slice.saturating_mul(slices.unsigned_abs());
        let span = if slices < 0 { span.saturating_sub(more) } else { span.saturating_add(more) };
        let within = |bad: &&Bad| until.since(bad.at) <= span && which(bad);
        u64::try_from(self.bad.iter().filter(within).count()).unwrap_or(u64::MAX)
    }

    fn check_wait(&self, is: Snapshot, wait: Duration, broken: &mut Vec<Broken>) {
        let most = self.open_wait(is.trips);
        let share = u32::from(1000_u16.saturating_sub(self.config.open_jitter.get()));
        let least = most * share / 1000;
        if wait > most + SLACK {
            broken.push(("BRK-6", format!("opened for {wait:?}, at most {most:?}")));
        }
        if wait + SLACK < least {
            broken.push(("BRK-8", format!("opened for {wait:?}, at least {least:?}")));
        }
        if least < most && wait + SLACK >= most && wait <= most {
            broken.push((super::JITTER, format!("opened for exactly {wait:?}")));
        }
    }

    fn open_wait(&self, trips: u32) -> Duration {
        let doublings = trips.saturating_sub(1).min(20);
        self.config.open_wait.saturating_mul(1 << doublings).min(self.config.open_wait_max)
    }
}

/// The legal arrows, written down once more.
fn may_become(from: State, to: State) -> bool {
    matches!(
        (from, to),
        (State::Closed | State::HalfOpen, State::Open)
            | (State::Open, State::HalfOpen)
            | (State::HalfOpen, State::Closed)
    )
}
