//! The error of a guarded service.

use core::fmt;

/// The inner service's own error, or the refusal to call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused<R, E> {
    /// Nothing was sent.
    Refused(R),
    /// What the inner service answered.
    Inner(E),
}

impl<R, E> Refused<R, E> {
    /// Returns the inner service's error, when it was called.
    #[must_use]
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Refused(_) => None,
            Self::Inner(error) => Some(error),
        }
    }

    /// Tells whether the call may have reached the callee.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        matches!(self, Self::Inner(_))
    }
}

impl<R: fmt::Display, E: fmt::Display> fmt::Display for Refused<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Inner(error) => error.fmt(f),
        }
    }
}

impl<R, E> core::error::Error for Refused<R, E>
where
    R: core::error::Error,
    E: core::error::Error + 'static,
{
    /// Returns what caused the inner service's error, whose own message is this one's.
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Refused(_) => None,
            Self::Inner(error) => error.source(),
        }
    }
}
