//! The relay's decisions for one shard: a pure state machine over results and time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Monotonic, PartitionKey};

use super::config::RelayConfig;
use super::work::{Origin, Work};
use crate::message::{Seq, Shard};
use crate::outbox::{Chunk, Cursor, LogError, ParkedRow, Resumed, Snapshot};
use crate::transport::{Publish, PublishError};

/// Something the engine has to know. All but the last four answer an [`Action`].
#[derive(Debug, Clone)]
pub enum Event {
    /// Answers [`Action::Open`].
    Opened(Result<(), PublishError>),
    /// Answers [`Action::Resume`].
    Resumed(Result<Resumed, LogError>),
    /// Answers [`Action::Read`].
    Read(Result<Chunk, LogError>),
    /// Answers [`Action::Checkpoint`].
    Checkpointed(Result<(), LogError>),
    /// Answers [`Action::Publish`]; acknowledgements count from the index published from.
    Published(Result<(), PublishError>),
    /// Answers [`Action::Park`].
    Parked(Result<(), LogError>),
    /// Answers [`Action::Released`].
    Released(Result<Vec<ParkedRow>, LogError>),
    /// Answers [`Action::Settle`].
    Settled(Result<(), LogError>),
    /// The lease was renewed: work may go on until then.
    Renewed(Monotonic),
    /// Rows may have been committed.
    Changed,
    /// Time passed.
    Tick,
    /// A stop was requested: the chunk in hand is finished, unless it has to be retried.
    Drain,
}

/// The one thing the driver has to do next; it is answered with the event of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open the session of the lease, which fences the shard's earlier ones.
    Open,
    /// Read the saved cursor and the parked keys.
    Resume,
    /// Read a chunk.
    Read {
        /// From where on.
        cursor: Cursor,
        /// At most how many rows.
        limit: usize,
    },
    /// Save the cursor.
    Checkpoint(Cursor),
    /// Publish `records[from..]`.
    Publish {
        /// The records of the chunk in hand.
        records: Arc<[Publish]>,
        /// How many of them are stored already.
        from: usize,
        /// When to give up.
        deadline: Monotonic,
    },
    /// Park rows.
    Park(Vec<ParkedRow>),
    /// Read released rows, at most so many.
    Released(usize),
    /// Remove released rows.
    Settle(Vec<ParkedRow>),
    /// Drop the engine and its session; the lease may be given back unless it was fenced.
    Stop(StopReason),
}

/// Why an engine stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The lease was not renewed in time.
    LeaseEnds,
    /// A newer epoch owns the shard.
    Fenced,
    /// A stop was requested.
    Drained,
    /// The outbox holds something that does not decode, or answered what it must not.
    Corrupt(LogError),
}

/// Relays one shard under one lease: at most one action is out at a time.
///
/// # Laws
/// - RLY-1 nothing of a chunk is published before a cursor is saved that determines its rows and
///   positions: both snapshots, last sequence value and position.
/// - RLY-2 positions are dense per shard, and a message that is published again, by whomever, has
///   the position it had before.
/// - RLY-3 the cursor moves past a row only when the row is acknowledged or durably parked.
/// - RLY-4 after a partial failure publishing goes on at the first row that is not acknowledged.
/// - RLY-5 once fenced, or past the time of its lease, the engine asks for nothing more.
/// - RLY-6 from a refused row on, rows of its key are parked in order and none is published, until
///   they are released; then they are published in order, and removed once they are stored.
/// - RLY-7 an engine that is idle for [`RelayConfig::save_after`] has saved its cursor, once.
#[derive(Debug)]
pub struct Engine {
    config: RelayConfig,
    source: Arc<str>,
    shard: Shard,
    until: Monotonic,
    phase: Phase,
    out: bool,
    draining: bool,
    /// Everything before it is acknowledged or parked.
    cursor: Cursor,
    /// Whether the saved cursor is behind `cursor`.
    dirty: bool,
    /// When it is saved though nothing more came.
    save_at: Option<Monotonic>,
    parked: BTreeSet<PartitionKey>,
    work: Option<Work>,
    settle: Vec<ParkedRow>,
    look: bool,
    look_released: bool,
    refresh_parked: bool,
    stop: Option<StopReason>,
    retry_at: Option<Monotonic>,
    failures: u32,
    jitter: u64,
    poll: Duration,
    poll_at: Option<Monotonic>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Open,
    Running,
    Stopped,
}

impl Engine {
    /// Starts under a lease whose work may go on `until` then; `source` and `shard` name the outbox
    /// shard in positions, and `seed` starts the jitter of its waits.
    #[must_use]
    pub fn new(
        config: RelayConfig,
        source: Arc<str>,
        shard: Shard,
        until: Monotonic,
        seed: u64,
    ) -> Self {
        Self {
            config,
            source,
            shard,
            until,
            phase: Phase::Closed,
            out: false,
            draining: false,
            cursor: Cursor::default(),
            dirty: false,
            save_at: None,
            parked: BTreeSet::new(),
            work: None,
            settle: Vec::new(),
            look: true,
            look_released: true,
            refresh_parked: false,
            stop: None,
            retry_at: None,
            failures: 0,
            jitter: seed,
            poll: config.poll_min,
            poll_at: None,
        }
    }

    /// Takes an event and returns what to do next, none when an action is out already, the engine
    /// has stopped, or there is nothing to do before [`wake_at`](Self::wake_at).
    pub fn step(&mut self, now: Monotonic, event: Event) -> Option<Action> {
        match event {
            Event::Renewed(until) => self.until = self.until.max(until),
            Event::Changed => self.look_again(),
            Event::Drain => self.draining = true,
            Event::Tick => {
                if self.poll_at.is_some_and(|at| at <= now) {
                    self.look_again();
                }
            }
            answer => {
                self.out = false;
                self.answered(now, answer);
            }
        }
        if self.out || self.phase == Phase::Stopped {
            return None;
        }
        let action = self.next(now)?;
        match action {
            Action::Stop(_) => self.phase = Phase::Stopped,
            _ => self.out = true,
        }
        Some(action)
    }

    /// Returns when the engine wants an [`Event::Tick`].
    #[must_use]
    pub fn wake_at(&self) -> Option<Monotonic> {
        if self.out || self.phase == Phase::Stopped {
            return None;
        }
        let idle = self.poll_at.into_iter().chain(self.save_at).min();
        Some(self.retry_at.or(idle).map_or(self.until, |at| at.min(self.until)))
    }

    fn look_again(&mut self) {
        (self.look, self.look_released, self.poll_at) = (true, true, None);
    }

    fn answered(&mut self, now: Monotonic, answer: Event) {
        let result = match answer {
            Event::Published(result) => return self.published(now, result),
            Event::Opened(Ok(())) => {
                self.phase = Phase::Open;
                Ok(())
            }
            Event::Opened(Err(PublishError::Fenced { shard, epoch })) => {
                Err(LogError::Fenced { shard, epoch })
            }
            Event::Opened(Err(error)) => Err(LogError::Unavailable { why: error.to_string() }),
            Event::Resumed(result) => result.map(|resumed| self.resumed(resumed)),
            Event::Read(result) => {
                self.look |= result.is_err();
                result.and_then(|chunk| self.read(chunk))
            }
            Event::Checkpointed(result) => result.map(|()| self.checkpointed()),
            Event::Parked(result) => result.map(|()| {
                if let Some(work) = &mut self.work {
                    work.to_park.clear();
                }
            }),
            Event::Released(result) => {
                self.look_released |= result.is_err();
                result.map(|rows| self.released(rows))
            }
            Event::Settled(result) => result.map(|()| {
                self.settle.clear();
                self.refresh_parked = true;
            }),
            Event::Renewed(_) | Event::Changed | Event::Tick | Event::Drain => return,
        };
        match result {
            Ok(()) => self.failures = 0,
            Err(LogError::Unavailable { .. }) => self.back_off(now),
            Err(LogError::Fenced { .. }) => self.stop = Some(StopReason::Fenced),
            Err(error @ LogError::Corrupt { .. }) => self.stop = Some(StopReason::Corrupt(error)),
        }
    }

    fn resumed(&mut self, resumed: Resumed) {
        // Later on only the parked keys are of interest: the cursor in hand is ahead of the saved.
        if self.phase == Phase::Open {
            self.phase = Phase::Running;
            self.cursor = resumed.cursor;
        }
        self.parked = resumed.parked;
        self.refresh_parked = false;
    }

    fn read(&mut self, chunk: Chunk) -> Result<(), LogError> {
        check(&self.cursor, &chunk)?;
        if chunk.rows.is_empty() {
            let was_open = self.cursor.cur.is_some();
            self.dirty |= was_open;
            self.look |= was_open;
            self.close_batch(chunk.cur);
            self.poll = self.poll.saturating_mul(2).min(self.config.poll_max);
        } else {
            let source = (&self.source, self.shard);
            self.work = Some(Work::of_chunk(chunk, self.cursor.pos, &self.parked, source));
        }
        Ok(())
    }

    fn close_batch(&mut self, cur: Snapshot) {
        self.cursor.prev = cur;
        self.cursor.cur = None;
        self.cursor.last_seq = Seq::default();
    }

    fn checkpointed(&mut self) {
        (self.dirty, self.save_at) = (false, None);
        if let Some(Work { origin: Origin::Chunk { cur, saved, .. }, .. }) = &mut self.work {
            *saved = true;
            self.cursor.cur = Some(cur.clone());
        }
    }

    fn released(&mut self, rows: Vec<ParkedRow>) {
        self.look_released |= rows.len() >= self.config.chunk_rows_max;
        let source = (&self.source, self.shard);
        self.work = (!rows.is_empty()).then(|| Work::of_released(rows, source));
    }

    fn published(&mut self, now: Monotonic, result: Result<(), PublishError>) {
        let Some(work) = &mut self.work else { return };
        match result {
            Ok(()) => {
                work.acknowledge_all();
                self.failures = 0;
            }
            Err(PublishError::Fenced { .. }) => self.stop = Some(StopReason::Fenced),
            Err(PublishError::Unavailable { acked, .. }) => {
                work.acknowledge(acked);
                if acked > 0 {
                    self.failures = 0;
                }
                self.back_off(now);
            }
            Err(PublishError::Refused { acked, why }) => {
                work.acknowledge(acked);
                self.parked.extend(work.refuse(&why, (&self.source, self.shard)));
                self.failures = 0;
            }
        }
    }

    fn back_off(&mut self, now: Monotonic) {
        self.failures = self.failures.saturating_add(1);
        // Knuth's MMIX generator: relays that failed together need not come back together.
        self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005);
        self.jitter = self.jitter.wrapping_add(1_442_695_040_888_963_407);
        self.retry_at = Some(now.plus(self.config.backoff.wait(self.failures, self.jitter)));
    }

    fn next(&mut self, now: Monotonic) -> Option<Action> {
        if let Some(reason) = self.stop.take() {
            return Some(Action::Stop(reason));
        }
        if now >= self.until {
            return Some(Action::Stop(StopReason::LeaseEnds));
        }
        if let Some(at) = self.retry_at {
            if self.draining {
                return Some(Action::Stop(StopReason::Drained));
            }
            if at > now {
                return None;
            }
            self.retry_at = None;
        }
        match self.phase {
            Phase::Closed | Phase::Open if self.draining => Some(Action::Stop(StopReason::Drained)),
            Phase::Closed => Some(Action::Open),
            Phase::Open => Some(Action::Resume),
            Phase::Running => self.run(now),
            Phase::Stopped => None,
        }
    }

    fn run(&mut self, now: Monotonic) -> Option<Action> {
        if let Some(work) = self.work.take() {
            let action = self.go_on(now, &work);
            if action.is_some() {
                self.work = Some(work);
                return action;
            }
            self.finish(work);
        }
        if !self.settle.is_empty() {
            return Some(Action::Settle(self.settle.clone()));
        }
        if self.refresh_parked {
            return Some(Action::Resume);
        }
        let checkpoint = self.dirty.then(|| Action::Checkpoint(self.cursor.clone()));
        if self.draining {
            return checkpoint.or(Some(Action::Stop(StopReason::Drained)));
        }
        let limit = self.config.chunk_rows_max;
        if std::mem::take(&mut self.look_released) && !self.parked.is_empty() {
            return Some(Action::Released(limit));
        }
        if std::mem::take(&mut self.look) {
            return Some(Action::Read { cursor: self.cursor.clone(), limit });
        }
        if self.dirty {
            let at = *self.save_at.get_or_insert(now.plus(self.config.save_after));
            if at <= now {
                return checkpoint;
            }
        }
        self.poll_at.get_or_insert(now.plus(self.poll));
        None
    }

    fn go_on(&self, now: Monotonic, work: &Work) -> Option<Action> {
        if let Origin::Chunk { cur, saved: false, .. } = &work.origin {
            let cursor = Cursor { cur: Some(cur.clone()), ..self.cursor.clone() };
            return Some(Action::Checkpoint(cursor));
        }
        if !work.to_park.is_empty() {
            return Some(Action::Park(work.to_park.clone()));
        }
        let (records, from) = work.to_publish()?;
        let deadline = now.plus(self.config.publish_timeout).min(self.until);
        Some(Action::Publish { records, from, deadline })
    }

    fn finish(&mut self, work: Work) {
        match work.origin {
            Origin::Released => self.settle = work.into_stored(),
            Origin::Chunk { cur, end: (seq, pos), last, .. } => {
                self.cursor.pos = pos;
                self.cursor.last_seq = seq;
                if last {
                    self.close_batch(cur);
                }
                self.dirty = true;
                self.look |= !last;
                self.poll = self.config.poll_min;
            }
        }
    }
}

/// Refuses what the log must not answer: it would break the order or the positions silently.
fn check(cursor: &Cursor, chunk: &Chunk) -> Result<(), LogError> {
    let corrupt = |why: &str| LogError::Corrupt { what: "chunk".to_owned(), why: why.to_owned() };
    if cursor.cur.as_ref().is_some_and(|cur| *cur != chunk.cur) {
        return Err(corrupt("it closes with another snapshot than the open batch"));
    }
    if chunk.rows.is_empty() && !chunk.last {
        return Err(corrupt("it is empty and not the last"));
    }
    let mut last_seq = cursor.last_seq;
    for row in &chunk.rows {
        if row.seq <= last_seq {
            return Err(corrupt("its rows do not ascend from the cursor"));
        }
        last_seq = row.seq;
    }
    Ok(())
}
