//! The signal by which an adapter tells readers of one process that something was committed.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts changes of one kind and wakes those who wait for the next; a reader misses none, and many
/// are one wake-up.
///
/// # Example
/// ```
/// use std::sync::atomic::AtomicU64;
///
/// use amarra_messaging::signal::Signal;
/// use futures_util::FutureExt;
///
/// let (signal, seen) = (Signal::default(), AtomicU64::new(0));
/// assert_eq!(signal.changed(&seen).now_or_never(), None);
/// signal.raise();
/// signal.raise();
/// assert_eq!(signal.changed(&seen).now_or_never(), Some(()));
/// assert_eq!(signal.changed(&seen).now_or_never(), None);
/// ```
#[derive(Debug, Default)]
pub struct Signal {
    count: AtomicU64,
    notify: Notify,
}

impl Signal {
    /// Wakes everybody who waits, and whoever asks next.
    pub fn raise(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.notify.notify_waiters();
    }

    /// Returns the number of changes so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns once there was a change that `seen` does not count, and counts it; whoever waits
    /// already is woken by every change, also by one that another waiter has counted.
    ///
    /// # Cancellation
    /// A dropped future misses nothing: the next call sees what came meanwhile.
    pub async fn changed(&self, seen: &AtomicU64) {
        // Made before the count is read, so that a change between the two wakes it.
        let notified = self.notify.notified();
        let count = self.count();
        if seen.swap(count, Ordering::Relaxed) == count {
            notified.await;
            seen.store(self.count(), Ordering::Relaxed);
        }
    }
}
