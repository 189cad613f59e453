//! Time as values and as two ports: `Clock` reads it, `Timer` waits for it.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{Either, select};
use serde::{Deserialize, Serialize};

/// A point of wall-clock time: microseconds since the Unix epoch, UTC.
///
/// Wall clocks of two machines differ and may jump backwards; compare timestamps of one clock only,
/// and measure waits with [`Monotonic`].
///
/// # Units
/// Microseconds. Arithmetic saturates at the ends of `i64` (about 292,000 years away).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// Makes a timestamp from microseconds since the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns whole seconds since the epoch, rounded down, as JWT and HTTP dates want them.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Returns this time moved forward by `d`.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(micros_of(d)))
    }

    /// Returns this time moved back by `d`.
    #[must_use]
    pub fn minus(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(micros_of(d)))
    }

    /// Returns the time passed from `earlier` to this one, zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    /// Writes RFC 3339 in UTC with microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, micros) = (self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000));
        let (days, tod) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
        let (y, m, d) = civil_from_days(days);
        let (hour, minute, second) = (tod / 3600, tod / 60 % 60, tod % 60);
        write!(f, "{y:04}-{m:02}-{d:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// Turns days since the epoch into a date of the proleptic Gregorian calendar.
#[expect(clippy::arithmetic_side_effects, reason = "days of an i64 of microseconds fit easily")]
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn micros_of(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

/// A point of one process's monotonic time: it never goes back and means nothing elsewhere.
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

/// Reads the time of the machine it runs on.
///
/// # Laws
/// - CLK-1 `monotonic` never goes back within one process.
/// - CLK-2 `now` may jump in either direction; nothing may rely on its order.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the wall-clock time.
    fn now(&self) -> Timestamp;

    /// Returns the monotonic time.
    fn monotonic(&self) -> Monotonic;
}

/// Waits for a point of monotonic time.
///
/// # Laws
/// - TMR-1 `sleep_until` returns no earlier than its point by the [`Clock`] it is paired with.
/// - TMR-2 a point already past returns without suspending for ever.
#[async_trait]
pub trait Timer: Send + Sync + fmt::Debug {
    /// Returns once the paired clock's monotonic time is at or past `at`.
    ///
    /// # Cancellation
    /// Dropping the future forgets the wait; nothing else happens.
    async fn sleep_until(&self, at: Monotonic);
}

/// The answer of [`timeout_at`] when time ran out first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("time ran out")]
pub struct Elapsed;

/// Runs `work` until `at` by `timer`; `work` is polled first, so a result that is ready wins.
///
/// # Errors
/// [`Elapsed`] when the point passed first.
///
/// # Cancellation
/// When time runs out `work` is dropped where it stands: whatever it asked for may have happened.
pub async fn timeout_at<F: Future>(
    timer: &dyn Timer,
    at: Monotonic,
    work: F,
) -> Result<F::Output, Elapsed> {
    match select(pin!(work), timer.sleep_until(at)).await {
        Either::Left((out, _)) => Ok(out),
        Either::Right(((), _)) => Err(Elapsed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_of_known_instants() {
        let check = |micros, expect: &str| {
            assert_eq!(Timestamp::from_micros(micros).to_string(), expect);
        };
        check(0, "1970-01-01T00:00:00.000000Z");
        check(951_782_400_000_000, "2000-02-29T00:00:00.000000Z");
        check(1_669_852_799_123_456, "2022-11-30T23:59:59.123456Z");
        check(-1, "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn differences_never_go_below_zero() {
        let early = Timestamp::from_micros(5);
        let late = early.plus(Duration::from_secs(1));
        assert_eq!(late.since(early), Duration::from_secs(1));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(Monotonic::from_nanos(1).since(Monotonic::from_nanos(9)), Duration::ZERO);
    }
}
