//! One saga in a unit of work: its log, its commands and its timer change together.

use std::sync::Arc;

use amarra_core::{Cause, Envelope};
use amarra_messaging::Outgoing;
use amarra_store::{Aggregate, Loaded, Session, TxError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::definition::{Definition, Fingerprint, Saga, StepIndex};
use crate::engine::{
    self, Decision, Event, Input, Outcome, Resolution, State, Status, Verb, local_in_flight,
};
use crate::error::SagaError;
use crate::request::{Op, SagaId};
use crate::step::{Action, CommandDraft, StepContext};
use crate::transition::{Progress, Transition};

/// A saga as stored: the definition it runs and its log.
///
/// The log is the state. Past `log_events_max` entries its older half is folded into `base`, so
/// that a step that is retried for ever does not grow it for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SagaLog {
    /// The definition's name.
    pub definition: Arc<str>,
    /// The definition's version.
    pub version: u32,
    /// The definition's fingerprint when the saga began.
    pub fingerprint: Fingerprint,
    /// Why the saga began: what timers and retries are stamped with.
    pub cause: Cause,
    /// The fold of the entries no longer kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<State>,
    /// The entries.
    pub events: Vec<Event>,
}

impl Aggregate for SagaLog {
    const KIND: &'static str = "saga";
}

impl SagaLog {
    /// Folds the log.
    #[must_use]
    pub fn replay(&self) -> State {
        let mut state = self.base.clone().unwrap_or_default();
        self.events.iter().for_each(|event| engine::apply(&mut state, event));
        state
    }

    fn compact(&mut self, events_max: usize) {
        if self.events.len() <= events_max {
            return;
        }
        let mut base = self.base.take().unwrap_or_default();
        let kept = self.events.split_off(self.events.len().saturating_sub(events_max / 2));
        self.events.iter().for_each(|event| engine::apply(&mut base, event));
        self.base = Some(base);
        self.events = kept;
    }
}

/// What an instance takes from the [`Sagas`](crate::Sagas) that loaded it.
#[derive(Debug, Clone)]
pub(crate) struct Shell {
    pub(crate) source: Arc<str>,
    pub(crate) log_events_max: usize,
}

/// Who gives an input, for the timer's sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A message or a request.
    Handler,
    /// The driver, whose claim ends with this input.
    Driver,
    /// The driver, who makes local calls under its claim after this input.
    DriverBusy,
}

/// One saga as loaded and locked in a unit of work.
///
/// After an error the unit must be rolled back, and this value dropped with it.
#[derive(Debug)]
pub struct Instance {
    id: SagaId,
    saga: Saga,
    shell: Shell,
    loaded: Loaded<SagaLog>,
    log: SagaLog,
    state: State,
}

impl Instance {
    pub(crate) fn new(
        id: SagaId,
        saga: Saga,
        shell: Shell,
        loaded: Loaded<SagaLog>,
        log: SagaLog,
    ) -> Self {
        let state = log.replay();
        Self { id, saga, shell, loaded, log, state }
    }

    /// Returns the saga's name.
    #[must_use]
    pub fn id(&self) -> &SagaId {
        &self.id
    }

    /// Returns the definition it runs.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        self.saga.definition()
    }

    /// Returns its state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.state.status()
    }

    /// Returns its log.
    #[must_use]
    pub fn log(&self) -> &SagaLog {
        &self.log
    }

    /// Gives the saga an input: appends to its log, enqueues the commands it brings about, sets its
    /// timer and saves it, all in the session's unit of work.
    ///
    /// # Errors
    /// [`SagaError`]; the unit must then be rolled back.
    pub async fn input(
        &mut self,
        session: &mut Session<'_>,
        input: Input,
    ) -> Result<Progress, SagaError> {
        self.inputs(session, vec![input], By::Handler).await
    }

    pub(crate) async fn inputs(
        &mut self,
        session: &mut Session<'_>,
        inputs: Vec<Input>,
        by: By,
    ) -> Result<Progress, SagaError> {
        let action = inputs.last().map_or("nothing", input_name);
        let mut turn = Turn::default();
        // A stack: what a step answers at once belongs to the input that asked it, and is given
        // before the next one.
        let mut pending: Vec<Input> = inputs.into_iter().rev().collect();
        let mut first = None;
        while let Some(input) = pending.pop() {
            self.check(&input)?;
            let illegal = |source| SagaError::Illegal { id: self.id.clone(), source };
            let Decision { outcome, events } =
                engine::handle(self.saga.definition(), &mut self.state, input, session.now())
                    .map_err(illegal)?;
            first.get_or_insert(outcome);
            for event in events {
                pending.extend(self.dispatch(&event, &mut turn)?);
                turn.transitions.extend(Transition::of(self.saga.definition(), &event));
                self.log.events.push(event);
                turn.appended = true;
            }
        }
        if turn.appended {
            self.log.compact(self.shell.log_events_max);
            session.save(&mut self.loaded, self.log.clone(), action).await?;
            self.enqueue(session, turn.commands).await?;
        }
        self.schedule(session, by, turn.appended).await?;
        let outcome = first.unwrap_or(Outcome::Stale);
        Ok(Progress { outcome, transitions: turn.transitions, status: self.state.status() })
    }

    /// Refuses outputs that are not of their step's type before anything relies on them.
    fn check(&self, input: &Input) -> Result<(), SagaError> {
        let (step, out) = match input {
            Input::StepCompleted { step, out }
            | Input::Operator { verb: Verb::Skip { step, output: out }, .. }
            | Input::Operator {
                verb: Verb::Resolve { step, as_: Resolution::Done(out) }, ..
            } => (step, out),
            _ => return Ok(()),
        };
        let Some(erased) = self.saga.definition().find(step).and_then(|at| self.saga.step(at))
        else {
            return Ok(());
        };
        let failed = |source| SagaError::Step { id: self.id.clone(), source };
        erased.check_output(step, out).map_err(failed)
    }

    /// Asks the step of a sent attempt what to do; returns what the engine has to be told of it.
    fn dispatch(&self, event: &Event, turn: &mut Turn) -> Result<Option<Input>, SagaError> {
        let Event::Sent { s, op, n, .. } = event else { return Ok(None) };
        let failed = |source| SagaError::Step { id: self.id.clone(), source };
        let definition = self.saga.definition();
        let asked = engine::request_of(definition, &self.state, *s, *op)
            .zip(self.saga.step(*s))
            .zip(engine::input_of(definition, &self.state, *s));
        let ((request, step), input) = asked.ok_or_else(|| TxError::Corrupt {
            what: self.loaded.id.to_string(),
            why: format!("step {} was sent without its inputs", s.0),
        })?;
        let name = Arc::clone(&request.step);
        let ctx = StepContext { request, attempt: *n };
        let effect = match op {
            Op::Action => step.action(&ctx, &input),
            Op::Compensation => step.compensation(&ctx, &input, self.output(*s).as_deref()),
        };
        Ok(match effect.map_err(failed)? {
            Action::Command(draft) => {
                turn.commands.push(draft);
                None
            }
            Action::Sent => None,
            Action::Local => Some(Input::LocalQueued { step: name, op: *op }),
            Action::Done(out) => Some(match op {
                Op::Action => Input::StepCompleted { step: name, out: Arc::new(out) },
                Op::Compensation => Input::CompensationDone { step: name },
            }),
        })
    }

    pub(crate) fn output(&self, at: StepIndex) -> Option<Arc<Value>> {
        self.state.step(at).and_then(|step| step.out.clone())
    }

    async fn enqueue(
        &self,
        session: &mut Session<'_>,
        commands: Vec<CommandDraft>,
    ) -> Result<(), SagaError> {
        if commands.is_empty() {
            return Ok(());
        }
        let cause = session.cause().clone();
        let messages: Vec<Outgoing> = commands
            .into_iter()
            .map(|draft| Outgoing {
                topic: draft.topic,
                envelope: Envelope {
                    id: session.env().new_id(),
                    source: Arc::clone(&self.shell.source),
                    kind: draft.kind.into(),
                    schema_version: draft.schema_version,
                    subject: self.loaded.id.clone(),
                    subject_version: self.loaded.version,
                    partition_key: draft.key,
                    correlation: cause.correlation,
                    causation: cause.causation,
                    actor: cause.actor.clone(),
                    traceparent: cause.traceparent.child(session.env().entropy.as_ref()),
                    time: session.now(),
                    data: draft.data,
                },
            })
            .collect();
        session.unit().enqueue(&messages).await?;
        Ok(())
    }

    async fn schedule(
        &self,
        session: &mut Session<'_>,
        by: By,
        appended: bool,
    ) -> Result<(), SagaError> {
        let now = session.now();
        let skip = match by {
            // A schedule would end the claim under which a driver makes a local call, and its
            // outcome would be lost. The driver sets the timer when it is back, or the lease ends.
            By::Handler => !appended || local_in_flight(&self.state, now),
            By::DriverBusy => true,
            By::Driver => false,
        };
        if !skip {
            let due = engine::next_due(self.saga.definition(), &self.state);
            session.schedule(&self.loaded.id, due.map(|at| at.since(now))).await?;
        }
        Ok(())
    }
}

/// What one turn collects before it is saved.
#[derive(Debug, Default)]
struct Turn {
    commands: Vec<CommandDraft>,
    transitions: Vec<Transition>,
    appended: bool,
}

/// Names an input for the audit chain.
fn input_name(input: &Input) -> &'static str {
    match input {
        Input::Start { .. } => "saga-start",
        Input::StepCompleted { .. } => "saga-step-completed",
        Input::StepFailed { .. } => "saga-step-failed",
        Input::CompensationDone { .. } => "saga-compensation-done",
        Input::CompensationFailed { .. } => "saga-compensation-failed",
        Input::TimerFired => "saga-timer",
        Input::LocalStarted { .. } | Input::LocalQueued { .. } => "saga-local",
        Input::Cancel { .. } => "saga-cancel",
        Input::Operator { verb, .. } => match verb {
            Verb::Retry { .. } => "saga-operator-retry",
            Verb::Skip { .. } => "saga-operator-skip",
            Verb::CompensateNow => "saga-operator-compensate",
            Verb::Abandon => "saga-operator-abandon",
            Verb::Resolve { .. } => "saga-operator-resolve",
        },
    }
}
