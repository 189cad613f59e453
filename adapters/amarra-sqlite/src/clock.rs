//! The database's clock, numbers as SQLite keeps them, and the signal that something changed.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use amarra_core::Timestamp;
use tokio::sync::Notify;

/// The machine's clock, as SQLite's own `unixepoch('subsec')` reads it but in microseconds, that
/// never goes back while the database is open.
#[derive(Debug, Default)]
pub(crate) struct DatabaseClock {
    latest: AtomicI64,
}

impl DatabaseClock {
    pub(crate) fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        let latest = self.latest.fetch_max(micros, Ordering::Relaxed);
        Timestamp::from_micros(latest.max(micros))
    }
}

/// Turns a count into SQLite's integer.
pub(crate) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Turns SQLite's integer into a count.
pub(crate) fn nat(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// Turns a limit into SQLite's integer.
pub(crate) fn rows(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Counts changes of one kind and wakes those who wait for the next.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    count: AtomicU64,
    notify: Notify,
}

impl Signal {
    pub(crate) fn raise(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.notify.notify_waiters();
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns once there was a change that `seen` does not count, and counts it.
    pub(crate) async fn changed(&self, seen: &AtomicU64) {
        // Made before the count is read, so that a change between the two wakes it.
        let notified = self.notify.notified();
        let count = self.count();
        if seen.swap(count, Ordering::Relaxed) == count {
            notified.await;
            seen.store(self.count(), Ordering::Relaxed);
        }
    }
}
