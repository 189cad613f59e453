//! What a breaker decides, shared between threads without a lock.
//!
//! Every decision is one compare-and-swap of the word (`word.rs`). What does not fit into it, the
//! full epoch, the end of a period and the number of trips, stands beside it and changes only
//! between the claim of a new epoch and its publication, which one thread does alone; whoever reads
//! it looks at the word before and after.

use alloc::sync::Arc;
use core::time::Duration;

use super::ramp::share;
use super::ring::Place;
use super::settings::{Settings, nanos};
use super::state::{
    Cause, Counts, Finish, Mode, Observer, Outcome, Reason, Rejected, Snapshot, State, Transition,
};
use super::sync::{AtomicU32, AtomicU64, Ordering, pause};
use super::window::{Record, Window};
use super::word::{Phase, Token, Word};
use crate::time::{Monotonic, Now};

/// How often an admission looks again while another thread turns the breaker.
const PATIENCE: u32 = 256;

/// The transitions of one step: at most two, when a half-open period and the open period after it
/// both ended while nobody called.
#[derive(Debug, Default)]
pub(super) struct Events([Option<Transition>; 2]);

impl Events {
    fn push(&mut self, event: Transition) {
        if let Some(slot) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(event);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Transition> {
        self.0.iter().flatten()
    }
}

/// A call that ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) epoch: u64,
    /// Nanoseconds it took, zero when it was not measured.
    pub(super) took: u64,
    pub(super) outcome: Outcome,
}

/// A change of phase somebody wants to make.
#[derive(Debug, Clone, Copy)]
struct Change {
    to: Phase,
    at: u64,
    cause: Cause,
    trips: u32,
}

/// The whole state of one breaker.
///
/// # State
/// `epoch` grows by one at each transition and is the only thing that ties a permit to a period;
/// the word has its low bits, and all of it while closed.
#[derive(Debug)]
pub(super) struct Engine {
    word: AtomicU64,
    epoch: AtomicU64,
    /// Open and half-open: when the period ends. Ramping: when it began.
    mark: AtomicU64,
    /// The latest time seen. A hint among threads: what counts is the mark.
    latest: AtomicU64,
    stale: AtomicU32,
    trips: AtomicU32,
    /// A copy of the settings' own: it is read for every call.
    slow_after: u64,
    /// What makes this breaker's jitter its own.
    seed: u64,
    window: Window,
    settings: Arc<Settings>,
}

impl Engine {
    pub(super) fn new(settings: Arc<Settings>, seed: u64) -> Self {
        Self {
            word: AtomicU64::new(Word::new(Phase::Closed, 0).timed(settings.is_timing()).0),
            epoch: AtomicU64::new(0),
            mark: AtomicU64::new(0),
            latest: AtomicU64::new(0),
            stale: AtomicU32::new(0),
            trips: AtomicU32::new(0),
            slow_after: settings.slow_after,
            seed,
            window: Window::new(&settings),
            settings,
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Lets `observer` hear of transitions.
    pub(super) fn observe(&mut self, observer: Arc<dyn Observer>) {
        let settings = Settings { observer: Some(observer), ..Settings::clone(&self.settings) };
        self.settings = Arc::new(settings);
    }

    /// Tells whether calls are timed.
    #[inline(always)]
    pub(super) fn is_timing(&self) -> bool {
        self.slow_after != u64::MAX
    }

    /// Tells whether a call of `took` nanoseconds is slow.
    #[inline(always)]
    pub(super) fn is_slow(&self, took: u64) -> bool {
        took >= self.slow_after
    }

    /// Takes note of the time and returns the latest seen.
    #[inline(always)]
    pub(super) fn see(&self, now: u64) -> u64 {
        let latest = self.latest.load(Ordering::Relaxed);
        if now > latest {
            self.latest.store(now, Ordering::Relaxed);
        }
        now.max(latest)
    }

    /// Returns the word as it is now.
    #[inline(always)]
    pub(super) fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// Tells whether the word that gave `token` is still there.
    #[inline(always)]
    pub(super) fn is_still(&self, token: Token) -> bool {
        self.word().0 == token.0
    }

    /// Records a good call that is not timed, when nothing follows from it and its thread may count
    /// it where it counted the last one; false, and nothing recorded, otherwise.
    #[inline(always)]
    pub(super) fn finish_plain(&self, token: Token) -> bool {
        self.is_still(token) && self.window.bump(token)
    }

    /// Records a good call that ended at `now`, as [`finish_plain`](Self::finish_plain) does.
    #[inline(always)]
    pub(super) fn finish_timed(&self, token: Token, now: u64) -> bool {
        self.is_still(token) && self.window.bump_at(token, now)
    }

    /// Records a good call of `epoch` when nothing follows from it; false when something may.
    pub(super) fn finish_good(&self, epoch: u64, now: impl Now) -> bool {
        let token = self.token(epoch);
        if !self.is_still(token) {
            return false;
        }
        if let Some(place) = self.window.good(&self.settings, token, now) {
            self.recheck(epoch, place);
        }
        true
    }

    /// Returns the token of a call that was simply admitted in `epoch`.
    fn token(&self, epoch: u64) -> Token {
        Token::closed(Word::new(Phase::Closed, epoch).timed(self.is_timing()))
    }

    /// Returns for how many nanoseconds yet the breaker refuses every call, `None` when it is not
    /// open by `word`, or its wait is over.
    #[inline(always)]
    pub(super) fn open_for(&self, word: Word, now: u64) -> Option<u64> {
        if !word.is_open() {
            return None;
        }
        let left = self.mark_of(word)?.saturating_sub(self.see(now));
        (left > 0).then_some(left)
    }

    /// Admits a call and returns the epoch it belongs to.
    #[inline(never)]
    pub(super) fn admit(&self, now: u64, events: &mut Events) -> Result<u64, Rejected> {
        let now = self.see(now);
        let mut patience = PATIENCE;
        loop {
            let word = Word(self.word.load(Ordering::Acquire));
            match word.phase() {
                Phase::Open => {
                    let Some(until) = self.mark_of(word) else { continue };
                    if now < until {
                        return refuse(until.saturating_sub(now), Reason::Open);
                    }
                    self.become_half_open(word, now, events);
                }
                Phase::HalfOpen => {
                    if self.end_half_open(word, now, events) {
                        continue;
                    }
                    let (Some(epoch), Some(until)) = (self.epoch_of(word), self.mark_of(word))
                    else {
                        continue;
                    };
                    let Some(next) = word.admit_probe(self.settings.permits()) else {
                        return refuse(until.saturating_sub(now), Reason::Probing);
                    };
                    if self.swap(word, next) {
                        return Ok(epoch);
                    }
                }
                Phase::Ramping => {
                    if let Some(decided) = self.admit_ramping(word, now) {
                        return decided;
                    }
                }
                Phase::ForcedOpen => {
                    return refuse(nanos(self.settings.config.open_wait_max), Reason::ForcedOpen);
                }
                Phase::Closed | Phase::Disabled | Phase::MetricsOnly => {
                    if let Some(epoch) = self.epoch_of(word) {
                        return Ok(epoch);
                    }
                }
                Phase::Turning if patience == 0 => return refuse(0, Reason::Probing),
                Phase::Turning => {
                    patience = patience.saturating_sub(1);
                    pause();
                }
            }
        }
    }

    /// Tells whether a call would be refused, as far as it can be told without changing anything:
    /// whether a ramp admits the next one is only known when it does.
    #[cold]
    pub(super) fn peek(&self, now: u64) -> Result<(), Rejected> {
        let now = now.max(self.latest.load(Ordering::Relaxed));
        loop {
            let word = self.steady();
            let Some(until) = self.mark_of(word) else { continue };
            let left = until.saturating_sub(now);
            return match word.phase() {
                Phase::ForcedOpen => {
                    refuse(nanos(self.settings.config.open_wait_max), Reason::ForcedOpen)
                }
                Phase::Open if left > 0 => refuse(left, Reason::Open),
                Phase::HalfOpen if left > 0 => match word.admit_probe(self.settings.permits()) {
                    Some(_) => Ok(()),
                    None => refuse(left, Reason::Probing),
                },
                _ => Ok(()),
            };
        }
    }

    /// Tells whether a call admitted in `epoch` may still be sent.
    pub(super) fn confirm(
        &self,
        now: u64,
        epoch: u64,
        events: &mut Events,
    ) -> Result<(), Rejected> {
        let now = self.see(now);
        loop {
            let word = self.steady();
            if self.end_half_open(word, now, events) {
                continue;
            }
            if self.is_current(word, epoch) {
                return Ok(());
            }
            let Some(until) = self.mark_of(word) else { continue };
            let left = until.saturating_sub(now);
            return match word.phase() {
                Phase::ForcedOpen => {
                    refuse(nanos(self.settings.config.open_wait_max), Reason::ForcedOpen)
                }
                Phase::HalfOpen => refuse(left, Reason::Probing),
                Phase::Open => refuse(left, Reason::Open),
                // The breaker closed or was switched off since: the callee is believed healthy.
                _ => Ok(()),
            };
        }
    }

    /// Counts what a call answered.
    #[inline(never)]
    pub(super) fn finish(&self, now: u64, done: Done, events: &mut Events) -> Finish {
        let now = self.see(now);
        let record = self.judge(done);
        loop {
            let word = Word(self.word.load(Ordering::Acquire));
            if self.end_half_open(word, now, events) {
                continue;
            }
            if !self.is_current(word, done.epoch) {
                self.stale.fetch_add(1, Ordering::Relaxed);
                return Finish::Stale { epoch: done.epoch };
            }
            match (word.phase(), record) {
                (Phase::HalfOpen, _) if !self.finish_probe(word, now, record, events) => {}
                (Phase::Closed | Phase::Ramping, Some(record)) => {
                    self.record(now, done.epoch, record);
                    self.trip_if_due(now, done.epoch, record, events);
                    return Finish::Recorded;
                }
                (Phase::MetricsOnly, Some(record)) => {
                    self.record(now, done.epoch, record);
                    return Finish::Recorded;
                }
                _ => return Finish::Recorded,
            }
        }
    }

    /// Gives back the permit of a call of `epoch` that says nothing.
    pub(super) fn give_back(&self, epoch: u64) {
        loop {
            let word = Word(self.word.load(Ordering::Acquire));
            let probe = word.phase() == Phase::HalfOpen && self.is_current(word, epoch);
            if !probe || self.swap(word, word.give_back()) {
                return;
            }
        }
    }

    /// Returns the latest time known without asking anybody.
    pub(super) fn latest(&self) -> u64 {
        let since = self.window.since(&self.settings);
        self.latest.load(Ordering::Relaxed).max(since)
    }

    pub(super) fn set_mode(&self, now: u64, mode: Mode, events: &mut Events) {
        let now = self.see(now);
        loop {
            let word = self.steady();
            if self.end_half_open(word, now, events) {
                continue;
            }
            let operated =
                matches!(word.phase(), Phase::ForcedOpen | Phase::Disabled | Phase::MetricsOnly);
            let to = match mode {
                Mode::Automatic if !operated => return,
                Mode::Automatic => Phase::Closed,
                Mode::ForcedOpen => Phase::ForcedOpen,
                Mode::Disabled => Phase::Disabled,
                Mode::MetricsOnly => Phase::MetricsOnly,
            };
            let change = Change { to, at: now, cause: Cause::Operator, trips: 0 };
            if to == word.phase() || self.turn(word, change, events) {
                return;
            }
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        loop {
            let word = self.steady();
            let (Some(epoch), Some(state)) = (self.epoch_of(word), word.state()) else { continue };
            let half_open = state == State::HalfOpen;
            let probes_out = u16::try_from(word.out()).unwrap_or(u16::MAX);
            return Snapshot {
                state,
                epoch,
                counts: match state {
                    State::HalfOpen => word.probes(),
                    State::Closed | State::MetricsOnly => self.counts(epoch),
                    _ => Counts::default(),
                },
                probes_out: if half_open { probes_out } else { 0 },
                stale: u64::from(self.stale.load(Ordering::Relaxed)),
                trips: self.trips.load(Ordering::Acquire),
            };
        }
    }

    fn counts(&self, epoch: u64) -> Counts {
        self.window.counts(&self.settings, epoch)
    }

    /// Loads the word, waiting while it turns: a few stores of another thread.
    fn steady(&self) -> Word {
        loop {
            let word = Word(self.word.load(Ordering::Acquire));
            if word.phase() != Phase::Turning {
                return word;
            }
            pause();
        }
    }

    fn swap(&self, from: Word, to: Word) -> bool {
        self.word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Returns the full epoch of `word`, `None` when the breaker turned meanwhile.
    fn epoch_of(&self, word: Word) -> Option<u64> {
        let epoch = self.epoch.load(Ordering::Acquire);
        word.is_of(epoch).then_some(epoch)
    }

    fn is_current(&self, word: Word, epoch: u64) -> bool {
        word.is_of(epoch) && self.epoch.load(Ordering::Acquire) == epoch
    }

    /// Returns the mark of the period of `word`, `None` when the breaker turned meanwhile.
    #[inline(always)]
    fn mark_of(&self, word: Word) -> Option<u64> {
        let mark = self.mark.load(Ordering::Acquire);
        let after = Word(self.word.load(Ordering::Acquire));
        word.same_period(after).then_some(mark)
    }

    fn admit_ramping(&self, word: Word, now: u64) -> Option<Result<u64, Rejected>> {
        let (epoch, from) = (self.epoch_of(word)?, self.mark_of(word)?);
        let Some(share) = share(&self.settings.config, now.saturating_sub(from)) else {
            return self.swap(word, word.ramped(epoch)).then_some(Ok(epoch));
        };
        let (next, admitted) = word.save_up(share.thousandths);
        if !self.swap(word, next) {
            return None;
        }
        Some(if admitted { Ok(epoch) } else { refuse(share.grows_in, Reason::Ramping) })
    }

    /// Returns what an outcome counts as, `None` when it says nothing about the callee.
    fn judge(&self, done: Done) -> Option<Record> {
        let config = &self.settings.config;
        let outcome = match done.outcome {
            Outcome::Cancelled => config.cancelled.outcome(),
            Outcome::Panicked => config.panicked.outcome(),
            other => other,
        };
        if outcome == Outcome::Ignore {
            return None;
        }
        let slow = self.is_timing() && (outcome == Outcome::Slow || self.is_slow(done.took));
        Some(Record { failed: outcome == Outcome::Fail, slow })
    }

    fn record(&self, now: u64, epoch: u64, record: Record) {
        if let Some(place) = self.window.record(&self.settings, self.token(epoch), now, record) {
            self.recheck(epoch, place);
        }
    }

    /// Takes a record out of the ring again when its period ended while it was put in.
    fn recheck(&self, epoch: u64, place: Place) {
        if self.epoch.load(Ordering::Acquire) != epoch {
            self.window.take_back(place);
        }
    }

    /// Opens when a rate is reached. A good call is a reason to look only when the rate is reached
    /// already and calls were wanting: success must not open a breaker that failures left closed.
    fn trip_if_due(&self, now: u64, epoch: u64, record: Record, events: &mut Events) {
        loop {
            let word = Word(self.word.load(Ordering::Acquire));
            let ramping = word.phase() == Phase::Ramping;
            let closed = ramping || word.phase() == Phase::Closed;
            let worth_a_look = record.failed || record.slow || word.is_pending();
            if !closed || !worth_a_look || !self.is_current(word, epoch) {
                return;
            }
            let counts = self.counts(epoch);
            let over = self.settings.over_rate(counts, counts.calls);
            let enough = counts.calls >= u64::from(self.settings.config.calls_min);
            let (Some(cause), true) = (over, enough) else {
                let next = word.with_pending(over.is_some());
                if next == word || self.swap(word, next) {
                    return;
                }
                continue;
            };
            let Some(from) = self.mark_of(word) else { continue };
            let passed = now.saturating_sub(from);
            let in_ramp = ramping && share(&self.settings.config, passed).is_some();
            let before = if in_ramp { self.trips.load(Ordering::Acquire) } else { 0 };
            let trips = before.saturating_add(1);
            if self.turn(word, Change { to: Phase::Open, at: now, cause, trips }, events) {
                return;
            }
        }
    }

    fn become_half_open(&self, word: Word, now: u64, events: &mut Events) {
        let trips = self.trips.load(Ordering::Acquire);
        let change = Change { to: Phase::HalfOpen, at: now, cause: Cause::WaitOver, trips };
        self.turn(word, change, events);
    }

    /// Counts the answer of a probe, and closes or opens as soon as the probes that are left cannot
    /// change the verdict. False when the word changed meanwhile.
    fn finish_probe(
        &self,
        word: Word,
        now: u64,
        record: Option<Record>,
        events: &mut Events,
    ) -> bool {
        let Some(record) = record else { return self.swap(word, word.give_back()) };
        let next = word.answered(record);
        let permits = self.settings.permits();
        match self.settings.over_rate(next.probes(), permits) {
            Some(cause) => self.open(word, now, cause, events),
            None if next.probes().calls >= permits => self.close(word, now, events),
            None => self.swap(word, next),
        }
    }

    /// Ends a half-open period whose wait is over: a probe still out by then has expired and speaks
    /// against the callee, as does a period in which nothing was learned. Otherwise the probes that
    /// did answer decide, or a callee with little traffic would never be believed again.
    ///
    /// Tells whether there was one to end; whoever asks looks again then.
    fn end_half_open(&self, word: Word, now: u64, events: &mut Events) -> bool {
        if word.phase() != Phase::HalfOpen {
            return false;
        }
        let Some(until) = self.mark_of(word) else { return true };
        if now < until {
            return false;
        }
        let probes = word.probes();
        match self.settings.over_rate(probes, probes.calls) {
            Some(cause) => self.open(word, until, cause, events),
            None if word.out() > 0 || probes.calls == 0 => {
                self.open(word, until, Cause::ProbesExpired, events)
            }
            None => self.close(word, until, events),
        };
        true
    }

    fn open(&self, word: Word, at: u64, cause: Cause, events: &mut Events) -> bool {
        let trips = self.trips.load(Ordering::Acquire).saturating_add(1);
        self.turn(word, Change { to: Phase::Open, at, cause, trips }, events)
    }

    fn close(&self, word: Word, at: u64, events: &mut Events) -> bool {
        let ramps = !self.settings.config.ramp.is_zero();
        let to = if ramps { Phase::Ramping } else { Phase::Closed };
        let trips = self.trips.load(Ordering::Acquire);
        self.turn(word, Change { to, at, cause: Cause::ProbesOk, trips }, events)
    }

    /// Goes to the next epoch, if the word is still `seen`: claims it, writes what goes with it,
    /// and publishes it.
    fn turn(&self, seen: Word, change: Change, events: &mut Events) -> bool {
        if !self.swap(seen, seen.turning()) {
            return false;
        }
        let Change { to, at, cause, trips } = change;
        let epoch = self.epoch.load(Ordering::Relaxed).saturating_add(1);
        self.epoch.store(epoch, Ordering::Release);
        self.trips.store(trips, Ordering::Release);
        let settings = &self.settings;
        let mark = match to {
            Phase::Open => at.saturating_add(settings.open_wait(trips, self.seed, epoch)),
            Phase::HalfOpen => at.saturating_add(nanos(settings.config.half_open_wait)),
            _ => at,
        };
        self.mark.store(mark, Ordering::Release);
        if !matches!(to, Phase::Open | Phase::HalfOpen) {
            self.window.clear();
        }
        let word = match to {
            Phase::Ramping => Word::ramping(epoch).timed(self.is_timing()),
            Phase::Closed => Word(self.token(epoch).0),
            _ => Word::new(to, epoch),
        };
        self.word.store(word.0, Ordering::Release);
        if let (Some(from), Some(to)) = (seen.state(), word.state()) {
            debug_assert!(from.may_become(to), "BRK-5: {from:?} -> {to:?}");
            events.push(Transition { from, to, epoch, at: Monotonic::from_nanos(at), cause });
        }
        true
    }
}

fn refuse<T>(nanos: u64, reason: Reason) -> Result<T, Rejected> {
    Err(Rejected { retry_after: Duration::from_nanos(nanos), reason })
}
