//! What a guarded call answers when it does not answer with a value.

use std::fmt;
use std::time::Duration;

use amarra_core::{Class, Classify};

use crate::breaker::Rejected;

/// Why one try failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The callee, or the way to it, answered with an error. Class: that of the error.
    #[error(transparent)]
    Call(E),
    /// The try took longer than it may. Class `Unknown`: it was dropped where it stood.
    #[error("no answer within {after:?}")]
    TimedOut {
        /// How long it was given.
        after: Duration,
    },
    /// The breaker refused; nothing was sent. Class `Transient`.
    #[error(transparent)]
    BreakerOpen(Rejected),
    /// Every place of the bulkhead and of its queue was taken; nothing was sent. Class
    /// `Transient`.
    #[error("bulkhead full")]
    BulkheadFull,
    /// The rate limit was reached; nothing was sent. Class `Transient`.
    #[error("rate limited; try again in {retry_after:?}")]
    RateLimited {
        /// When the next call is admitted.
        retry_after: Duration,
    },
    /// As many calls as the callee is believed to bear are out; nothing was sent. Class
    /// `Transient`.
    #[error("at the concurrency limit of {limit}")]
    AtLimit {
        /// The limit at that moment.
        limit: u32,
    },
    /// The callee accepts too few calls, and this one lost the draw; nothing was sent. Class
    /// `Transient`.
    #[error("throttled: the callee accepts too few calls")]
    Throttled,
    /// The load was too high for the call's priority; nothing was sent. Class `Transient`.
    #[error("load shed")]
    Shed,
    /// The deadline left no time for a try; nothing was sent. Class `Transient`.
    #[error("deadline leaves no time for a call")]
    DeadlinePassed,
    /// The request went through too many services; nothing was sent. Class `Fatal`: they call each
    /// other in a circle.
    #[error("hop budget of the deadline is used up")]
    HopsExhausted,
}

impl<E> Error<E> {
    /// Tells whether the try may have reached the callee.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        matches!(self, Self::Call(_) | Self::TimedOut { .. })
    }

    /// Returns how long to wait at least before another try, when the refusal said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::BreakerOpen(rejected) => Some(rejected.retry_after),
            Self::RateLimited { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}

impl<E: Classify> Classify for Error<E> {
    fn class(&self) -> Class {
        match self {
            Self::Call(error) => error.class(),
            Self::TimedOut { .. } => Class::Unknown,
            Self::BreakerOpen(_)
            | Self::BulkheadFull
            | Self::RateLimited { .. }
            | Self::AtLimit { .. }
            | Self::Throttled
            | Self::Shed
            | Self::DeadlinePassed => Class::Transient,
            Self::HopsExhausted => Class::Fatal,
        }
    }
}

/// Why there was no further try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stop {
    /// The error's class says that another try cannot help, or must not be made.
    Class,
    /// The policy's attempts are used up.
    Attempts,
    /// The retry budget is used up.
    Budget,
    /// A stage outside of the retry refused the whole call.
    Refused,
    /// Another try, after the wait it needs, would not finish before the deadline.
    Deadline,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Class => "not retryable",
            Self::Attempts => "attempts used up",
            Self::Budget => "retry budget used up",
            Self::Refused => "refused before the first try",
            Self::Deadline => "deadline too close",
        })
    }
}

/// The failure of a whole guarded call: its last try, and what the tries before it leave open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed<E> {
    /// What the last try answered.
    pub error: Error<E>,
    /// How many tries were made, those that were never sent included.
    pub attempts: u32,
    /// Why there was no further try.
    pub stop: Stop,
    /// Whether an earlier try ended `Unknown`: it may have been applied, whatever the last says.
    pub in_doubt: bool,
}

impl<E> Failed<E> {
    /// Returns the callee's own error, when the last try got one.
    #[must_use]
    pub fn into_call(self) -> Option<E> {
        match self.error {
            Error::Call(error) => Some(error),
            _ => None,
        }
    }

    /// Returns how long to wait at least before another call, when the refusal said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.error.retry_after()
    }
}

impl<E: fmt::Display> fmt::Display for Failed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (attempt {}, {})", self.error, self.attempts, self.stop)
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Failed<E> {
    /// Returns what caused the last try's error, whose own message is part of this one.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl<E: Classify> Classify for Failed<E> {
    /// Returns the class of the last try, except that "surely not applied" and "somebody else
    /// changed it" become `Unknown` after a try that may have been applied: the somebody may have
    /// been us.
    fn class(&self) -> Class {
        match self.error.class() {
            Class::Transient | Class::Conflict if self.in_doubt => Class::Unknown,
            class => class,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("says {0}")]
    struct Says(Class, #[source] fmt::Error);

    fn says(class: Class) -> Error<Says> {
        Error::Call(Says(class, fmt::Error))
    }

    impl Classify for Says {
        fn class(&self) -> Class {
            self.0
        }
    }

    #[test]
    fn a_doubtful_try_makes_not_applied_unknown() {
        let check = |last, in_doubt, expect| {
            let failed = Failed { error: says(last), attempts: 2, stop: Stop::Attempts, in_doubt };
            assert_eq!(failed.class(), expect, "{last} {in_doubt}");
        };
        check(Class::Transient, false, Class::Transient);
        check(Class::Transient, true, Class::Unknown);
        check(Class::Conflict, true, Class::Unknown);
        check(Class::Rejected, true, Class::Rejected);
        check(Class::Fatal, true, Class::Fatal);
    }

    #[test]
    fn a_message_names_the_last_error_once_and_its_cause_is_kept() {
        let error = says(Class::Fatal);
        let failed = Failed { error, attempts: 2, stop: Stop::Class, in_doubt: false };
        assert_eq!(failed.to_string(), "says fatal (attempt 2, not retryable)");
        let cause = std::error::Error::source(&failed).unwrap();
        assert_eq!(cause.to_string(), fmt::Error.to_string());
    }

    #[test]
    fn what_was_not_sent_is_transient_except_a_call_circle() {
        let refused = [
            Error::BulkheadFull,
            Error::RateLimited { retry_after: Duration::ZERO },
            Error::AtLimit { limit: 1 },
            Error::Throttled,
            Error::Shed,
            Error::DeadlinePassed,
        ];
        for error in refused {
            let error: Error<Says> = error;
            assert!(!error.was_sent() && error.class() == Class::Transient, "{error:?}");
        }
        let circle: Error<Says> = Error::HopsExhausted;
        assert!(!circle.was_sent() && circle.class() == Class::Fatal);
        let late: Error<Says> = Error::TimedOut { after: Duration::ZERO };
        assert!(late.was_sent() && late.class() == Class::Unknown);
    }
}
