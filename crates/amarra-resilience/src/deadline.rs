//! The point in time after which nobody waits for an answer, and how it travels.

use std::time::Duration;

use amarra_core::Monotonic;

/// The name of the HTTP and message header that carries a [`Deadline`], in lower case.
pub const HEADER: &str = "amarra-deadline";

/// When a request's caller stops waiting, and through how many more services it may go.
///
/// It travels as the time that **remains**, so that clocks that disagree cannot shorten or lengthen
/// it; the way itself is not subtracted, so a callee believes in a little more time than there is.
///
/// # Units
/// On the wire whole milliseconds, rounded down: `"1500;hops=7"`.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use amarra_core::Monotonic;
/// use amarra_resilience::deadline::{Deadline, Limits};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = (Monotonic::from_nanos(5), Monotonic::from_nanos(900_000));
/// let sent = Deadline::after(here, Duration::from_millis(1500), 8).next_hop().ok_or("circle")?;
/// let header = sent.encode(here);
/// assert_eq!(header, "1500;hops=7");
/// let received = Deadline::decode(&header, there, &Limits::default())?;
/// assert_eq!(received.remaining(there), Duration::from_millis(1500));
/// # Ok(()) }
/// ```
///
/// # Source
/// The relative form follows gRPC's `grpc-timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deadline {
    at: Monotonic,
    hops: u8,
}

/// What a received header is bounded by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest a request may ask to be waited for; more is cut to this. Default 60 s.
    pub remaining_max: Duration,
    /// The most services a request may still go through; more is cut to this. Default 16.
    pub hops_max: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self { remaining_max: Duration::from_secs(60), hops_max: 16 }
    }
}

/// A header that is no deadline. The request is bad; nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeadlineError {
    /// Longer than any deadline can be.
    #[error("deadline header has {len} bytes, at most {LEN_MAX} are read")]
    TooLong {
        /// How long it is.
        len: usize,
    },
    /// Not of the form `<milliseconds>;hops=<n>`.
    #[error("deadline header is not <milliseconds>;hops=<n>: bad {part}")]
    Malformed {
        /// The part that does not parse.
        part: &'static str,
    },
}

/// The longest header that is read, in bytes: twenty digits, `;hops=` and three digits.
const LEN_MAX: usize = 29;

impl Deadline {
    /// Makes the deadline `patience` after `now`, for a request that may go through `hops` more
    /// services.
    #[must_use]
    pub fn after(now: Monotonic, patience: Duration, hops: u8) -> Self {
        Self { at: now.plus(patience), hops }
    }

    /// Returns when it is, by this process's clock.
    #[must_use]
    pub fn at(self) -> Monotonic {
        self.at
    }

    /// Returns through how many more services the request may go.
    #[must_use]
    pub fn hops(self) -> u8 {
        self.hops
    }

    /// Returns the time left, zero when it has passed.
    #[must_use]
    pub fn remaining(self, now: Monotonic) -> Duration {
        self.at.since(now)
    }

    /// Tells whether it has passed.
    #[must_use]
    pub fn is_past(self, now: Monotonic) -> bool {
        now >= self.at
    }

    /// Returns this deadline, or `at` if that is earlier.
    #[must_use]
    pub fn no_later_than(self, at: Monotonic) -> Self {
        Self { at: self.at.min(at), ..self }
    }

    /// Returns what the next service is given, `None` when the request may go no further.
    #[must_use]
    pub fn next_hop(self) -> Option<Self> {
        self.hops.checked_sub(1).map(|hops| Self { hops, ..self })
    }

    /// Writes the value of the [`HEADER`], as of `now`.
    #[must_use]
    pub fn encode(self, now: Monotonic) -> String {
        format!("{};hops={}", self.remaining(now).as_millis(), self.hops)
    }

    /// Reads the value of a [`HEADER`] received at `now`.
    ///
    /// # Errors
    /// [`DeadlineError`] when it is not one; values above `limits` are cut, not refused.
    pub fn decode(value: &str, now: Monotonic, limits: &Limits) -> Result<Self, DeadlineError> {
        if value.len() > LEN_MAX {
            return Err(DeadlineError::TooLong { len: value.len() });
        }
        let (millis, hops) =
            value.split_once(";hops=").ok_or(DeadlineError::Malformed { part: "separator" })?;
        let millis = digits(millis).ok_or(DeadlineError::Malformed { part: "milliseconds" })?;
        let hops = digits(hops).ok_or(DeadlineError::Malformed { part: "hops" })?;
        let remaining = Duration::from_millis(millis).min(limits.remaining_max);
        let hops = u8::try_from(hops).unwrap_or(u8::MAX).min(limits.hops_max);
        Ok(Self::after(now, remaining, hops))
    }
}

/// Parses digits and nothing else: `parse` alone would take a sign.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_headers_are_refused_with_the_part() {
        let check = |value: &str, part| {
            let got = Deadline::decode(value, Monotonic::default(), &Limits::default());
            assert_eq!(got, Err(DeadlineError::Malformed { part }), "{value:?}");
        };
        check("", "separator");
        check("100", "separator");
        check(";hops=1", "milliseconds");
        check("-1;hops=1", "milliseconds");
        check("+1;hops=1", "milliseconds");
        check("1.5;hops=1", "milliseconds");
        check("99999999999999999999;hops=1", "milliseconds");
        check("5;hops=", "hops");
        check("5;hops=1 ", "hops");
        let long = "1".repeat(30);
        let got = Deadline::decode(&long, Monotonic::default(), &Limits::default());
        assert_eq!(got, Err(DeadlineError::TooLong { len: 30 }));
    }

    #[test]
    fn values_above_the_limits_are_cut() {
        let (now, limits) = (Monotonic::from_nanos(7), Limits::default());
        let got = Deadline::decode("18446744073709551615;hops=255", now, &limits).unwrap();
        assert_eq!((got.remaining(now), got.hops()), (limits.remaining_max, limits.hops_max));
    }

    #[test]
    fn a_request_goes_through_as_many_services_as_it_may() {
        let start = Deadline::after(Monotonic::default(), Duration::from_secs(1), 2);
        let chain: Vec<_> =
            std::iter::successors(Some(start), |d| d.next_hop()).map(Deadline::hops).collect();
        assert_eq!(chain, [2, 1, 0]);
        let past = start.at();
        assert!(start.is_past(past) && start.remaining(past).is_zero());
        assert!(
            !start.no_later_than(past.plus(Duration::from_secs(1))).is_past(Monotonic::default())
        );
        let early = Monotonic::from_nanos(3);
        assert_eq!(start.no_later_than(early).at(), early);
    }
}
