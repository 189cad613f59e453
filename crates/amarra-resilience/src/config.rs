//! What every configuration here shares: the error of `validate`, and ratios without floats.

use core::fmt;

/// A configuration field outside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigError {
    /// The field, as the configuration struct spells it.
    pub field: &'static str,
    /// What its value has to be.
    pub why: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

impl core::error::Error for ConfigError {}

/// Answers with an error naming `field` unless `holds`.
pub(crate) fn check(
    holds: bool,
    field: &'static str,
    why: &'static str,
) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError { field, why }) }
}

/// A ratio from nothing (0) to all (1000).
///
/// Integers, because rounding a float budget is how 0.6 came to mean 100 % elsewhere.
///
/// # Units
/// Thousandths.
///
/// # Example
/// ```
/// use amarra_resilience::PerMille;
/// assert!(PerMille::percent(50).reached_by(5, 10));
/// assert!(!PerMille::percent(50).reached_by(4, 10));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PerMille(u16);

impl PerMille {
    /// All of it.
    pub const ALL: Self = Self(1000);

    /// Makes a ratio of `thousandths`; more than 1000 is taken for 1000.
    #[must_use]
    pub const fn new(thousandths: u16) -> Self {
        if thousandths > 1000 { Self::ALL } else { Self(thousandths) }
    }

    /// Makes a ratio of `percent`; more than 100 is taken for 100.
    #[must_use]
    pub const fn percent(percent: u8) -> Self {
        Self::new((percent as u16).saturating_mul(10))
    }

    /// Returns the thousandths.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Tells whether `part` of `whole` is at least this ratio; never when `whole` is zero.
    #[must_use]
    pub const fn reached_by(self, part: u64, whole: u64) -> bool {
        whole > 0 && part.saturating_mul(1000) >= whole.saturating_mul(self.0 as u64)
    }

    /// Returns this share of `n`, rounded down.
    #[must_use]
    pub const fn of(self, n: u64) -> u64 {
        // The thousands apart from the rest, so that no product is too large.
        let (whole, ratio) = ((n / 1000).saturating_mul(self.0 as u64), self.0 as u64);
        whole.saturating_add((n % 1000).saturating_mul(ratio) / 1000)
    }
}

impl fmt::Display for PerMille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}%", self.0 / 10, self.0 % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_reached_exactly_at_its_value() {
        let check = |ratio: u16, part, whole, expect| {
            assert_eq!(
                PerMille::new(ratio).reached_by(part, whole),
                expect,
                "{ratio} {part}/{whole}"
            );
        };
        check(500, 1, 2, true);
        check(501, 1, 2, false);
        check(1000, 9, 10, false);
        check(1000, 10, 10, true);
        check(0, 0, 0, false);
        assert_eq!(PerMille::new(2000), PerMille::ALL);
        assert_eq!(PerMille::percent(60).to_string(), "60.0%");
        assert_eq!(PerMille::percent(60).of(10), 6);
        assert_eq!(PerMille::new(999).of(1999), 1997);
        assert_eq!(
            (PerMille::ALL.of(u64::MAX), PerMille::new(1).of(u64::MAX)),
            (u64::MAX, u64::MAX / 1000)
        );
    }
}
