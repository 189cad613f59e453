//! What the payment provider's node does wrong at the moment.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How the provider misbehaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Misbehaviour {
    /// Answers this late.
    pub(crate) delay: Duration,
    /// Refuses every request.
    pub(crate) outage: bool,
    /// Sends each webhook twice.
    pub(crate) duplicate: bool,
    /// Sends the newest webhook first.
    pub(crate) reorder: bool,
    /// Sends no webhooks for now.
    pub(crate) silent: bool,
}

/// The provider's misbehaviour, set by the timeline and read by its node.
#[derive(Debug, Default)]
pub(crate) struct ProviderFaults {
    state: Mutex<(Misbehaviour, Vec<Silence>)>,
}

/// After `skip` requests, the answers of the next `count` are lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silence {
    /// Requests that pass first.
    pub(crate) skip: u32,
    /// Answers lost after those.
    pub(crate) count: u32,
}

impl ProviderFaults {
    /// Changes the misbehaviour.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Misbehaviour)) {
        change(&mut self.lock().0);
    }

    /// Arms a loss of answers.
    pub(crate) fn silence(&self, silence: Silence) {
        self.lock().1.push(silence);
    }

    /// Ends all misbehaviour.
    pub(crate) fn clear(&self) {
        *self.lock() = (Misbehaviour::default(), Vec::new());
    }

    /// Returns the misbehaviour of now.
    pub(crate) fn now(&self) -> Misbehaviour {
        self.lock().0
    }

    /// Tells whether the answer to one more request is lost.
    pub(crate) fn loses_answer(&self) -> bool {
        let mut state = self.lock();
        let Some(armed) = state.1.iter_mut().find(|s| s.count > 0) else { return false };
        if armed.skip > 0 {
            armed.skip -= 1;
            return false;
        }
        armed.count -= 1;
        true
    }

    fn lock(&self) -> MutexGuard<'_, (Misbehaviour, Vec<Silence>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
