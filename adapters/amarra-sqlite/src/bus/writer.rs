//! The writer: one task that owns the connection which writes, and puts what waits in one
//! transaction.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amarra_core::{Environment, Monotonic};
use tokio::sync::mpsc;

use super::config::{BusConfig, TopicConfig};
use super::plan::{Fences, Limits, Plan};
use super::request::Request;
use super::retention::{Prune, Retention};
use super::state::{PartitionId, State};
use super::table;
use crate::clock::DatabaseClock;
use crate::error::{self, OpenError};
use crate::file::{ProcessLock, Writer};

/// How long deleting pauses after it failed.
const PRUNE_PAUSE: Duration = Duration::from_secs(1);
/// Transactions that delete before what waits is looked at again.
const PRUNES_IN_A_ROW: usize = 16;

/// Locks the state; a panic elsewhere leaves it as whole as any error does.
pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) config: Arc<BusConfig>,
    pub(super) env: Environment,
    pub(super) state: Arc<Mutex<State>>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) core: Core,
    /// Requests that were taken and not yet looked at.
    pub(super) waiting: VecDeque<Request>,
    /// Given back when the task has ended, the file being closed.
    pub(super) lock: ProcessLock,
}

/// What the task knows besides the state.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) writer: Writer,
    pub(super) clock: DatabaseClock,
    pub(super) fences: Fences,
    pub(super) retention: Retention,
    /// Whether a transaction failed: what the state says of the file may be wrong.
    pub(super) unsure: bool,
    /// Why nothing can be published.
    pub(super) full: Option<String>,
    /// Nothing is deleted before.
    pub(super) prune_after: Option<Monotonic>,
}

impl Task {
    /// Works until it is closed, or until nobody is left to ask for anything.
    pub(super) async fn run(mut self) {
        loop {
            if self.waiting.is_empty() && !self.wait().await {
                break;
            }
            match self.waiting.front().map(Request::is_alone) {
                Some(true) => {
                    if let Some(Request::Close) = self.alone().await {
                        break;
                    }
                }
                Some(false) => self.batch().await,
                None => {}
            }
            self.prune().await;
        }
        {
            let mut state = lock(&self.state);
            state.closed = true;
            state.groups.values().for_each(super::group::GroupState::wake_all);
        }
        // Whoever still waits for an answer learns that there is none.
        self.requests.close();
        self.waiting.clear();
        while self.requests.recv().await.is_some() {}
        // What cannot be written back now is found in the log at the next start.
        let _ = self.core.writer.close().await;
        drop(self.lock);
    }

    /// Waits for requests, or until something is to be deleted; `false` when nobody is left.
    async fn wait(&mut self) -> bool {
        let until = self.next_prune();
        let timer = Arc::clone(&self.env.timer);
        let due = async move {
            match until {
                Some(until) => timer.sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let mut taken = Vec::new();
        tokio::select! {
            biased;
            count = self.requests.recv_many(&mut taken, self.config.batch_max) => {
                self.waiting.extend(taken);
                count > 0
            }
            () = due => true,
        }
    }

    /// Writes what waits, in one transaction as far as the bounds go.
    async fn batch(&mut self) {
        let sure = self.settle().await;
        let (mut plan, mut count, mut bytes) = (Plan::default(), 0_usize, 0_usize);
        let limits = Limits {
            record_bytes_max: self.config.record_bytes_max,
            full: self.core.full.clone(),
            now: self.env.monotonic(),
        };
        {
            let mut state = lock(&self.state);
            while count < self.config.batch_max
                && bytes < self.config.batch_bytes
                && let Some(request) = self.waiting.pop_front_if(|next| !next.is_alone())
            {
                count = count.saturating_add(1);
                bytes = bytes.saturating_add(request.bytes());
                plan.add(request, &mut state, &mut self.core.fences, &limits);
            }
        }
        let written = match sure {
            Ok(()) if plan.is_empty() => Ok(()),
            Ok(()) => self.core.write(&plan, &self.config).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => {
                let mut state = lock(&self.state);
                plan.done(&mut state, &mut self.core.fences);
            }
            Err(error) => {
                self.core.unsure = true;
                plan.failed(&error::why(&error));
            }
        }
    }

    /// Reads the state from the file again after a transaction failed.
    async fn settle(&mut self) -> Result<(), sqlx::Error> {
        if !self.core.unsure {
            return Ok(());
        }
        let starts: Vec<_> =
            lock(&self.state).logs.iter().map(|(&id, log)| (id, log.start)).collect();
        self.core.writer.begin().await?;
        let connection = self.core.writer.connection()?;
        let mut ends = Vec::new();
        for (id, start) in starts {
            ends.push((id, table::end(connection, id, start).await?));
        }
        let mut offsets = table::load_offsets(connection).await?;
        self.core.writer.settle().await;
        let mut state = lock(&self.state);
        state.drop_cache();
        for (id, end) in ends {
            if let Some(log) = state.logs.get_mut(&id) {
                log.end = end;
            }
        }
        for (name, group) in &mut state.groups {
            group.restore_offsets(offsets.remove(name).unwrap_or_default());
            group.wake_all();
        }
        self.core.unsure = false;
        Ok(())
    }

    /// Does the first request that waits, which has a transaction of its own; returns a `Close`.
    async fn alone(&mut self) -> Option<Request> {
        match self.waiting.pop_front()? {
            Request::Declare { topic, reply } => {
                let _ = reply.send(self.declare(&topic).await);
            }
            Request::Forget { group, reply } => {
                let deleted = self.core.forget(&group).await;
                let deleted = deleted.map_err(|source| OpenError::of(&self.config.path, source));
                if deleted.is_ok() {
                    let mut state = lock(&self.state);
                    if let Some(known) = state.groups.get_mut(&group) {
                        known.forget();
                    }
                    state.groups.retain(|_, known| known.has_members());
                }
                let _ = reply.send(deleted);
            }
            other => return Some(other),
        }
        None
    }

    async fn declare(&mut self, topic: &TopicConfig) -> Result<(), OpenError> {
        let path = &self.config.path;
        let failed = |source| OpenError::of(path, source);
        let known: Vec<PartitionId> = lock(&self.state).logs.keys().copied().collect();
        self.core.writer.begin().await.map_err(failed)?;
        let connection = self.core.writer.connection().map_err(failed)?;
        table::declare(connection, path, topic).await?;
        let added = table::load_partitions(connection, &known).await.map_err(failed)?;
        self.core.writer.commit().await.map_err(failed)?;
        let mut state = lock(&self.state);
        added.into_iter().for_each(|(id, log)| state.add(id, log));
        let groups: Vec<_> = state.groups.keys().cloned().collect();
        groups.iter().for_each(|group| state.rebalance(group));
        Ok(())
    }

    /// Returns when there is something to delete if nobody asks for anything.
    fn next_prune(&self) -> Option<Monotonic> {
        let (wall, now) = (self.core.clock.now().as_micros(), self.env.monotonic());
        let due = match self.core.retention.next(&lock(&self.state), wall) {
            Some(_) => Some(now),
            None => self.core.retention.next_expiry(wall).map(|at| {
                let micros = u64::try_from(at.saturating_sub(wall)).unwrap_or(0);
                now.plus(Duration::from_micros(micros))
            }),
        };
        due.map(|due| self.core.prune_after.map_or(due, |after| due.max(after)))
    }

    /// Deletes what is due, in bounded steps, and finds out whether the file is full.
    async fn prune(&mut self) {
        if self.core.prune_after.is_some_and(|after| after > self.env.monotonic()) {
            return;
        }
        self.core.prune_after = None;
        if self.try_prune().await.is_err() {
            // What cannot be deleted now cannot be written either, and its caller is told.
            self.core.unsure = true;
            self.core.prune_after = Some(self.env.monotonic().plus(PRUNE_PAUSE));
        }
    }

    async fn try_prune(&mut self) -> Result<(), sqlx::Error> {
        // An offset whose commit failed has not been read as far as the file knows.
        self.settle().await?;
        if self.core.retention.wants_measure() {
            let used = table::used(self.core.writer.connection()?).await?;
            self.core.retention.set_used(used);
        }
        for _ in 0..PRUNES_IN_A_ROW {
            let wall = self.core.clock.now().as_micros();
            let Some(prune) = self.core.retention.next(&lock(&self.state), wall) else { break };
            let kept = self.core.prune(&prune, &self.config).await?;
            if let Some(log) = lock(&self.state).logs.get_mut(&prune.id) {
                log.start = kept;
            }
            if !self.core.retention.is_over() {
                break;
            }
        }
        self.core.full = self.core.retention.is_over().then(|| self.why_full());
        Ok(())
    }

    fn why_full(&self) -> String {
        let bytes = self.config.file_bytes_max;
        let state = lock(&self.state);
        let behind = state.behind().map_or_else(
            || "what it holds is being deleted".to_owned(),
            |(group, at)| {
                format!("group {group} has still to read {}: start it, or forget it", at.topic)
            },
        );
        format!("the bus has reached file_bytes_max, {bytes}; {behind}")
    }
}

impl Core {
    /// Writes a plan in one transaction.
    async fn write(&mut self, plan: &Plan, config: &BusConfig) -> Result<(), sqlx::Error> {
        let at = self.clock.now().as_micros();
        let synchronous =
            if plan.is_of_groups() { config.offsets_synchronous } else { config.synchronous };
        self.writer.begin_as(synchronous).await?;
        table::write(self.writer.connection()?, plan, at).await?;
        self.writer.commit().await?;
        for (&id, (_, records)) in &plan.records {
            let bytes = records.iter().fold(0, |sum, record| record.bytes().saturating_add(sum));
            self.retention.appended(id, at, bytes);
        }
        Ok(())
    }

    /// Deletes records; returns the first offset that is kept.
    async fn prune(&mut self, prune: &Prune, config: &BusConfig) -> Result<u64, sqlx::Error> {
        let Prune { id, start, below, before } = *prune;
        self.writer.begin_as(config.offsets_synchronous).await?;
        let connection = self.writer.connection()?;
        let kept = table::prune(connection, id, (start, below), before).await?;
        let front = table::first_at(connection, id).await?;
        let used = table::used(connection).await?;
        self.writer.commit().await?;
        self.retention.set_front(id, front);
        self.retention.set_used(used);
        Ok(kept)
    }

    async fn forget(&mut self, group: &amarra_messaging::Group) -> Result<(), sqlx::Error> {
        self.writer.begin().await?;
        table::forget(self.writer.connection()?, group).await?;
        self.writer.commit().await
    }
}
