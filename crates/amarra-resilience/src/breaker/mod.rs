//! A circuit breaker whose permits know the period they belong to, and expire.
//!
//! `Machine` decides and is pure; [`Breaker`] shares one between threads. A permit that outlives
//! its period changes nothing, a dropped one gives its place back, and one never reported runs out
//! with the half-open wait: the three ways in which breakers of other libraries get stuck.

mod config;
mod machine;
mod permit;
mod ramp;
mod registry;
mod state;
mod window;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amarra_core::{Entropy, Monotonic};

pub use config::{Config, SlowCalls, Window};
pub use permit::Permit;
pub use registry::{Registry, RegistryConfig};
pub use state::{
    Cause, Counts, Finish, Mode, Observer, Outcome, Reason, Rejected, Snapshot, State, Transition,
};

use crate::config::ConfigError;
use machine::{Events, Machine};

/// Stops calling what keeps failing, and finds out carefully when it is back.
///
/// Time is a value the caller passes, so a breaker runs on a simulated clock as well as on a real
/// one; its jitter comes from a seed, so two runs of one seed are equal.
///
/// # Laws
/// - BRK-1 a half-open period admits at most `half_open_permits` calls that are out or answered.
/// - BRK-2 a result of another epoch changes nothing but the count of stale results.
/// - BRK-3 a permit dropped unfinished is cancelled: a probe gives its place back, a call of the
///   closed state leaves no trace. Dropped by a panic it is a failure.
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
    name: Arc<str>,
    machine: Mutex<Machine>,
    observer: Option<Arc<dyn Observer>>,
}

impl Breaker {
    /// Makes a closed breaker; `seed` decides its jitter.
    ///
    /// # Errors
    /// [`ConfigError`] when a field of `config` is outside its range.
    pub fn new(name: impl Into<Arc<str>>, config: Config, seed: u64) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self::from_parts(name, config, seed, None))
    }

    /// Makes a closed breaker of a configuration that was checked already.
    fn from_parts(
        name: impl Into<Arc<str>>,
        config: Config,
        seed: u64,
        observer: Option<Arc<dyn Observer>>,
    ) -> Self {
        Self { name: name.into(), machine: Mutex::new(Machine::new(config, seed)), observer }
    }

    /// Makes a closed breaker with a seed drawn from `entropy`.
    ///
    /// # Errors
    /// [`ConfigError`] when a field of `config` is outside its range.
    pub fn seeded(
        name: impl Into<Arc<str>>,
        config: Config,
        entropy: &dyn Entropy,
    ) -> Result<Self, ConfigError> {
        Self::new(name, config, entropy.next_u64())
    }

    /// Returns this breaker with `observer` hearing of its transitions.
    #[must_use]
    pub fn observed(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// Returns the name it was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Admits a call that starts at `now`.
    ///
    /// # Errors
    /// [`Rejected`] with the time after which another try may be admitted. Nothing was sent.
    ///
    /// # Cancellation
    /// Dropping the permit gives it back.
    pub fn admit(&self, now: Monotonic) -> Result<Permit<'_>, Rejected> {
        let epoch = self.step(|machine| machine.admit(now))?;
        Ok(Permit::new(self, epoch, now))
    }

    /// Hands the decision to an operator, or back to the breaker, which then starts closed with
    /// nothing recorded.
    pub fn set_mode(&self, now: Monotonic, mode: Mode) {
        self.step(|machine| machine.set_mode(now, mode));
    }

    /// Returns what the breaker looks like as of the last call.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.lock().snapshot()
    }

    /// Runs one step of the machine and tells of its transitions once the lock is released.
    fn step<T>(&self, step: impl FnOnce(&mut Machine) -> T) -> T {
        let (out, events) = {
            let mut machine = self.lock();
            let out = step(&mut machine);
            (out, machine.take_events())
        };
        self.tell(&events);
        out
    }

    fn tell(&self, events: &Events) {
        if let Some(observer) = &self.observer {
            for event in events.iter().flatten() {
                observer.transition(&self.name, event);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        // No step leaves the machine half-changed by a panic: there is nothing in it that can.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
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
