//! Time as values and as two ports: `Clock` reads it, `Timer` waits for it.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::str::FromStr;
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

/// Text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a time must look like 2023-11-14T22:13:20.000042Z, got {got:?}")]
pub struct ParseTimestampError {
    got: String,
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    /// Reads RFC 3339 in UTC (`Z`); what is finer than a microsecond is cut off.
    fn from_str(s: &str) -> Result<Self, ParseTimestampError> {
        parse(s).map(Self).ok_or_else(|| ParseTimestampError { got: s.to_owned() })
    }
}

fn parse(s: &str) -> Option<i64> {
    let (date, time) = s.strip_suffix('Z')?.split_once('T')?;
    let (date, day) = date.rsplit_once('-')?;
    let (year, month) = date.rsplit_once('-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let (hour, time) = time.split_once(':')?;
    let (minute, second) = time.split_once(':')?;
    let below = |text: &str, bound: i64| digits(text).filter(|n| text.len() == 2 && *n < bound);
    let date = (year.parse().ok()?, below(month, 13)?, below(day, 32)?);
    let days = days_from_civil(date)?;
    let seconds = below(hour, 24)?.checked_mul(60)?.checked_add(below(minute, 60)?)?;
    let seconds = seconds.checked_mul(60)?.checked_add(below(second, 60)?)?;
    digits(fraction)?;
    let micros = digits(format!("{fraction:0<6}").get(..6)?)?;
    // In a wider type: the earliest time is before the start of its day, and its sum overflows.
    let total = i128::from(days)
        .checked_mul(86_400)?
        .checked_add(i128::from(seconds))?
        .checked_mul(1_000_000)?
        .checked_add(i128::from(micros))?;
    i64::try_from(total).ok()
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Turns a date of the proleptic Gregorian calendar into days since the epoch, none for a date that
/// does not exist.
#[expect(clippy::arithmetic_side_effects, reason = "years are bounded first")]
fn days_from_civil((year, month, day): (i64, i64, i64)) -> Option<i64> {
    if !(-300_000..300_000).contains(&year) {
        return None;
    }
    let y = if month <= 2 { year - 1 } else { year };
    let year_of_era = y.rem_euclid(400);
    let shifted_month = (month + 9).rem_euclid(12);
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = y.div_euclid(400) * 146_097 + day_of_era - 719_468;
    (civil_from_days(days) == (year, month, day)).then_some(days)
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
            assert_eq!(expect.parse(), Ok(Timestamp::from_micros(micros)));
        };
        check(0, "1970-01-01T00:00:00.000000Z");
        check(951_782_400_000_000, "2000-02-29T00:00:00.000000Z");
        check(1_669_852_799_123_456, "2022-11-30T23:59:59.123456Z");
        check(-1, "1969-12-31T23:59:59.999999Z");
        for end in [Timestamp::from_micros(i64::MIN), Timestamp::from_micros(i64::MAX)] {
            assert_eq!(end.to_string().parse(), Ok(end));
        }
    }

    #[test]
    fn rfc3339_as_others_write_it() {
        let check = |text: &str, micros| {
            assert_eq!(text.parse().ok(), micros, "{text}");
        };
        let at = |micros| Some(Timestamp::from_micros(micros));
        check("1970-01-01T00:00:01Z", at(1_000_000));
        check("1970-01-01T00:00:00.5Z", at(500_000));
        check("1970-01-01T00:00:00.123456789Z", at(123_456));
        let bad = ["", "1970-01-01", "1970-01-01T00:00:00", "1970-02-30T00:00:00Z"];
        let worse = ["1970-1-01T00:00:00Z", "1970-01-01T24:00:00Z", "1970-01-01T00:00:00.x\u{e9}Z"];
        for text in bad.into_iter().chain(worse) {
            check(text, None);
        }
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
