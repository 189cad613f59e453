//! The records of one call that are on their way, told by delivery reports.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use tokio::sync::Notify;

/// Counts what left and what arrived.
#[derive(Debug, Default)]
pub(super) struct Flight {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    messages: usize,
    bytes: usize,
    acked: Vec<bool>,
    /// The failure of the first record, in call order, that failed.
    failure: Option<(usize, KafkaError)>,
}

impl ClientContext for Flight {}

impl ProducerContext for Flight {
    type DeliveryOpaque = Box<(usize, usize)>;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: Self::DeliveryOpaque) {
        let (index, bytes) = *opaque;
        let mut state = self.lock();
        state.messages = state.messages.saturating_sub(1);
        state.bytes = state.bytes.saturating_sub(bytes);
        match result {
            Ok(_) => {
                if state.acked.len() <= index {
                    state.acked.resize(index.saturating_add(1), false);
                }
                if let Some(slot) = state.acked.get_mut(index) {
                    *slot = true;
                }
            }
            Err((e, _)) if state.failure.as_ref().is_none_or(|(first, _)| index < *first) => {
                state.failure = Some((index, e.clone()));
            }
            Err(_) => {}
        }
        drop(state);
        self.changed.notify_one();
    }
}

impl Flight {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until(&self, done: impl Fn(&State) -> bool) {
        // A report between the test and the wait leaves a permit: one call waits at a time.
        while !done(&self.lock()) {
            self.changed.notified().await;
        }
    }

    pub(super) async fn room(&self, messages: usize, bytes: usize) {
        self.until(|s| s.failure.is_some() || (s.messages < messages && s.bytes <= bytes)).await;
    }

    pub(super) async fn settled(&self) {
        self.until(|s| s.messages == 0).await;
    }

    pub(super) async fn settled_or_failed(&self) {
        self.until(|s| s.messages == 0 || s.failure.is_some()).await;
    }

    pub(super) fn take_off(&self, bytes: usize) {
        let mut state = self.lock();
        state.messages = state.messages.saturating_add(1);
        state.bytes = state.bytes.saturating_add(bytes);
    }

    pub(super) fn never_left(&self, bytes: usize) {
        let mut state = self.lock();
        state.messages = state.messages.saturating_sub(1);
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.lock().failure.is_some()
    }

    pub(super) fn failure(&self) -> Option<(usize, KafkaError)> {
        self.lock().failure.clone()
    }

    pub(super) fn acked_prefix(&self) -> usize {
        self.lock().acked.iter().take_while(|acked| **acked).count()
    }

    pub(super) fn reset(&self) {
        let mut state = self.lock();
        state.acked.clear();
        state.failure = None;
    }
}
