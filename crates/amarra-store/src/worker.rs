//! The loop that claims due timers and acts on them.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use amarra_core::{AggregateId, Elapsed, Environment, Monotonic};
use amarra_messaging::message::Owner;
use amarra_messaging::{ConfigError, Shutdown, TxError};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::handler::DueHandler;
use crate::session::HandlerError;
use crate::timer::{Claim, Due, DueQuery};
use crate::unit::Store;

/// Bounds of one [`Worker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerConfig {
    /// How long a claim keeps others away, by the database's clock; work that takes longer is
    /// dropped and claimed again.
    pub lease: Duration,
    /// Claims acted on at once; at least 1.
    pub claims_max: usize,
    /// The longest time between two looks for due timers, at most a second by default: the whole
    /// idle cost, and the delay where the store tells neither changes nor the next due time.
    pub poll: Duration,
    /// The shortest time between two looks, whatever the store says of the next due time.
    pub poll_min: Duration,
    /// How long a shutdown waits for claims being acted on; those left over are claimed again.
    pub drain_timeout: Duration,
}

impl Default for WorkerConfig {
    /// Sixteen claims at once, of ten seconds each.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            claims_max: 16,
            poll: Duration::from_secs(1),
            poll_min: Duration::from_millis(5),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

impl WorkerConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::unless(!self.lease.is_zero(), "lease", "positive")?;
        ConfigError::unless(self.claims_max >= 1, "claims_max", "at least 1")?;
        ConfigError::unless(!self.poll_min.is_zero(), "poll_min", "positive")?;
        ConfigError::unless(self.poll >= self.poll_min, "poll", "at least poll_min")
    }
}

/// Something that happened in a worker.
#[derive(Debug)]
#[non_exhaustive]
pub enum WorkerEvent<'a> {
    /// Timers were claimed.
    Claimed(usize),
    /// A claim was acted on.
    Done(&'a AggregateId),
    /// Acting on a claim failed; it is acted on again after its lease.
    Failed(&'a AggregateId, &'a HandlerError),
    /// Acting on a claim took longer than its lease and was dropped.
    TimedOut(&'a AggregateId),
    /// Claiming failed; it is tried again after `poll`.
    ClaimFailed(&'a TxError),
}

/// Watches a worker; called on its task, so it must not block.
pub trait WorkerObserver: Send + Sync + fmt::Debug {
    /// Takes note of an event.
    fn observe(&self, event: &WorkerEvent<'_>);
}

/// Counts what a worker did since it started.
#[derive(Debug, Default)]
pub struct WorkerStats {
    /// Claims taken.
    pub claimed: AtomicU64,
    /// Claims acted on.
    pub done: AtomicU64,
    /// Claims left to their lease.
    pub failed: AtomicU64,
    /// Failures to claim.
    pub claim_failures: AtomicU64,
}

impl WorkerObserver for WorkerStats {
    fn observe(&self, event: &WorkerEvent<'_>) {
        let (counter, n) = match event {
            WorkerEvent::Claimed(n) => (&self.claimed, *n),
            WorkerEvent::Done(_) => (&self.done, 1),
            WorkerEvent::Failed(..) | WorkerEvent::TimedOut(_) => (&self.failed, 1),
            WorkerEvent::ClaimFailed(_) => (&self.claim_failures, 1),
        };
        counter.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Acts on the due timers of one kind of aggregate.
///
/// It spawns nothing: `run` is one future. Any number of workers may run at once, on any machines:
/// a claim is one worker's until its lease ends, and the handler verifies it before it saves.
#[derive(Debug)]
pub struct Worker {
    store: Arc<dyn Store>,
    handler: Arc<dyn DueHandler>,
    env: Environment,
    query: DueQuery,
    config: WorkerConfig,
    observer: Arc<dyn WorkerObserver>,
}

/// What a future of the worker came to.
enum Step {
    Claimed { asked: usize, result: Result<Due, TxError> },
    Acted { claim: Claim, result: Result<Result<(), HandlerError>, Elapsed> },
}

type Steps<'a> = FuturesUnordered<BoxFuture<'a, Step>>;

/// What a running worker remembers between two steps.
#[derive(Debug)]
struct Progress {
    /// When to look for due timers next.
    look_at: Option<Monotonic>,
    claiming: bool,
    acting: usize,
}

impl Worker {
    /// Puts a worker together; `owner` names this process in its claims.
    ///
    /// # Errors
    /// [`ConfigError`] names the field that is out of range.
    pub fn new(
        store: Arc<dyn Store>,
        handler: Arc<dyn DueHandler>,
        env: Environment,
        owner: Owner,
        config: WorkerConfig,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let kind = handler.kind().into();
        let query = DueQuery { kind, owner, lease: config.lease, limit: config.claims_max };
        let observer = Arc::new(WorkerStats::default());
        Ok(Self { store, handler, env, query, config, observer })
    }

    /// Tells everything to `observer` from now on.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn WorkerObserver>) -> Self {
        self.observer = observer;
        self
    }

    /// Claims and acts until a stop is requested; then waits for claims being acted on, at most
    /// `drain_timeout`.
    ///
    /// # Cancellation
    /// Claims being acted on are dropped where they stand and claimable again after their lease.
    pub async fn run(self, shutdown: Shutdown) {
        let now = self.env.monotonic();
        let mut progress = Progress { look_at: Some(now), claiming: false, acting: 0 };
        let mut steps = FuturesUnordered::new();
        let mut changed = pin!(self.store.timers_changed());
        loop {
            let wait = self.claim_if_due(&mut progress, &mut steps);
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                Some(step) = steps.next(), if !steps.is_empty() => {
                    self.take(step, &mut progress, &mut steps);
                }
                () = &mut changed => {
                    changed.set(self.store.timers_changed());
                    progress.look_at = Some(self.env.monotonic());
                }
                () = self.env.timer.sleep_until(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
        let drain = async {
            while let Some(step) = steps.next().await {
                if let Step::Acted { claim, result } = step {
                    self.tell(&claim, &result);
                }
            }
        };
        let _ = self.env.timeout(self.config.drain_timeout, drain).await;
    }

    /// Claims when it is time and slots are free; returns when it will be time otherwise.
    fn claim_if_due<'a>(
        &'a self,
        progress: &mut Progress,
        steps: &mut Steps<'a>,
    ) -> Option<Monotonic> {
        let asked = self.config.claims_max.saturating_sub(progress.acting);
        if progress.claiming || asked == 0 {
            return None;
        }
        let look_at = progress.look_at?;
        if look_at > self.env.monotonic() {
            return Some(look_at);
        }
        progress.look_at = None;
        progress.claiming = true;
        steps.push(Box::pin(async move {
            let query = DueQuery { limit: asked, ..self.query.clone() };
            Step::Claimed { asked, result: self.store.claim_or_wait(&query).await }
        }));
        None
    }

    fn take<'a>(&'a self, step: Step, progress: &mut Progress, steps: &mut Steps<'a>) {
        let now = self.env.monotonic();
        let (asked, result) = match step {
            Step::Claimed { asked, result } => (asked, result),
            Step::Acted { claim, result } => {
                progress.acting = progress.acting.saturating_sub(1);
                return self.tell(&claim, &result);
            }
        };
        progress.claiming = false;
        let wait = match result {
            Ok(Due { claims, wait }) => {
                let more = claims.len() >= asked;
                progress.acting = progress.acting.saturating_add(claims.len());
                if !claims.is_empty() {
                    self.observer.observe(&WorkerEvent::Claimed(claims.len()));
                }
                steps.extend(claims.into_iter().map(|claim| self.act(claim)));
                let wait = wait.map_or(self.config.poll, |d| d.max(self.config.poll_min));
                if more { Duration::ZERO } else { wait.min(self.config.poll) }
            }
            Err(error) => {
                self.observer.observe(&WorkerEvent::ClaimFailed(&error));
                self.config.poll
            }
        };
        // A change that came while the claim was out has set an earlier time.
        progress.look_at = progress.look_at.into_iter().chain([now.plus(wait)]).min();
    }

    fn act(&self, claim: Claim) -> BoxFuture<'_, Step> {
        Box::pin(async move {
            let result = self.env.timeout(self.config.lease, self.handler.on_due(&claim)).await;
            Step::Acted { claim, result }
        })
    }

    fn tell(&self, claim: &Claim, result: &Result<Result<(), HandlerError>, Elapsed>) {
        self.observer.observe(&match result {
            Ok(Ok(())) => WorkerEvent::Done(&claim.id),
            Ok(Err(error)) => WorkerEvent::Failed(&claim.id, error),
            Err(Elapsed) => WorkerEvent::TimedOut(&claim.id),
        });
    }
}
