//! Time as a value, or as something that is read only when it is needed.

use core::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "std")]
pub use amarra_core::Monotonic;
#[cfg(not(feature = "std"))]
pub use bare::Monotonic;

/// The present, either read already or read on demand.
///
/// What a breaker does most, letting a call through and hearing that it went well, needs no clock;
/// reading one costs ten times as much as everything else together. So pass the value where it is
/// there anyway, and a closure that reads it where it is not:
///
/// ```
/// use amarra_resilience::Monotonic;
/// use amarra_resilience::breaker::{Breaker, Config, Outcome};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = Breaker::new("provider", Config::default(), 42)?;
/// let clock = || Monotonic::from_nanos(5);
/// breaker.admit(clock)?.finish(clock, Outcome::Ok);
/// breaker.admit(clock())?.finish(clock(), Outcome::Ok);
/// # Ok(()) }
/// ```
pub trait Now {
    /// Whether it was read already, and so costs nothing.
    const KNOWN: bool;

    /// Returns it.
    fn read(self) -> Monotonic;
}

impl Now for Monotonic {
    const KNOWN: bool = true;

    #[inline]
    fn read(self) -> Monotonic {
        self
    }
}

impl<F: FnOnce() -> Monotonic> Now for F {
    const KNOWN: bool = false;

    #[inline]
    fn read(self) -> Monotonic {
        self()
    }
}

/// A clock somebody else winds: one word that a thread or a timer sets every millisecond or so.
///
/// Where calls are timed, reading a real clock twice for each costs more than everything else; a
/// tick is good enough to tell calls that take too long.
#[derive(Debug, Default)]
pub struct Ticks(AtomicU64);

impl Ticks {
    /// Makes a clock that shows the start.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Sets the time; an earlier one than shown is not believed.
    pub fn wind(&self, now: Monotonic) {
        self.0.fetch_max(now.as_nanos(), Ordering::Relaxed);
    }

    /// Returns the time last set.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Monotonic {
        Monotonic::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(not(feature = "std"))]
mod bare {
    use core::time::Duration;

    /// A point of one process's monotonic time: it never goes back and means nothing elsewhere.
    ///
    /// With the `std` feature it is the type of the same name and methods of `amarra-core`.
    ///
    /// # Units
    /// Nanoseconds since a start the clock chose. Arithmetic saturates.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
    pub struct Monotonic(u64);

    impl Monotonic {
        /// Makes a point from nanoseconds since the clock's start.
        #[must_use]
        pub const fn from_nanos(nanos: u64) -> Self {
            Self(nanos)
        }

        /// Returns nanoseconds since the clock's start.
        #[must_use]
        pub const fn as_nanos(self) -> u64 {
            self.0
        }

        /// Returns this point moved forward by `d`.
        #[must_use]
        pub fn plus(self, d: Duration) -> Self {
            Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
        }

        /// Returns the time from `earlier` to this point, zero when `earlier` is later.
        #[must_use]
        pub fn since(self, earlier: Self) -> Duration {
            Duration::from_nanos(self.0.saturating_sub(earlier.0))
        }
    }
}
