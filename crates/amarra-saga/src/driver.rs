//! The driver: acts on due timers and makes local calls, under a claim and its fencing epoch.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Actor, AggregateId, Cause, Class, Classify, Environment};
use amarra_store::unit::StoredState;
use amarra_store::{Aggregate, Claim, DueHandler, HandlerError, Session, Store, TxError};
use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::Value;

use crate::engine::{self, Input};
use crate::instance::{By, Instance, SagaLog};
use crate::request::{Request, SagaId};
use crate::store::Sagas;
use crate::transition::Progress;

/// A local call as its implementation sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCall {
    /// The idempotency key, equal for every attempt; it names the saga, the step and the operation.
    pub request: Request,
    /// Counts the attempts from 1.
    pub attempt: u32,
    /// The step's input.
    pub input: Value,
    /// For a compensation, what the action brought, if that is known.
    pub output: Option<Value>,
}

/// Why a local call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct LocalError {
    /// What is known of its effect.
    pub class: Class,
    /// Why, in words for an operator.
    pub why: Arc<str>,
}

impl LocalError {
    /// Makes an error of `class`.
    #[must_use]
    pub fn new(class: Class, why: &str) -> Self {
        Self { class, why: why.into() }
    }
}

impl Classify for LocalError {
    fn class(&self) -> Class {
        self.class
    }
}

/// The port of steps that are local async calls.
///
/// # Laws
/// - LOC-1 calls with one request have one effect, however often they are made.
#[async_trait]
pub trait LocalStep: Send + Sync + fmt::Debug {
    /// Does the operation and returns the step's output, `null` for a compensation.
    ///
    /// # Errors
    /// [`LocalError`]; its class says what becomes of the step.
    ///
    /// # Cancellation
    /// Dropped at the step's timeout; the outcome then counts as unknown.
    async fn run(&self, call: &LocalCall) -> Result<Value, LocalError>;
}

/// Applies what the driver brought about to the owner's own aggregates, in the same unit of work.
#[async_trait]
pub trait Hooks: Send + Sync + fmt::Debug {
    /// Names the aggregates that [`Hooks::apply`] will load, so that they and the saga are locked
    /// in id order.
    fn touches(&self, id: &SagaId) -> Vec<AggregateId> {
        let _ = id;
        Vec::new()
    }

    /// Applies a saga's transitions.
    ///
    /// # Errors
    /// [`HandlerError`]: the unit is rolled back, and the claim is acted on again after its lease.
    async fn apply(
        &self,
        session: &mut Session<'_>,
        id: &SagaId,
        progress: &Progress,
    ) -> Result<(), HandlerError>;
}

/// How a worker appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendConfig {
    /// Runs of one unit of work before its error is returned, at least 1. A local call's outcome is
    /// lost, and the step tried again after its timeout, when none of them succeeds.
    pub append_attempts_max: u32,
    /// The wait between two of them.
    pub append_backoff: Duration,
}

impl Default for AppendConfig {
    /// Five runs, 20 ms apart.
    fn default() -> Self {
        Self { append_attempts_max: 5, append_backoff: Duration::from_millis(20) }
    }
}

impl AppendConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The name of the field out of its range, and what the range is.
    pub fn validate(&self) -> Result<(), &'static str> {
        if self.append_attempts_max == 0 {
            return Err("append_attempts_max must be at least 1");
        }
        Ok(())
    }
}

/// Brings on sagas whose timer is due: timeouts, retries, deadlines and local calls.
///
/// A crash anywhere is healed by the next claim: what was committed is in the log, and what was not
/// is decided again. Nobody needs to know which executor died.
///
/// # Laws
/// - WRK-1 nothing is appended under a claim that was superseded.
/// - WRK-2 no transaction is open while a local call is made.
/// - WRK-3 a local call is made at most once per attempt, after its beginning was committed.
#[derive(Debug)]
pub struct SagaWorker {
    store: Arc<dyn Store>,
    env: Environment,
    source: Arc<str>,
    sagas: Arc<Sagas>,
    config: AppendConfig,
    hooks: Option<Arc<dyn Hooks>>,
    locals: BTreeMap<(Arc<str>, Arc<str>), Arc<dyn LocalStep>>,
}

/// A local call with what it takes to make it.
#[derive(Debug)]
struct Prepared {
    call: LocalCall,
    timeout: Duration,
    step: Option<Arc<dyn LocalStep>>,
}

impl SagaWorker {
    /// Makes a worker on a service's store; `source` names the service.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, env: Environment, source: &str, sagas: Arc<Sagas>) -> Self {
        Self {
            store,
            env,
            source: source.into(),
            sagas,
            config: AppendConfig::default(),
            hooks: None,
            locals: BTreeMap::new(),
        }
    }

    /// Sets how it appends.
    ///
    /// # Errors
    /// See [`AppendConfig::validate`].
    pub fn configure(mut self, config: AppendConfig) -> Result<Self, &'static str> {
        config.validate()?;
        self.config = config;
        Ok(self)
    }

    /// Sets what applies transitions to the owner's aggregates.
    #[must_use]
    pub fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.hooks = Some(hooks);
        self
    }

    /// Registers the implementation of a step whose action or compensation is
    /// [`Action::Local`](crate::Action::Local).
    #[must_use]
    pub fn local(mut self, saga: &str, step: &str, local: Arc<dyn LocalStep>) -> Self {
        self.locals.insert((saga.into(), step.into()), local);
        self
    }

    /// Runs one unit of work, again while its failure allows.
    async fn append(
        &self,
        claim: &Claim,
        outcomes: &[Input],
    ) -> Result<Vec<Prepared>, HandlerError> {
        let mut attempt = 1;
        loop {
            let error = match self.turn(claim, outcomes).await {
                Ok(calls) => return Ok(calls),
                Err(error) => error,
            };
            let again = matches!(error.class(), Class::Transient | Class::Unknown);
            if !again || attempt >= self.config.append_attempts_max {
                return Err(error);
            }
            attempt = attempt.saturating_add(1);
            self.env.sleep(self.config.append_backoff).await;
        }
    }

    /// One unit of work: appends the outcomes, acts on what is due, and begins queued local calls.
    async fn turn(&self, claim: &Claim, outcomes: &[Input]) -> Result<Vec<Prepared>, HandlerError> {
        let id = SagaId::new(Arc::clone(&claim.id.id));
        let mut ids = self.hooks.as_ref().map_or_else(Vec::new, |hooks| hooks.touches(&id));
        ids.push(claim.id.clone());
        let (mut unit, states) = self.store.begin_claimed(claim, &ids).await?;
        let Some(cause) = self.cause(claim, states.last())? else {
            unit.schedule(&claim.id, None).await?;
            unit.commit().await?;
            return Ok(Vec::new());
        };
        let calls = {
            let mut session = Session::new(unit.as_mut(), &self.env, &self.source, cause);
            let mut saga = self.sagas.load(&mut session, &id).await?;
            let mut progress = Vec::new();
            if !outcomes.is_empty() {
                let by = By::DriverBusy;
                progress.push(saga.inputs(&mut session, outcomes.to_vec(), by).await?);
            }
            progress
                .push(saga.inputs(&mut session, vec![Input::TimerFired], By::DriverBusy).await?);
            let calls = self.prepare(&saga);
            let started = |call: &Prepared| {
                let Request { step, op, .. } = call.call.request.clone();
                Input::LocalStarted { step, op }
            };
            let begin: Vec<Input> = calls.iter().map(started).collect();
            let by = if calls.is_empty() { By::Driver } else { By::DriverBusy };
            progress.push(saga.inputs(&mut session, begin, by).await?);
            if let Some(hooks) = &self.hooks {
                for progress in progress.iter().filter(|p| !p.transitions.is_empty()) {
                    hooks.apply(&mut session, &id, progress).await?;
                }
            }
            calls
        };
        unit.commit().await?;
        Ok(calls)
    }

    /// Returns why the saga runs, none when there is no such saga.
    fn cause(
        &self,
        claim: &Claim,
        stored: Option<&StoredState>,
    ) -> Result<Option<Cause>, HandlerError> {
        let Some(StoredState { body, .. }) = stored.filter(|stored| !stored.body.is_empty()) else {
            return Ok(None);
        };
        let log: SagaLog = serde_json::from_slice(body)
            .map_err(|e| TxError::Corrupt { what: claim.id.to_string(), why: e.to_string() })?;
        let actor = Actor::Timer(Arc::clone(&self.source));
        Ok(Some(Cause { actor, ..log.cause }))
    }

    fn prepare(&self, saga: &Instance) -> Vec<Prepared> {
        let definition = saga.definition();
        let prepared = |call: engine::Call| {
            let request = engine::request_of(definition, saga.state(), call.step, call.op)?;
            let policy = definition.step(call.step)?.policy;
            let key = (Arc::clone(definition.name()), Arc::clone(&request.step));
            Some(Prepared {
                call: LocalCall {
                    request,
                    attempt: call.attempt,
                    input: engine::input_of(definition, saga.state(), call.step)?,
                    output: saga.output(call.step).as_deref().cloned(),
                },
                timeout: match call.op {
                    crate::Op::Action => policy.timeout,
                    crate::Op::Compensation => policy.compensation_timeout,
                },
                step: self.locals.get(&key).cloned(),
            })
        };
        engine::queued(saga.state()).into_iter().filter_map(prepared).collect()
    }

    async fn call(&self, prepared: Prepared) -> Input {
        let Prepared { call, timeout, step } = prepared;
        let missing = || LocalError::new(Class::Fatal, "no local step is registered for it");
        let result = match &step {
            None => Err(missing()),
            Some(step) => match self.env.timeout(timeout, step.run(&call)).await {
                Ok(result) => result,
                Err(elapsed) => Err(LocalError::new(Class::Unknown, &elapsed.to_string())),
            },
        };
        Input::reply(&call.request, result.map_err(|e| (e.class, e.why)))
    }
}

#[async_trait]
impl DueHandler for SagaWorker {
    fn kind(&self) -> &str {
        SagaLog::KIND
    }

    async fn on_due(&self, claim: &Claim) -> Result<(), HandlerError> {
        let mut outcomes = Vec::new();
        loop {
            let calls = match self.append(claim, &outcomes).await {
                Ok(calls) => calls,
                // Somebody else took over, and knows at least as much.
                Err(HandlerError::Tx(TxError::Fenced { .. })) => return Ok(()),
                Err(error) => return Err(error),
            };
            if calls.is_empty() {
                return Ok(());
            }
            outcomes = join_all(calls.into_iter().map(|call| self.call(call))).await;
        }
    }
}
