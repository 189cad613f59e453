//! What a member's caller and its thread share: the state, and how each wakes the other.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::{ConsumerError, Offset, Polled};
use rdkafka::consumer::Consumer;
use tokio::sync::{Notify, watch};

use super::context::Client;
use super::lane::Bounds;
use super::state::{Order, Room, State};

/// How long the thread of a member that is polled sleeps at most, should a wake-up get lost.
const NAP: Duration = Duration::from_millis(250);
/// How long one of which nobody wants anything sleeps.
const SLEEP: Duration = Duration::from_secs(60);

/// The state, the caller's wake-up, and the thread's.
#[derive(Debug)]
pub(super) struct Shared {
    desk: Mutex<Desk>,
    pub(super) changed: Notify,
    pub(super) thread: OnceLock<Thread>,
    /// Whether the thread ended, and so left the group.
    pub(super) left: watch::Sender<bool>,
}

struct Desk {
    state: State,
    /// The library's consumer, none before the first poll and between two of them.
    client: Option<Arc<Client>>,
    /// Until when the library is served without being asked again.
    serve_until: Instant,
    /// Whether somebody asked.
    asked: bool,
    /// Whether a poll waits, having found nothing.
    waiting: bool,
    stopping: bool,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("state", &self.state).finish_non_exhaustive()
    }
}

/// What the thread does next.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) orders: Vec<Order>,
    pub(super) serve: bool,
    pub(super) sleep: Duration,
    pub(super) stop: bool,
}

impl Shared {
    pub(super) fn new(bounds: Bounds) -> Self {
        let desk = Desk {
            state: State::new(bounds),
            client: None,
            serve_until: Instant::now(),
            asked: false,
            waiting: false,
            stopping: false,
        };
        Self {
            desk: Mutex::new(desk),
            changed: Notify::new(),
            thread: OnceLock::new(),
            left: watch::Sender::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the caller change the state, and the thread know.
    pub(super) fn tell_thread(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock().state);
        self.wake_thread();
    }

    /// Lets the thread change the state, and the caller know.
    pub(super) fn tell_caller(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock().state);
        self.changed.notify_one();
    }

    fn wake_thread(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// The caller's side.
impl Shared {
    /// Takes what is there, or lets the library be served until `until`.
    pub(super) fn take(&self, limit: usize, until: Instant) -> Result<Option<Polled>, String> {
        let mut desk = self.lock();
        let taken = desk.state.take(limit);
        // Asked for also when there is something: whoever polls is alive, and wants what follows.
        desk.asked = true;
        desk.waiting = matches!(taken, Ok(None));
        desk.serve_until = if desk.waiting { until } else { Instant::now() };
        drop(desk);
        self.wake_thread();
        taken
    }

    /// Takes what is there at last, and lets the library be.
    pub(super) fn take_last(&self, limit: usize) -> Result<Option<Polled>, String> {
        let mut desk = self.lock();
        desk.waiting = false;
        desk.state.take(limit)
    }

    /// Returns the consumer of the library when every one of `offsets` may be committed, and lets
    /// the library be served until `until`, so that a rebalance meanwhile is noticed.
    pub(super) fn committer(
        &self,
        offsets: &[(TopicPartition, Offset)],
        until: Instant,
    ) -> Result<Arc<Client>, ConsumerError> {
        let mut desk = self.lock();
        let ours = offsets.iter().all(|(partition, _)| desk.state.holds(partition));
        let client = desk.client.clone().filter(|client| ours && !client.assignment_lost());
        let client = client.ok_or(ConsumerError::Fenced)?;
        desk.asked = true;
        desk.serve_until = desk.serve_until.max(until);
        drop(desk);
        self.wake_thread();
        Ok(client)
    }

    /// Returns the consumer of the library, to be let go of soon.
    pub(super) fn client(&self) -> Option<Arc<Client>> {
        self.lock().client.clone()
    }

    /// Ends what [`committer`](Self::committer) began.
    pub(super) fn committed(&self) {
        self.lock().serve_until = Instant::now();
    }

    /// Lets the thread leave the group and end.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.wake_thread();
    }
}

/// The thread's side.
impl Shared {
    pub(super) fn work(&self) -> Work {
        let mut desk = self.lock();
        let left = desk.serve_until.saturating_duration_since(Instant::now());
        Work {
            orders: desk.state.orders(),
            serve: std::mem::take(&mut desk.asked) || !left.is_zero(),
            sleep: if left.is_zero() { SLEEP } else { left.min(NAP) },
            stop: desk.stopping,
        }
    }

    pub(super) fn room(&self, overdue: bool) -> Room {
        let mut desk = self.lock();
        let waiting = desk.waiting;
        desk.state.room(waiting, overdue)
    }

    pub(super) fn is_seeking(&self, partition: &TopicPartition, number: u64) -> bool {
        self.lock().state.is_seeking(partition, number)
    }

    /// Exchanges the consumer of the library; what was assigned by the one before is lost.
    pub(super) fn replace(&self, client: Option<Arc<Client>>) {
        let mut desk = self.lock();
        desk.state.lost();
        let before = std::mem::replace(&mut desk.client, client);
        drop(desk);
        // Outside of the lock: the last owner closes it.
        drop(before);
        self.changed.notify_one();
    }
}
