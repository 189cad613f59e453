//! The consumer runtime's decisions: a pure state machine over assignments, records and results.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_core::Monotonic;

use super::config::RuntimeConfig;
use super::lane::{Call, Lane, Taken};
use super::processor::ProcessError;
use crate::consumer::{ConsumerError, TopicPartition};
use crate::message::{Delivery, Offset};

/// Names one assignment of one partition: results of an earlier one are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(u64);

/// Something the engine has to know.
#[derive(Debug, Clone)]
pub enum Event {
    /// Partitions became this member's.
    Assigned(Vec<TopicPartition>),
    /// Partitions no longer are.
    Revoked(Vec<TopicPartition>),
    /// Records came.
    Records(Vec<Delivery>),
    /// An [`Action::Apply`] or [`Action::Park`] ended.
    Done {
        /// The partition of the action.
        partition: TopicPartition,
        /// The token of the action.
        token: Token,
        /// How it ended.
        result: Result<(), ProcessError>,
        /// A random number for the jitter of a retry.
        draw: u64,
    },
    /// The [`Action::Commit`] ended.
    Committed {
        /// How it ended.
        result: Result<(), ConsumerError>,
        /// A random number for the jitter of a retry.
        draw: u64,
    },
    /// A poll was fenced: every assignment is in doubt.
    Fenced,
    /// Time passed.
    Tick,
    /// A stop was requested: nothing new is started, and commits no longer wait.
    Drain,
}

/// Something the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Apply a batch; answer with [`Event::Done`].
    Apply {
        /// The partition.
        partition: TopicPartition,
        /// To be given back with the result.
        token: Token,
        /// The rows, ascending by offset.
        batch: Arc<[Delivery]>,
    },
    /// Park a message; answer with [`Event::Done`].
    Park {
        /// The partition.
        partition: TopicPartition,
        /// To be given back with the result.
        token: Token,
        /// The message.
        delivery: Delivery,
        /// Why.
        reason: String,
    },
    /// Commit offsets; answer with [`Event::Committed`]. One commit is out at a time.
    Commit(Vec<(TopicPartition, Offset)>),
    /// Pause a partition.
    Pause(TopicPartition),
    /// Resume a partition.
    Resume(TopicPartition),
    /// Read a partition from an offset on.
    Seek(TopicPartition, Offset),
}

/// Decides what to apply, park, commit, pause and repeat.
///
/// # Laws
/// - RTM-1 rows of a partition are applied in offset order, one call at a time.
/// - RTM-2 an offset is committed only when every row below it was applied or parked.
/// - RTM-3 a result is ignored unless its token is that of the current assignment, and nothing is
///   committed for a partition that is not assigned.
/// - RTM-4 a row is parked only after it failed alone, `poison_attempts_max` times, with a class of
///   `Rejected` or `Fatal`; errors of any other class are retried for ever.
/// - RTM-5 never more than `partition_rows_max` rows of a partition, nor `total_rows_max` in all,
///   are held; a row turned away is read again before any row behind it.
///
/// # Example
/// ```
/// use amarra_core::Monotonic;
/// use amarra_messaging::consumer::TopicPartition;
/// use amarra_messaging::message::{Partition, Topic};
/// use amarra_messaging::runtime::{Action, Engine, Event, RuntimeConfig};
///
/// let mut engine = Engine::new(RuntimeConfig::default());
/// let p0 = TopicPartition { topic: Topic::from("orders"), partition: Partition(0) };
/// let actions = engine.step(Monotonic::default(), Event::Assigned(vec![p0.clone()]));
/// assert_eq!(actions, [Action::Resume(p0)]);
/// assert_eq!(engine.wake_at(), None, "nothing to do until records come");
/// ```
#[derive(Debug)]
pub struct Engine {
    config: RuntimeConfig,
    lanes: BTreeMap<TopicPartition, Lane>,
    last_token: u64,
    committing: Option<Vec<(TopicPartition, Token, Offset)>>,
    commit_at: Monotonic,
    commit_failures: u32,
    draining: bool,
}

impl Engine {
    /// Starts without partitions.
    #[must_use]
    pub fn new(config: RuntimeConfig) -> Self {
        Self {
            config,
            lanes: BTreeMap::new(),
            last_token: 0,
            committing: None,
            commit_at: Monotonic::default(),
            commit_failures: 0,
            draining: false,
        }
    }

    /// Takes an event and returns what follows from it.
    pub fn step(&mut self, now: Monotonic, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Assigned(partitions) => {
                for partition in partitions {
                    let lane = Lane::new(self.next_token());
                    // A pause of an earlier assignment may have outlived it in the consumer.
                    actions.push(Action::Resume(partition.clone()));
                    self.lanes.insert(partition, lane);
                }
            }
            Event::Revoked(partitions) => {
                for partition in &partitions {
                    self.lanes.remove(partition);
                }
            }
            Event::Records(records) => self.take_in(records, &mut actions),
            Event::Done { partition, token, result, draw } => {
                if let Some(lane) = self.lanes.get_mut(&partition).filter(|l| l.token == token) {
                    lane.done((now, draw), result, &self.config);
                }
            }
            Event::Committed { result, draw } => {
                self.committed((now, draw), result, &mut actions);
            }
            Event::Fenced => {
                let all: Vec<_> = self.lanes.keys().cloned().collect();
                all.iter().for_each(|partition| self.restart(partition, &mut actions));
            }
            Event::Tick => {}
            Event::Drain => self.draining = true,
        }
        self.start(now, &mut actions);
        self.commit(now, &mut actions);
        self.flow(&mut actions);
        actions
    }

    /// Returns when the engine wants a [`Event::Tick`], none when only other events matter.
    #[must_use]
    pub fn wake_at(&self) -> Option<Monotonic> {
        let retries = self.lanes.values().filter_map(Lane::retry_at);
        let retries = retries.filter(|_| !self.draining);
        let dirty = self.lanes.values().any(|lane| lane.to_commit().is_some());
        let commit = (dirty && self.committing.is_none()).then_some(self.commit_at);
        retries.chain(commit).min()
    }

    /// Counts the rows held, in flight or queued.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.lanes.values().fold(0, |sum, lane| sum.saturating_add(lane.rows()))
    }

    fn next_token(&mut self) -> Token {
        self.last_token = self.last_token.saturating_add(1);
        Token(self.last_token)
    }

    fn take_in(&mut self, records: Vec<Delivery>, actions: &mut Vec<Action>) {
        let mut total = self.rows();
        let mut seeks = BTreeMap::new();
        for delivery in records {
            let partition =
                TopicPartition { topic: delivery.topic.clone(), partition: delivery.partition };
            let Some(lane) = self.lanes.get_mut(&partition) else { continue };
            let room =
                total < self.config.total_rows_max && lane.rows() < self.config.partition_rows_max;
            match lane.take_in(delivery, room) {
                Taken::Queued => total = total.saturating_add(1),
                Taken::Known => {}
                Taken::TurnedAway(first) => drop(seeks.insert(partition, first)),
            }
        }
        actions.extend(seeks.into_iter().map(|(partition, first)| Action::Seek(partition, first)));
    }

    fn start(&mut self, now: Monotonic, actions: &mut Vec<Action>) {
        if self.draining {
            return;
        }
        for (partition, lane) in &mut self.lanes {
            let token = lane.token;
            let partition = || partition.clone();
            actions.extend(lane.start(now, &self.config).map(|call| match call {
                Call::Apply(batch) => Action::Apply { partition: partition(), token, batch },
                Call::Park(delivery, reason) => {
                    Action::Park { partition: partition(), token, delivery, reason }
                }
            }));
        }
    }

    fn commit(&mut self, now: Monotonic, actions: &mut Vec<Action>) {
        let due = now >= self.commit_at || (self.draining && self.commit_failures == 0);
        if self.committing.is_some() || !due {
            return;
        }
        let offsets: Vec<_> = self
            .lanes
            .iter()
            .filter_map(|(p, lane)| Some((p.clone(), lane.token, lane.to_commit()?)))
            .collect();
        if !offsets.is_empty() {
            actions.push(Action::Commit(offsets.iter().map(|(p, _, o)| (p.clone(), *o)).collect()));
            self.committing = Some(offsets);
        }
    }

    fn committed(
        &mut self,
        (now, draw): (Monotonic, u64),
        result: Result<(), ConsumerError>,
        actions: &mut Vec<Action>,
    ) {
        let offsets = self.committing.take().unwrap_or_default();
        if matches!(result, Err(ConsumerError::Unavailable { .. })) {
            self.commit_failures = self.commit_failures.saturating_add(1);
            self.commit_at = now.plus(self.config.backoff.wait(self.commit_failures, draw));
            return;
        }
        self.commit_failures = 0;
        self.commit_at = now.plus(self.config.commit_interval);
        for (partition, token, offset) in offsets {
            let Some(lane) = self.lanes.get_mut(&partition).filter(|lane| lane.token == token)
            else {
                continue;
            };
            match result {
                Ok(()) => lane.committed(offset),
                Err(_) => self.restart(&partition, actions),
            }
        }
    }

    /// Drops a partition's work. Its assignment may be gone, or may live on without any event to
    /// say so: reading on where the effects end is right in both cases.
    fn restart(&mut self, partition: &TopicPartition, actions: &mut Vec<Action>) {
        let token = self.next_token();
        if let Some(lane) = self.lanes.get_mut(partition)
            && let Some(read_on) = lane.restart(token)
        {
            actions.push(Action::Seek(partition.clone(), read_on));
        }
    }

    fn flow(&mut self, actions: &mut Vec<Action>) {
        let total = self.rows();
        let config = &self.config;
        for (partition, lane) in &mut self.lanes {
            let rows = lane.rows();
            let full = rows >= config.partition_rows_max || total >= config.total_rows_max;
            let low = rows <= config.partition_rows_max / 2 && total <= config.total_rows_max / 2;
            if !lane.paused && full {
                lane.paused = true;
                actions.push(Action::Pause(partition.clone()));
            } else if lane.paused && low {
                lane.paused = false;
                actions.push(Action::Resume(partition.clone()));
            }
        }
    }
}
