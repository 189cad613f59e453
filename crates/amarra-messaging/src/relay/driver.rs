//! The loop that runs one relay engine per leased shard against an outbox and a transport.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::time::timeout_at;
use amarra_core::{Elapsed, Environment, Monotonic};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::config::RelayConfig;
use super::engine::{Action, Engine, Event, StopReason};
use super::events::{RelayEvent, RelayObserver, RelayStats};
use crate::config::ConfigError;
use crate::message::{Owner, Shard};
use crate::outbox::{Chunk, Cursor, Lease, LogError, OutboxLog};
use crate::shutdown::Shutdown;
use crate::transport::{PublishError, Session, Transport};

/// The least wait before leases are asked for again because one ends.
const FREE_MIN: Duration = Duration::from_millis(5);

/// One process's share of the relaying of one outbox.
///
/// It spawns nothing: `run` is one future, in which the shards it holds progress concurrently. Any
/// number of relays may run at once, on any machines; leases share the shards out among them.
///
/// The calls of [`OutboxLog`] are awaited without a timeout of the relay's own: an adapter bounds
/// them, and answers [`LogError::Unavailable`].
#[derive(Debug)]
pub struct Relay {
    log: Arc<dyn OutboxLog>,
    transport: Arc<dyn Transport>,
    env: Environment,
    owner: Owner,
    config: RelayConfig,
    observer: Arc<dyn RelayObserver>,
}

/// A shard being relayed.
#[derive(Debug)]
struct Slot {
    lease: Lease,
    engine: Engine,
    /// None while an action has it, and before it was opened.
    session: Option<Box<dyn Session>>,
    /// The cursor that the last read saved when it opened a batch.
    saved: Option<Cursor>,
}

/// What a future of the relay came to.
enum Step {
    Acted { shard: Shard, session: Option<Box<dyn Session>>, event: Event, saved: Option<Cursor> },
    Leased { asked_at: Monotonic, result: Result<Vec<Lease>, LogError>, free_in: Option<Duration> },
    GivenBack(Result<(), LogError>),
}

/// What a running relay remembers between two steps.
struct Running<'a> {
    slots: BTreeMap<Shard, Slot>,
    steps: FuturesUnordered<BoxFuture<'a, Step>>,
    lease_at: Monotonic,
    /// Calls out that take leases or give them back: never both, or one would undo the other.
    lease_calls: usize,
    lease_failures: u32,
    draining: bool,
}

impl Relay {
    /// Puts a relay together; `owner` names this process in its leases.
    ///
    /// # Errors
    /// [`ConfigError`] names the field that is out of range.
    pub fn new(
        log: Arc<dyn OutboxLog>,
        transport: Arc<dyn Transport>,
        env: Environment,
        owner: Owner,
        config: RelayConfig,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let observer = Arc::new(RelayStats::default());
        Ok(Self { log, transport, env, owner, config, observer })
    }

    /// Tells everything to `observer` from now on.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn RelayObserver>) -> Self {
        self.observer = observer;
        self
    }

    /// Relays until a stop is requested; then finishes the chunks in hand, at most for
    /// `drain_timeout`, and gives the leases back.
    ///
    /// # Cancellation
    /// Chunks in hand are dropped: the next owner publishes them again, at the same positions.
    pub async fn run(self, shutdown: Shutdown) {
        let mut running = Running {
            slots: BTreeMap::new(),
            steps: FuturesUnordered::new(),
            lease_at: self.env.monotonic(),
            lease_calls: 0,
            lease_failures: 0,
            draining: false,
        };
        let mut changed = pin!(self.log.changed());
        loop {
            let wake_at = self.lease_if_due(&mut running);
            let wake = self.env.timer.sleep_until(wake_at.unwrap_or_default());
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                Some(step) = running.steps.next(), if !running.steps.is_empty() => {
                    self.take(step, &mut running);
                }
                () = &mut changed => {
                    changed.set(self.log.changed());
                    self.changed(&mut running);
                }
                () = wake, if wake_at.is_some() => {
                    self.step_all(&mut running, &Event::Tick);
                }
            }
        }
        running.draining = true;
        let drain = async {
            self.step_all(&mut running, &Event::Drain);
            while let Some(step) = running.steps.next().await {
                self.take(step, &mut running);
            }
        };
        let _ = self.env.timeout(self.config.drain_timeout, drain).await;
    }

    /// Takes and renews leases when it is time; returns when something will be due next.
    fn lease_if_due<'a>(&'a self, running: &mut Running<'a>) -> Option<Monotonic> {
        let now = self.env.monotonic();
        if running.lease_calls == 0 && running.lease_at <= now {
            running.lease_calls = 1;
            running.lease_at = now.plus(self.config.renew_after());
            running.steps.push(Box::pin(async move {
                let (limit, ttl) = (self.config.shards_max, self.config.lease);
                let result = self.log.lease(&self.owner, limit, ttl).await;
                let free_in = match &result {
                    Ok(leases) if leases.len() < limit => self.free_in().await,
                    _ => None,
                };
                Step::Leased { asked_at: now, result, free_in }
            }));
        }
        // While such a call is out its end wakes the loop, and the next one is scheduled then.
        let lease_at = (running.lease_calls == 0).then_some(running.lease_at);
        let engines = running.slots.values().filter_map(|slot| slot.engine.wake_at());
        engines.chain(lease_at).min()
    }

    /// Returns when a lease of somebody else ends.
    async fn free_in(&self) -> Option<Duration> {
        self.log.until_free(&self.owner).await.unwrap_or_else(|error| {
            self.observer.observe(&RelayEvent::Log(None, &error));
            None
        })
    }

    fn changed<'a>(&'a self, running: &mut Running<'a>) {
        let shards = running.slots.keys().copied();
        let concerned: Vec<_> = shards.filter(|shard| self.log.concerns(*shard)).collect();
        for shard in concerned {
            self.step(running, shard, Event::Changed);
        }
    }

    fn step_all<'a>(&'a self, running: &mut Running<'a>, event: &Event) {
        let shards: Vec<_> = running.slots.keys().copied().collect();
        for shard in shards {
            self.step(running, shard, event.clone());
        }
    }

    fn step<'a>(&'a self, running: &mut Running<'a>, shard: Shard, event: Event) {
        let Some(slot) = running.slots.get_mut(&shard) else { return };
        let now = self.env.monotonic();
        let mut action = slot.engine.step(now, event);
        let saved = slot.saved.take();
        if matches!((&action, &saved), (Some(Action::Checkpoint(c)), Some(saved)) if c == saved) {
            action = slot.engine.step(now, Event::Checkpointed(Ok(())));
        }
        let Some(action) = action else { return };
        let Action::Stop(reason) = action else {
            let (lease, session) = (slot.lease.clone(), slot.session.take());
            running.steps.push(Box::pin(self.act(lease, session, action)));
            return;
        };
        let Some(Slot { lease, .. }) = running.slots.remove(&shard) else { return };
        self.observer.observe(&RelayEvent::Stopped(&lease, &reason));
        if reason != StopReason::Fenced {
            running.lease_calls = running.lease_calls.saturating_add(1);
            running.steps.push(Box::pin(async move {
                Step::GivenBack(self.log.give_back(std::slice::from_ref(&lease)).await)
            }));
        }
    }

    fn take<'a>(&'a self, step: Step, running: &mut Running<'a>) {
        match step {
            Step::Acted { shard, session, event, saved } => {
                if let Some(slot) = running.slots.get_mut(&shard) {
                    (slot.session, slot.saved) = (session, saved);
                }
                self.step(running, shard, event);
            }
            Step::GivenBack(result) => {
                running.lease_calls = running.lease_calls.saturating_sub(1);
                if let Err(error) = result {
                    self.observer.observe(&RelayEvent::Log(None, &error));
                }
            }
            Step::Leased { asked_at, result, free_in } => {
                running.lease_calls = running.lease_calls.saturating_sub(1);
                if let Some(free_in) = free_in {
                    // Whoever holds it may be gone: no later than it ends.
                    let free_at = self.env.monotonic().plus(free_in.max(FREE_MIN));
                    running.lease_at = running.lease_at.min(free_at);
                }
                self.leased(asked_at, result, running);
            }
        }
    }

    fn leased<'a>(
        &'a self,
        asked_at: Monotonic,
        result: Result<Vec<Lease>, LogError>,
        running: &mut Running<'a>,
    ) {
        let leases = match result {
            Ok(leases) => leases,
            Err(error) => {
                self.observer.observe(&RelayEvent::Log(None, &error));
                running.lease_failures = running.lease_failures.saturating_add(1);
                let draw = self.env.entropy.next_u64();
                let wait = self.config.backoff.wait(running.lease_failures, draw);
                let retry_at = self.env.monotonic().plus(wait);
                running.lease_at = running.lease_at.min(retry_at);
                return;
            }
        };
        running.lease_failures = 0;
        if running.draining {
            // Too late: nobody is going to work under them.
            running.lease_calls = running.lease_calls.saturating_add(1);
            let unused = leases.into_iter().filter(|l| !running.slots.contains_key(&l.shard));
            let unused: Vec<_> = unused.collect();
            running
                .steps
                .push(Box::pin(async move { Step::GivenBack(self.log.give_back(&unused).await) }));
            return;
        }
        let until = asked_at.plus(self.config.stop_after());
        for lease in leases {
            self.start_or_renew(lease, until, running);
        }
    }

    fn start_or_renew<'a>(&'a self, lease: Lease, until: Monotonic, running: &mut Running<'a>) {
        let shard = lease.shard;
        match running.slots.get(&shard) {
            Some(slot) if slot.lease == lease => {
                return self.step(running, shard, Event::Renewed(until));
            }
            // Lost and won again meanwhile: the old engine is fenced at its next call, or stops at
            // the end of its time; only then may another one begin.
            Some(_) => return,
            None => {}
        }
        self.observer.observe(&RelayEvent::Started(&lease));
        let seed = self.env.entropy.next_u64();
        let engine = Engine::new(self.config, self.log.source(), shard, until, seed);
        running.slots.insert(shard, Slot { lease, engine, session: None, saved: None });
        self.step(running, shard, Event::Tick);
    }

    async fn act(
        &self,
        lease: Lease,
        mut session: Option<Box<dyn Session>>,
        action: Action,
    ) -> Step {
        let log = &self.log;
        let mut saved = None;
        let event = match action {
            Action::Open => Event::Opened(self.open(&lease, &mut session).await),
            Action::Resume => Event::Resumed(log.resume(&lease).await),
            Action::Read { cursor, limit } => {
                let read = log.open_chunk(&lease, &cursor, limit).await;
                Event::Read(read.map(|(chunk, opened)| {
                    saved = opened.then(|| Cursor { cur: Some(chunk.cur.clone()), ..cursor });
                    chunk
                }))
            }
            Action::Checkpoint(cursor) => {
                Event::Checkpointed(log.checkpoint(&lease, &cursor).await)
            }
            Action::Publish { records, from, deadline } => {
                let records = records.get(from..).unwrap_or_default();
                let timer = self.env.timer.as_ref();
                let result = match &mut session {
                    None => Err(unavailable("no session is open")),
                    Some(session) => timeout_at(timer, deadline, session.publish(records))
                        .await
                        .unwrap_or_else(|Elapsed| Err(unavailable("publish_timeout passed"))),
                };
                self.tell_published(lease.shard, records.len(), &result);
                Event::Published(result)
            }
            Action::Park(rows) => {
                let result = log.park(&lease, &rows).await;
                if result.is_ok() {
                    self.observer.observe(&RelayEvent::Parked(&rows));
                }
                Event::Parked(result)
            }
            Action::Released(limit) => Event::Released(log.released(&lease, limit).await),
            Action::Settle(rows) => Event::Settled(log.settle(&lease, &rows).await),
            Action::Stop(_) => Event::Tick,
        };
        self.tell(lease.shard, &event);
        Step::Acted { shard: lease.shard, session, event, saved }
    }

    async fn open(
        &self,
        lease: &Lease,
        session: &mut Option<Box<dyn Session>>,
    ) -> Result<(), PublishError> {
        let open = self.env.timeout(self.config.publish_timeout, self.transport.open(lease));
        match open.await {
            Ok(opened) => opened.map(|opened| *session = Some(opened)),
            Err(Elapsed) => Err(unavailable("publish_timeout passed")),
        }
    }

    fn tell_published(&self, shard: Shard, rows: usize, result: &Result<(), PublishError>) {
        let stored = match result {
            Ok(()) => rows,
            Err(error) => {
                self.observer.observe(&RelayEvent::Publish(shard, error));
                match error {
                    PublishError::Fenced { .. } => 0,
                    PublishError::Refused { acked, .. }
                    | PublishError::Unavailable { acked, .. } => *acked,
                }
            }
        };
        if stored > 0 {
            self.observer.observe(&RelayEvent::Published { shard, rows: stored });
        }
    }

    fn tell(&self, shard: Shard, event: &Event) {
        let error = match event {
            Event::Read(Ok(Chunk { rows, .. })) => {
                let times = rows.iter().map(|row| row.at);
                let age = times.min().map_or(Duration::ZERO, |t| self.env.now().since(t));
                let rows = rows.len();
                return self.observer.observe(&RelayEvent::Read { shard, rows, age });
            }
            Event::Opened(Err(error)) => {
                return self.observer.observe(&RelayEvent::Publish(shard, error));
            }
            Event::Resumed(Err(error))
            | Event::Read(Err(error))
            | Event::Checkpointed(Err(error))
            | Event::Parked(Err(error))
            | Event::Released(Err(error))
            | Event::Settled(Err(error)) => error,
            _ => return,
        };
        self.observer.observe(&RelayEvent::Log(Some(shard), error));
    }
}

fn unavailable(why: &str) -> PublishError {
    PublishError::Unavailable { acked: 0, why: why.to_owned() }
}
