//! One assigned partition: what is queued, what is in flight, what is applied.

use std::collections::VecDeque;
use std::sync::Arc;

use amarra_core::{Class, Monotonic};

use super::config::RuntimeConfig;
use super::engine::Token;
use super::processor::ProcessError;
use crate::message::{Delivery, Offset};

/// The work of one assignment of one partition.
///
/// Invariant: `current` holds the oldest rows that are not applied, `queue` those behind them, both
/// ascending by offset; everything below `applied` is applied. At most one call is out per lane.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) token: Token,
    queue: VecDeque<Delivery>,
    current: Option<Current>,
    /// The offset after the last row taken in.
    next_read: Option<Offset>,
    /// A row turned away for want of room: nothing behind it is taken in before it.
    turned_away: Option<Offset>,
    /// Everything below it is applied; none before the first row is.
    applied: Option<Offset>,
    committed: Option<Offset>,
    /// Rows up to here are tried one by one.
    isolate_through: Option<Offset>,
    poison_attempts: u32,
    failures: u32,
    pub(super) paused: bool,
}

#[derive(Debug)]
struct Current {
    batch: Arc<[Delivery]>,
    /// The reason when the batch is one row to be parked, none when it is to be applied.
    park: Option<String>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Out,
    RetryAt(Monotonic),
}

/// What became of a row that was handed to [`Lane::take_in`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Queued,
    Known,
    TurnedAway(Offset),
}

/// A call to make.
#[derive(Debug)]
pub(super) enum Call {
    Apply(Arc<[Delivery]>),
    Park(Delivery, String),
}

impl Lane {
    pub(super) fn new(token: Token) -> Self {
        Self {
            token,
            queue: VecDeque::new(),
            current: None,
            next_read: None,
            turned_away: None,
            applied: None,
            committed: None,
            isolate_through: None,
            poison_attempts: 0,
            failures: 0,
            paused: false,
        }
    }

    /// Counts the rows held.
    pub(super) fn rows(&self) -> usize {
        self.queue.len().saturating_add(self.current.as_ref().map_or(0, |c| c.batch.len()))
    }

    /// Queues a row unless it was seen before or there is no room for it.
    pub(super) fn take_in(&mut self, delivery: Delivery, room: bool) -> Taken {
        let offset = delivery.offset;
        if self.next_read.is_some_and(|next| offset < next) {
            return Taken::Known;
        }
        if let Some(first) = self.turned_away.filter(|&first| offset > first) {
            return Taken::TurnedAway(first);
        }
        if !room {
            self.turned_away = Some(offset);
            return Taken::TurnedAway(offset);
        }
        self.turned_away = self.turned_away.filter(|&first| offset < first);
        self.applied.get_or_insert(offset);
        self.committed.get_or_insert(offset);
        self.next_read = Some(offset.next());
        self.queue.push_back(delivery);
        Taken::Queued
    }

    /// Returns the next call when one may be made now.
    pub(super) fn start(&mut self, now: Monotonic, config: &RuntimeConfig) -> Option<Call> {
        match &mut self.current {
            Some(Current { phase: Phase::Out, .. }) => return None,
            Some(Current { phase: Phase::RetryAt(at), .. }) if *at > now => return None,
            Some(current) => current.phase = Phase::Out,
            None => {
                let first = self.queue.front()?.offset;
                let isolated = self.isolate_through.is_some_and(|through| first <= through);
                let rows = if isolated { 1 } else { config.batch_rows_max };
                let batch = self.queue.drain(..rows.min(self.queue.len())).collect();
                self.current = Some(Current { batch, park: None, phase: Phase::Out });
            }
        }
        let current = self.current.as_ref()?;
        match &current.park {
            None => Some(Call::Apply(Arc::clone(&current.batch))),
            Some(why) => Some(Call::Park(current.batch.first()?.clone(), why.clone())),
        }
    }

    /// Takes the result of the call that is out.
    pub(super) fn done(
        &mut self,
        (now, draw): (Monotonic, u64),
        result: Result<(), ProcessError>,
        config: &RuntimeConfig,
    ) {
        let Some(Current { batch, park, phase: Phase::Out }) = self.current.take() else { return };
        let Err(error) = result else { return self.finish(&batch) };
        self.failures = self.failures.saturating_add(1);
        let retry = Phase::RetryAt(now.plus(config.backoff.wait(self.failures, draw)));
        let poison = matches!(error.class, Class::Rejected | Class::Fatal);
        // Infrastructure is not poison: a failed park, like any error of another class, is tried
        // for ever, since the row can neither be applied nor be left behind.
        if !poison || park.is_some() {
            self.current = Some(Current { batch, park, phase: retry });
            return;
        }
        if batch.len() > 1 {
            let culprit = error.culprit.and_then(|i| batch.get(i)).or(batch.last());
            self.isolate_through = culprit.map(|c| c.offset);
            self.failures = 0;
            batch.iter().rev().for_each(|d| self.queue.push_front(d.clone()));
            return;
        }
        self.poison_attempts = self.poison_attempts.saturating_add(1);
        let exhausted = self.poison_attempts >= config.poison_attempts_max;
        let (park, phase) =
            if exhausted { (Some(error.why), Phase::RetryAt(now)) } else { (None, retry) };
        self.current = Some(Current { batch, park, phase });
    }

    fn finish(&mut self, batch: &[Delivery]) {
        if let Some(last) = batch.last() {
            self.applied = Some(last.offset.next());
        }
        self.failures = 0;
        self.poison_attempts = 0;
    }

    /// Returns when the lane wants to be started again, none when it waits for a call or for rows.
    pub(super) fn retry_at(&self) -> Option<Monotonic> {
        match self.current.as_ref()?.phase {
            Phase::Out => None,
            Phase::RetryAt(at) => Some(at),
        }
    }

    /// Returns the offset to commit, none when nothing was applied since the last commit.
    pub(super) fn to_commit(&self) -> Option<Offset> {
        self.applied.filter(|&applied| self.committed.is_some_and(|committed| committed < applied))
    }

    /// Takes note that `offset` was committed.
    pub(super) fn committed(&mut self, offset: Offset) {
        self.committed = self.committed.max(Some(offset));
    }

    /// Drops the work and returns where to read on, none when nothing was read yet.
    pub(super) fn restart(&mut self, token: Token) -> Option<Offset> {
        let held = self.current.as_ref().map_or(self.queue.front(), |c| c.batch.first());
        let turned_away = held.map(|d| d.offset).or(self.turned_away);
        let read_on = turned_away.or(self.applied);
        *self = Self {
            next_read: read_on,
            turned_away,
            applied: self.applied,
            committed: self.committed,
            paused: self.paused,
            ..Self::new(token)
        };
        read_on
    }
}
