//! The five classes every port error maps to, and all that retry, breaker and saga read of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Says what a caller may do after an error, whatever its cause.
///
/// Retry, breaker and saga never look at an error's variant: they read its class, so that a new
/// adapter cannot teach them a wrong habit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The callee said no for a business reason; nothing was applied. Compensate, never retry.
    Rejected,
    /// Surely not applied. Retry.
    Transient,
    /// May have been applied. Retry only with the same idempotency key, or query.
    Unknown,
    /// Somebody else changed the state first; nothing was applied. Reload and decide again.
    Conflict,
    /// Corrupt data or a bug of ours. Stop and report.
    Fatal,
}

impl Class {
    /// Tells whether the effect is known not to have happened.
    #[must_use]
    pub fn is_not_applied(self) -> bool {
        matches!(self, Self::Rejected | Self::Transient | Self::Conflict)
    }

    /// Tells whether trying again with the same idempotency key can help.
    #[must_use]
    pub fn is_retryable_with_key(self) -> bool {
        matches!(self, Self::Transient | Self::Unknown | Self::Conflict)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rejected => "rejected",
            Self::Transient => "transient",
            Self::Unknown => "unknown",
            Self::Conflict => "conflict",
            Self::Fatal => "fatal",
        })
    }
}

/// An error that knows its [`Class`].
pub trait Classify {
    /// Returns what a caller may do about this error.
    fn class(&self) -> Class;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_never_taken_for_not_applied() {
        let not_applied: Vec<_> =
            [Class::Rejected, Class::Transient, Class::Unknown, Class::Conflict, Class::Fatal]
                .into_iter()
                .filter(|c| c.is_not_applied())
                .collect();
        assert_eq!(not_applied, [Class::Rejected, Class::Transient, Class::Conflict]);
    }
}
