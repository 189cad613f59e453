//! Durations as configurations write them: `"250ms"`, `"20s"`, `"15m"`, `"1h"`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A duration, written as a whole number and its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) Duration);

impl Wait {
    /// Makes one of milliseconds.
    pub(crate) const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Makes one of seconds.
    pub(crate) const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

/// Reads a duration.
fn read(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Wait;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"250ms\", \"20s\", \"15m\" or \"1h\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Wait, E> {
                let unread = || E::invalid_value(de::Unexpected::Str(text), &self);
                read(text).map(Wait).ok_or_else(unread)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_its_unit_are_read_and_nothing_else() {
        let check = |text: &str, millis: Option<u64>| {
            assert_eq!(read(text), millis.map(Duration::from_millis), "{text}");
        };
        check("250ms", Some(250));
        check("20s", Some(20_000));
        check("15m", Some(900_000));
        check("1h", Some(3_600_000));
        for wrong in ["", "20", "s", "-1s", "1.5s", "1 s", "1d", "99999999999999999999s"] {
            check(wrong, None);
        }
    }
}
