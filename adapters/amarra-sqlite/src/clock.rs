//! The database's clock, and numbers as SQLite keeps them.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use amarra_core::Timestamp;

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
