//! What a member's caller and its thread share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::Delivery;
use amarra_messaging::{ConsumerError, Offset, Polled};
use tokio::sync::Notify;

use super::context::{Client, Partitions};
use super::lane::{Bounds, Lane};

/// How long the thread of a member that is polled sleeps at most, should a wake-up get lost.
const NAP: Duration = Duration::from_millis(250);
/// How long one of which nobody wants anything sleeps.
const SLEEP: Duration = Duration::from_secs(60);

/// The state, the caller's wake-up, and the thread's.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) changed: Notify,
    pub(super) thread: OnceLock<Thread>,
    bounds: Bounds,
}

struct State {
    lanes: BTreeMap<TopicPartition, Lane>,
    news: VecDeque<News>,
    orders: Vec<Order>,
    /// The library's consumer, none before the first poll and between two of them.
    client: Option<Arc<Client>>,
    /// Grows with every consumer of the library and every assignment.
    numbers: u64,
    /// Which lane the next poll starts with.
    turn: usize,
    /// Until when the library is served without being asked again.
    serve_until: Instant,
    /// Whether somebody asked.
    asked: bool,
    /// Whether a poll waits, having found nothing.
    waiting: bool,
    fault: Option<String>,
    /// Why nothing will ever come again.
    end: Option<String>,
    stopping: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum News {
    Assigned(Vec<(TopicPartition, u64)>),
    /// With what the library is to be told once the caller was, none when it forgot by itself.
    Revoked(Vec<(TopicPartition, u64)>, Option<Partitions>),
}

/// What the thread is to do with the library.
#[derive(Debug)]
pub(super) enum Order {
    Seek { partition: TopicPartition, offset: Offset, number: u64 },
    Resume(TopicPartition),
    Unassign(Partitions),
}

/// What the thread does next.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) orders: Vec<Order>,
    pub(super) serve: bool,
    pub(super) sleep: Duration,
    pub(super) stop: bool,
}

/// How much the thread may take from the library.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) records: usize,
    /// Partitions that are to be fetched no more for now.
    pub(super) hold: Vec<TopicPartition>,
}

impl Shared {
    pub(super) fn new(bounds: Bounds) -> Self {
        let state = State {
            lanes: BTreeMap::new(),
            news: VecDeque::new(),
            orders: Vec::new(),
            client: None,
            numbers: 0,
            turn: 0,
            serve_until: Instant::now(),
            asked: false,
            waiting: false,
            fault: None,
            end: None,
            stopping: false,
        };
        let (changed, thread) = (Notify::new(), OnceLock::new());
        Self { state: Mutex::new(state), changed, thread, bounds }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut state = self.lock();
        let taken = state.take(limit, self.bounds);
        // Asked for also when there is something: whoever polls is alive, and wants what follows.
        state.asked = true;
        state.waiting = matches!(taken, Ok(None));
        state.serve_until = if state.waiting { until } else { Instant::now() };
        drop(state);
        self.wake_thread();
        taken
    }

    /// Takes what is there at last, and lets the library be.
    pub(super) fn take_last(&self, limit: usize) -> Result<Option<Polled>, String> {
        let mut state = self.lock();
        state.waiting = false;
        state.take(limit, self.bounds)
    }

    /// Returns the consumer of the library when every one of `offsets` may be committed, and lets
    /// the library be served until `until`, so that a rebalance meanwhile is noticed.
    pub(super) fn committer(
        &self,
        offsets: &[(TopicPartition, Offset)],
        until: Instant,
    ) -> Result<Arc<Client>, ConsumerError> {
        let mut state = self.lock();
        let ours = |(at, _): &(TopicPartition, Offset)| state.lanes.get(at).is_some_and(|l| l.told);
        if !offsets.iter().all(ours) {
            return Err(ConsumerError::Fenced);
        }
        let client = state.client.clone().filter(|client| !is_lost(client));
        let client = client.ok_or(ConsumerError::Fenced)?;
        state.asked = true;
        state.serve_until = state.serve_until.max(until);
        drop(state);
        self.wake_thread();
        Ok(client)
    }

    /// Ends what [`committer`](Self::committer) began.
    pub(super) fn committed(&self) {
        self.lock().serve_until = Instant::now();
    }

    pub(super) fn pause(&self, partition: &TopicPartition) {
        if let Some(lane) = self.lock().lanes.get_mut(partition) {
            lane.paused = true;
        }
    }

    pub(super) fn resume(&self, partition: &TopicPartition) {
        let mut state = self.lock();
        if let Some(lane) = state.lanes.get_mut(partition) {
            lane.paused = false;
            state.let_flow(self.bounds);
        }
        drop(state);
        self.wake_thread();
    }

    pub(super) fn seek(&self, partition: &TopicPartition, offset: Offset) {
        let mut state = self.lock();
        let number = state.next_number();
        let Some(lane) = state.lanes.get_mut(partition).filter(|lane| !lane.revoked) else {
            return;
        };
        if !lane.seek(offset.0) {
            lane.seeking = Some(number);
            let partition = partition.clone();
            state.orders.push(Order::Seek { partition, offset, number });
            state.let_flow(self.bounds);
        }
        drop(state);
        self.wake_thread();
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
        let mut state = self.lock();
        let now = Instant::now();
        let left = state.serve_until.saturating_duration_since(now);
        let serve = std::mem::take(&mut state.asked) || !left.is_zero();
        Work {
            orders: std::mem::take(&mut state.orders),
            serve,
            sleep: if left.is_zero() { SLEEP } else { left.min(NAP) },
            stop: state.stopping,
        }
    }

    pub(super) fn room(&self) -> Room {
        let mut state = self.lock();
        let waiting = state.waiting;
        let mut room = Room { records: self.bounds.records, hold: Vec::new() };
        for (partition, lane) in &mut state.lanes {
            let left = lane.room(self.bounds);
            // A lane that its caller wants nothing of must not keep the others waiting.
            if left == 0 && lane.paused && waiting && !lane.held {
                lane.held = true;
                room.hold.push(partition.clone());
            }
            if !lane.held && !lane.revoked {
                room.records = room.records.min(left);
            }
        }
        room
    }

    pub(super) fn push(&self, deliveries: Vec<Delivery>) {
        let mut state = self.lock();
        for delivery in deliveries {
            let (topic, partition) = (delivery.topic.clone(), delivery.partition);
            if let Some(lane) = state.lanes.get_mut(&TopicPartition { topic, partition }) {
                lane.push(delivery);
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn assigned(&self, partitions: Vec<TopicPartition>) {
        let mut state = self.lock();
        let epoch = state.next_number();
        let named: Vec<_> = partitions.into_iter().map(|partition| (partition, epoch)).collect();
        for (partition, epoch) in &named {
            state.lanes.insert(partition.clone(), Lane::new(*epoch));
        }
        state.news.push_back(News::Assigned(named));
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn revoked(&self, partitions: &[TopicPartition], native: Partitions) {
        let mut state = self.lock();
        let mut named = Vec::with_capacity(partitions.len());
        for partition in partitions {
            if let Some(lane) = state.lanes.get_mut(partition) {
                lane.revoked = true;
                lane.drop_records();
                named.push((partition.clone(), lane.epoch));
            }
        }
        state.news.push_back(News::Revoked(named, Some(native)));
        drop(state);
        self.changed.notify_one();
    }

    /// Exchanges the consumer of the library; what was assigned by the one before is lost.
    pub(super) fn replace(&self, client: Option<Arc<Client>>) {
        let mut state = self.lock();
        state.orders.retain(|order| !matches!(order, Order::Unassign(_)));
        for news in &mut state.news {
            if let News::Revoked(_, native) = news {
                *native = None;
            }
        }
        let mut lost = Vec::new();
        for (partition, lane) in state.lanes.iter_mut().filter(|(_, lane)| !lane.revoked) {
            lane.revoked = true;
            lane.drop_records();
            lost.push((partition.clone(), lane.epoch));
        }
        if !lost.is_empty() {
            state.news.push_back(News::Revoked(lost, None));
        }
        let before = std::mem::replace(&mut state.client, client);
        drop(state);
        // Outside of the lock: the last owner closes it.
        drop(before);
        self.changed.notify_one();
    }

    /// Ends a seek, unless another followed.
    pub(super) fn sought(&self, partition: &TopicPartition, number: u64) {
        if let Some(lane) = self.lock().lanes.get_mut(partition)
            && lane.seeking == Some(number)
        {
            lane.seeking = None;
        }
    }

    /// Tells whether a seek is still wanted.
    pub(super) fn is_seeking(&self, partition: &TopicPartition, number: u64) -> bool {
        let state = self.lock();
        state.lanes.get(partition).is_some_and(|l| l.seeking == Some(number) && !l.revoked)
    }

    /// Lets the next poll that finds nothing else fail.
    pub(super) fn fail(&self, why: String) {
        self.lock().fault = Some(why);
        self.changed.notify_one();
    }

    /// Lets every poll from now on fail.
    pub(super) fn end(&self, why: &str) {
        self.lock().end.get_or_insert_with(|| why.to_owned());
        self.changed.notify_one();
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.numbers = self.numbers.saturating_add(1);
        self.numbers
    }

    fn take(&mut self, limit: usize, bounds: Bounds) -> Result<Option<Polled>, String> {
        if let Some(news) = self.news.pop_front() {
            return Ok(Some(self.tell(news)));
        }
        let records = self.take_records(limit.max(1), bounds);
        if !records.is_empty() {
            self.let_flow(bounds);
            return Ok(Some(Polled::Records(records)));
        }
        if let Some(why) = self.fault.take().or_else(|| self.end.clone()) {
            return Err(why);
        }
        Ok(None)
    }

    fn tell(&mut self, news: News) -> Polled {
        let only = |named: Vec<(TopicPartition, u64)>| named.into_iter().map(|(p, _)| p).collect();
        match news {
            News::Assigned(named) => {
                for (partition, epoch) in &named {
                    if let Some(lane) = self.lanes.get_mut(partition) {
                        lane.told |= lane.epoch == *epoch;
                    }
                }
                Polled::Assigned(only(named))
            }
            News::Revoked(named, native) => {
                for (partition, epoch) in &named {
                    if self.lanes.get(partition).is_some_and(|lane| lane.epoch == *epoch) {
                        self.lanes.remove(partition);
                    }
                }
                self.orders.extend(native.map(Order::Unassign));
                Polled::Revoked(only(named))
            }
        }
    }

    /// Takes from each lane in turn, so that a busy partition does not starve the others.
    fn take_records(&mut self, limit: usize, bounds: Bounds) -> Vec<Delivery> {
        let mut records = Vec::new();
        let mut ready: Vec<_> = self.lanes.values_mut().filter(|lane| lane.is_ready()).collect();
        let turn = self.turn.checked_rem(ready.len()).unwrap_or(0);
        self.turn = turn.saturating_add(1);
        ready.rotate_left(turn);
        for lane in ready {
            lane.take(limit.saturating_sub(records.len()), bounds, &mut records);
        }
        records
    }

    /// Lets the library fetch again what it was told not to and is wanted now.
    fn let_flow(&mut self, bounds: Bounds) {
        for (partition, lane) in &mut self.lanes {
            if lane.held && !lane.paused && lane.is_low(bounds) {
                lane.held = false;
                self.orders.push(Order::Resume(partition.clone()));
            }
        }
    }
}

/// Tells whether the member was expelled and does not know it yet.
pub(super) fn is_lost(client: &Client) -> bool {
    use rdkafka::consumer::Consumer;
    client.assignment_lost()
}
