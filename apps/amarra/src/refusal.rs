//! Why the program ended other than as asked.

use std::fmt;

/// Why the program ended other than as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It did not start: nothing was served. Exit code 2.
    #[error("{0}")]
    Refused(String),
    /// It started, and something is wrong. Exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// Refuses to start; `why` says what to do about it.
    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }

    /// Returns the exit code.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Self::Refused(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}

/// Turns an error into a refusal to start.
pub(crate) trait Refuse<T> {
    /// Refuses for what the error says.
    fn refuse(self) -> Result<T, Failure>;

    /// Refuses for what the error says, with what it was about before it.
    fn refuse_for(self, what: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Refuse<T> for Result<T, E> {
    fn refuse(self) -> Result<T, Failure> {
        self.map_err(|e| Failure::Refused(e.to_string()))
    }

    fn refuse_for(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|e| Failure::Refused(format!("{what}: {e}")))
    }
}
