//! What the payment provider's node does wrong at the moment.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How the provider misbehaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Misbehaviour {
    /// Answers this late.
    pub delay: Duration,
    /// Refuses every request.
    pub outage: bool,
    /// Sends each webhook twice.
    pub duplicate: bool,
    /// Sends the newest webhook first.
    pub reorder: bool,
}

/// The provider's misbehaviour, set by the timeline and read by its node.
#[derive(Debug, Default)]
pub struct ProviderFaults {
    state: Mutex<(Misbehaviour, Vec<Silence>)>,
}

/// After `skip` requests, the answers of the next `count` are lost.
#[derive(Debug, Clone, Copy)]
pub struct Silence {
    /// Requests that pass first.
    pub skip: u32,
    /// Answers lost after those.
    pub count: u32,
}

impl ProviderFaults {
    /// Changes the misbehaviour.
    pub fn set(&self, change: impl FnOnce(&mut Misbehaviour)) {
        change(&mut self.lock().0);
    }

    /// Arms a loss of answers.
    pub fn silence(&self, silence: Silence) {
        self.lock().1.push(silence);
    }

    /// Ends all misbehaviour.
    pub fn clear(&self) {
        *self.lock() = (Misbehaviour::default(), Vec::new());
    }

    /// Returns the misbehaviour of now.
    pub fn now(&self) -> Misbehaviour {
        self.lock().0
    }

    /// Tells whether the answer to one more request is lost.
    pub fn loses_answer(&self) -> bool {
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
