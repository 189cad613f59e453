//! Signals between the writers and the waiting readers of one process.

use tokio::sync::Notify;

/// What one process's writers tell its readers.
#[derive(Debug, Default)]
pub struct Wake {
    /// Told after a commit that appended outbox rows.
    pub(crate) outbox: Notify,
    /// Told after a commit that set a timer.
    pub(crate) timers: Notify,
}
