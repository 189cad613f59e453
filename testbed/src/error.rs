//! What can go wrong with a server of the testbed, and what to do about it.

use std::path::PathBuf;
use std::time::Duration;

/// Tells why a server could not be installed, started or steered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program of the machine is missing; the message says how to get it.
    #[error("{program} is missing, which {needed_for} needs: {remedy}")]
    Missing {
        /// The program or package.
        program: String,
        /// What was about to be done with it.
        needed_for: String,
        /// What to do.
        remedy: String,
    },
    /// A command ended with an error.
    #[error("{action} failed: {detail}")]
    Command {
        /// What was being done.
        action: String,
        /// What the command printed last.
        detail: String,
    },
    /// The file system refused.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    File {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A server did not answer within its patience, or ended while starting.
    #[error("{server} does not answer after {waited:?}; the end of its log:\n{log}")]
    NotReady {
        /// Which server.
        server: String,
        /// How long it was waited for.
        waited: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// A server answered a request of the testbed with an error.
    #[error("{server} refused: {message}")]
    Refused {
        /// Which server.
        server: String,
        /// The server's own words.
        message: String,
    },
    /// A connection of the testbed to a server broke.
    #[error("the connection to {server} broke: {source}")]
    Connection {
        /// Which server.
        server: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A method was called in a state that does not allow it, or with a value out of range.
    #[error("{0}")]
    Misuse(String),
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &std::path::Path, e: std::io::Error) -> Self {
        Self::File { action, path: path.to_path_buf(), source: e }
    }

    pub(crate) fn command(action: impl Into<String>, detail: impl ToString) -> Self {
        Self::Command { action: action.into(), detail: detail.to_string() }
    }
}
