//! A circuit breaker whose permits know the period they belong to, and expire.
//!
//! A permit that outlives its period changes nothing, a dropped one gives its place back, and one
//! never reported runs out with the half-open wait: the three ways in which breakers of other
//! libraries get stuck.
//!
//! There is no lock. Every decision is one compare-and-swap of one word, and a call that goes well
//! while closed costs two loads and one store more than the call itself.

mod cells;
mod config;
mod engine;
#[cfg(feature = "std")]
mod lane;
#[cfg(test)]
mod models;
mod permit;
mod ramp;
#[cfg(feature = "std")]
mod registry;
mod ring;
#[cfg(test)]
mod ring_tests;
mod settings;
mod state;
#[cfg_attr(not(feature = "std"), path = "no_stripes.rs")]
mod stripes;
mod sync;
mod window;
mod word;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

pub use config::{Config, Lost, SlowCalls, Window};
pub use permit::Permit;
#[cfg(feature = "std")]
pub use registry::{Registry, RegistryConfig};
pub use state::{
    Cause, Counts, Finish, Mode, Observer, Outcome, Reason, Rejected, Snapshot, State, Transition,
};

use crate::config::ConfigError;
use crate::time::{Monotonic, Now};
#[cfg(feature = "std")]
pub(crate) use cells::Cells;
use engine::{Done, Engine, Events};
use permit::Guarded;
#[cfg(feature = "tower")]
pub(crate) use permit::Ticket;
pub(crate) use settings::Settings;
pub(crate) use word::Token;
use word::Word;

/// Stops calling what keeps failing, and finds out carefully when it is back.
///
/// Time is a value the caller passes, or reads when asked to ([`Now`]), so a breaker runs on a
/// simulated clock as well as on a real one; its jitter comes from a seed, so two runs of one seed
/// are equal.
///
/// # Laws
/// - BRK-1 a half-open period admits at most `half_open_permits` calls that are out or answered.
/// - BRK-2 a result of another epoch changes nothing but the count of stale results.
/// - BRK-3 a permit dropped unfinished is cancelled: a probe gives its place back, a call of the
///   closed state leaves no trace. Dropped by a panic it is a failure. The configuration may say
///   otherwise for both.
/// - BRK-4 a half-open period ends by its wait at the latest, whatever became of its probes.
/// - BRK-5 only legal transitions ([`State::may_become`]), one event each, told outside any lock.
/// - BRK-6 time never goes back: an earlier `now` is taken for the latest one seen.
/// - BRK-7 an ignored outcome gives a probe's place back and counts nowhere.
/// - BRK-8 while open nothing is admitted before the wait is over; the waits of one outage double.
///
/// # State
/// Closed, open, half-open, and the three modes an operator sets ([`Mode`]).
///
/// # Example
/// ```
/// use amarra_core::Monotonic;
/// use amarra_resilience::breaker::{Breaker, Config, Outcome};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = Breaker::new("provider", Config { calls_min: 2, ..Config::default() }, 42)?;
/// let now = Monotonic::from_nanos(0);
/// for _ in 0..2 {
///     breaker.admit(now)?.finish(now, Outcome::Fail);
/// }
/// let refused = breaker.admit(now).unwrap_err();
/// assert!(refused.retry_after <= Config::default().open_wait);
/// assert!(breaker.admit(now.plus(refused.retry_after)).is_ok());
/// # Ok(()) }
/// ```
///
/// # Source
/// Nygard, "Release It!", 2007; the epochs follow the generation of sony/gobreaker.
pub struct Breaker {
    engine: Engine,
    name: Box<str>,
}

impl Breaker {
    /// Makes a closed breaker; `seed` decides its jitter.
    ///
    /// # Errors
    /// [`ConfigError`] when a field of `config` is outside its range.
    pub fn new(name: impl Into<Box<str>>, config: Config, seed: u64) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self::from_parts(name.into(), Arc::new(Settings::new(config, None)), seed))
    }

    /// Makes a closed breaker of settings that others may share.
    fn from_parts(name: Box<str>, settings: Arc<Settings>, seed: u64) -> Self {
        Self { engine: Engine::new(settings, seed), name }
    }

    /// Makes a closed breaker with a seed drawn from `entropy`.
    ///
    /// # Errors
    /// [`ConfigError`] when a field of `config` is outside its range.
    #[cfg(feature = "std")]
    pub fn seeded(
        name: impl Into<Box<str>>,
        config: Config,
        entropy: &dyn amarra_core::Entropy,
    ) -> Result<Self, ConfigError> {
        Self::new(name, config, entropy.next_u64())
    }

    /// Returns this breaker with `observer` hearing of its transitions.
    #[must_use]
    pub fn observed(mut self, observer: Arc<dyn Observer>) -> Self {
        self.engine.observe(observer);
        self
    }

    /// Returns the name it was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Admits a call that starts now.
    ///
    /// # Errors
    /// [`Rejected`] with the time after which another try may be admitted. Nothing was sent.
    ///
    /// # Cancellation
    /// Dropping the permit gives it back.
    #[inline(always)]
    pub fn admit<N: Now>(&self, now: N) -> Result<Permit<'_>, Rejected> {
        let word = self.engine.word();
        if !word.is_closed() {
            return self.ask(word, now);
        }
        let mut started = Monotonic::default();
        if N::KNOWN || !word.is_plain() {
            started = now.read();
        }
        if N::KNOWN {
            self.engine.see(started.as_nanos());
        }
        Ok(Permit::new(self, Token::closed(word), started))
    }

    /// Tells whether a call would be refused now, without taking a permit or turning anything.
    ///
    /// # Errors
    /// [`Rejected`] as [`admit`](Self::admit) would answer.
    #[inline(always)]
    pub fn peek(&self, now: impl Now) -> Result<(), Rejected> {
        if self.engine.word().is_closed() {
            return Ok(());
        }
        self.engine.peek(now.read().as_nanos())
    }

    /// Runs `work` if it is admitted, and counts what it returned as `judge` says.
    ///
    /// The clock is read when it is needed; a panic of `work` is dated by it too.
    ///
    /// # Errors
    /// [`Rejected`] with the time after which another try may be admitted. Nothing was done.
    ///
    /// # Example
    /// ```
    /// use amarra_resilience::Monotonic;
    /// use amarra_resilience::breaker::{Breaker, Config, Outcome};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let breaker = Breaker::new("parser", Config::default(), 42)?;
    /// let clock = || Monotonic::from_nanos(0);
    /// let parsed = breaker.call(clock, Outcome::of_result, || "7".parse::<u32>())?;
    /// assert_eq!(parsed, Ok(7));
    /// # Ok(()) }
    /// ```
    #[inline(always)]
    pub fn call<T>(
        &self,
        clock: impl Fn() -> Monotonic,
        judge: impl FnOnce(&T) -> Outcome,
        work: impl FnOnce() -> T,
    ) -> Result<T, Rejected> {
        let word = self.engine.word();
        if word.is_plain() {
            let token = Token::closed(word);
            let guard = Guarded::new(self, token, Monotonic::default(), &clock);
            let out = work();
            let outcome = judge(&out);
            guard.disarm();
            let of = (token, Monotonic::default());
            if outcome != Outcome::Ok {
                self.finish_rest(&clock, of, outcome);
            } else if !self.engine.finish_plain(token) {
                self.finish_rest(&clock, of, Outcome::Ok);
            }
            return Ok(out);
        }
        let started = clock();
        if !word.is_closed() {
            return match self.engine.open_for(word, started.as_nanos()) {
                Some(left) => Err(Rejected::open(left)),
                None => self.call_rest(started, clock, judge, work).map_err(|(wait, reason)| {
                    Rejected { retry_after: Duration::from_nanos(wait), reason }
                }),
            };
        }
        let token = Token::closed(word);
        let guard = Guarded::new(self, token, started, &clock);
        let out = work();
        let outcome = judge(&out);
        guard.disarm();
        let now = clock();
        let took = now.as_nanos().saturating_sub(started.as_nanos());
        if !self.finish_quick(took, now.as_nanos(), token, outcome) {
            self.finish_rest(now, (token, started), outcome);
        }
        Ok(out)
    }

    /// Runs `work` if a breaker admits it that is not simply closed, nor open for some time yet.
    ///
    /// The refusal is told in another form, of a wait in nanoseconds: were it of the form in which
    /// it is returned, every call would build its answer in memory for the sake of this one.
    #[cold]
    #[inline(never)]
    fn call_rest<T>(
        &self,
        now: Monotonic,
        clock: impl Fn() -> Monotonic,
        judge: impl FnOnce(&T) -> Outcome,
        work: impl FnOnce() -> T,
    ) -> Result<T, (u64, Reason)> {
        let refused = |Rejected { retry_after, reason }| (settings::nanos(retry_after), reason);
        let (token, started) = self.decide(now).map_err(refused)?;
        let guard = Guarded::new(self, token, started, &clock);
        let out = work();
        let outcome = judge(&out);
        guard.disarm();
        self.finish_rest(clock(), (token, started), outcome);
        Ok(out)
    }

    /// Awaits `work` if it is admitted, and counts what it returned as `judge` says.
    ///
    /// Nothing is allocated, and nothing is asked before the first poll.
    ///
    /// # Errors
    /// [`Rejected`] with the time after which another try may be admitted. Nothing was done.
    ///
    /// # Cancellation
    /// Dropping the future counts as cancelled, unless a panic drops it.
    #[inline(always)]
    pub async fn run<F: Future>(
        &self,
        clock: impl Fn() -> Monotonic,
        judge: impl FnOnce(&F::Output) -> Outcome,
        work: F,
    ) -> Result<F::Output, Rejected> {
        let permit = self.admit(&clock)?.watched(&clock);
        let out = work.await;
        permit.finish(judge(&out));
        Ok(out)
    }

    /// Hands the decision to an operator, or back to the breaker, which then starts closed with
    /// nothing recorded.
    pub fn set_mode(&self, now: impl Now, mode: Mode) {
        let mut events = Events::default();
        self.engine.set_mode(now.read().as_nanos(), mode, &mut events);
        self.tell(&events);
    }

    /// Returns what the breaker looks like as of the last call.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.engine.snapshot()
    }

    /// Admits a call unless the breaker is simply closed.
    #[inline(always)]
    fn ask(&self, word: Word, now: impl Now) -> Result<Permit<'_>, Rejected> {
        let now = now.read();
        if let Some(left) = self.engine.open_for(word, now.as_nanos()) {
            return Err(Rejected::open(left));
        }
        self.decide(now).map(|(token, started)| Permit::new(self, token, started))
    }

    #[cold]
    #[inline(never)]
    fn decide(&self, now: Monotonic) -> Result<(Token, Monotonic), Rejected> {
        let mut events = Events::default();
        let admitted = self.engine.admit(now.as_nanos(), &mut events);
        self.tell(&events);
        admitted.map(|epoch| (Token::other(epoch), now))
    }

    fn confirm<N: Now>(&self, now: N, token: Token) -> Result<Monotonic, Rejected> {
        if !N::KNOWN && token.is_plain() && self.engine.is_still(token) {
            return Ok(Monotonic::default());
        }
        let (now, mut events) = (now.read(), Events::default());
        let confirmed = self.engine.confirm(now.as_nanos(), token.epoch(), &mut events);
        self.tell(&events);
        confirmed.map(|()| now)
    }

    #[inline(always)]
    fn finish<N: Now>(&self, now: N, of: (Token, Monotonic), outcome: Outcome) -> Finish {
        if !N::KNOWN && of.0.is_plain() {
            if outcome == Outcome::Ok && self.engine.finish_plain(of.0) {
                return Finish::Recorded;
            }
            return self.finish_rest(now, of, outcome);
        }
        let now = now.read();
        // A call is timed by its own two readings, and counted at the latest time anybody read.
        let at = if N::KNOWN { self.engine.see(now.as_nanos()) } else { now.as_nanos() };
        let took = now.as_nanos().saturating_sub(of.1.as_nanos());
        if self.finish_quick(took, at, of.0, outcome) {
            return Finish::Recorded;
        }
        self.finish_rest(now, of, outcome)
    }

    /// Counts the usual end of a call that took `took` and ended at `at`; false, and nothing
    /// counted, when it is not.
    #[inline(always)]
    fn finish_quick(&self, took: u64, at: u64, token: Token, outcome: Outcome) -> bool {
        outcome == Outcome::Ok && !self.engine.is_slow(took) && self.engine.finish_timed(token, at)
    }

    /// Counts the end of a call of which nothing is known but what is given.
    #[cold]
    #[inline(never)]
    fn finish_rest<N: Now>(
        &self,
        now: N,
        (token, started): (Token, Monotonic),
        outcome: Outcome,
    ) -> Finish {
        let epoch = token.epoch();
        if N::KNOWN || self.engine.is_timing() {
            let now = now.read();
            let took = now.as_nanos().saturating_sub(started.as_nanos());
            let quick = outcome == Outcome::Ok && !self.engine.is_slow(took);
            let good = quick && {
                let at = if N::KNOWN { self.engine.see(now.as_nanos()) } else { now.as_nanos() };
                self.engine.finish_good(epoch, Monotonic::from_nanos(at))
            };
            if good {
                return Finish::Recorded;
            }
            return self.report(now, Done { epoch, took, outcome });
        }
        let mut now = Some(now);
        let read = || now.take().map_or_else(Monotonic::default, Now::read);
        if outcome == Outcome::Ok && self.engine.finish_good(epoch, read) {
            return Finish::Recorded;
        }
        let now = now.map_or_else(Monotonic::default, Now::read);
        self.report(now, Done { epoch, took: 0, outcome })
    }

    /// Counts an outcome that may turn the breaker.
    #[cold]
    fn report(&self, now: Monotonic, done: Done) -> Finish {
        let mut events = Events::default();
        let finish = self.engine.finish(now.as_nanos(), done, &mut events);
        self.tell(&events);
        finish
    }

    /// Counts a call whose permit was dropped, as of the latest time known.
    fn lose(&self, (token, started): (Token, Monotonic), outcome: Outcome) {
        let epoch = token.epoch();
        let config = &self.engine.settings().config;
        let lost = match outcome {
            Outcome::Panicked => config.panicked,
            _ => config.cancelled,
        };
        match lost {
            Lost::Ignored => self.engine.give_back(epoch),
            Lost::Failed => {
                let now = self.engine.latest().max(started.as_nanos());
                self.report(Monotonic::from_nanos(now), Done { epoch, took: 0, outcome });
            }
        }
    }

    fn tell(&self, events: &Events) {
        if let Some(observer) = &self.engine.settings().observer {
            for event in events.iter() {
                observer.transition(&self.name, event);
            }
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("name", &self.name)
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}
