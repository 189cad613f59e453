//! The idempotency keys of units that were dropped here and whose rollback is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::idempotency::KeyName;

/// Counts rollbacks by key: whoever failed here and tries again is not told that somebody else is
/// running the command.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    keys: Mutex<BTreeMap<KeyName, usize>>,
    changed: Notify,
}

/// A rollback under way; it is over once this is dropped.
#[derive(Debug)]
pub(crate) struct Ending {
    endings: Arc<Endings>,
    keys: BTreeSet<KeyName>,
}

impl Endings {
    /// Notes that a unit which had begun `keys` is being rolled back.
    pub(crate) fn begin(self: &Arc<Self>, keys: BTreeSet<KeyName>) -> Ending {
        let mut counts = self.lock();
        for key in &keys {
            let count = counts.entry(key.clone()).or_default();
            *count = count.saturating_add(1);
        }
        drop(counts);
        Ending { endings: Arc::clone(self), keys }
    }

    /// Tells whether a unit which had begun `key` is being rolled back.
    pub(crate) fn has(&self, key: &KeyName) -> bool {
        self.lock().contains_key(key)
    }

    /// Waits until none is.
    ///
    /// # Cancellation
    /// A dropped future changes nothing.
    pub(crate) async fn over(&self, key: &KeyName) {
        loop {
            // Made before the look, so that an end between the two wakes it.
            let changed = self.changed.notified();
            if !self.has(key) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<KeyName, usize>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut counts = self.endings.lock();
        for key in &self.keys {
            if let Some(count) = counts.get_mut(key) {
                *count = count.saturating_sub(1);
            }
        }
        counts.retain(|_, count| *count > 0);
        drop(counts);
        self.endings.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_key_is_over_once_every_rollback_of_it_is() {
        let key: KeyName = ("ada".into(), "place".into(), "1".into());
        let endings = Arc::new(Endings::default());
        assert_eq!(endings.over(&key).now_or_never(), Some(()));
        let first = endings.begin(BTreeSet::from([key.clone()]));
        let second = endings.begin(BTreeSet::from([key.clone()]));
        drop(first);
        let mut over = Box::pin(endings.over(&key));
        assert_eq!(over.as_mut().now_or_never(), None);
        drop(second);
        assert_eq!(over.now_or_never(), Some(()));
        assert!(!endings.has(&key));
    }
}
