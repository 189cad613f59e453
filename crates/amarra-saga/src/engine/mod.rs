//! The pure engine: what an input brings about, as events folded into a state.

mod event;
mod forward;
mod input;
mod operator;
mod query;
mod state;
mod unwind;

use std::sync::Arc;

use amarra_core::{Class, Timestamp};

use crate::definition::{Definition, Kind, StepIndex, StepSpec};
use crate::request::{Op, Request, SagaId};

pub use event::{Cause, End, Event, Resolution, Verb};
pub use input::{Decision, Illegal, Input, Outcome};
pub use query::{Call, input_of, local_in_flight, next_due, queued, request_of};
pub use state::{
    INTERVENTIONS_MAX, Intervention, Phase, Stage, State, Status, StepState, Work, apply,
};

/// Decides what an input brings about and folds it into the state.
///
/// It is a function: no clock, no randomness, no I/O. Its cost is linear in the steps an input
/// reaches, except when it starts undoing a saga or looks at every timer, which is linear in the
/// definition.
///
/// # Laws
/// - SGA-1 folding the events into the state as it was gives the state as it is.
/// - SGA-2 the same input again is `Stale`, and brings about nothing.
/// - SGA-3 no step is asked for before all it depends on is completed, and none once undoing began.
/// - SGA-4 no step is undone before every step that depends on it is undone or had no effect.
/// - SGA-5 a step whose outcome is unknown is undone like a completed one; a rejected one is not.
/// - SGA-6 nothing is undone once the pivot was sent, unless the pivot is rejected.
/// - SGA-7 a compensation never fails the saga: it is tried again, then parked, and others go on.
/// - SGA-8 while a saga has not ended and needs no operator, [`next_due`] names a time.
///
/// # Errors
/// [`Illegal`]; the state is then unchanged.
///
/// # Example
/// ```
/// # use std::sync::Arc;
/// # use amarra_core::Timestamp;
/// # use amarra_saga::definition::{Definition, Inputs, Kind, StepIndex, StepSpec};
/// # use amarra_saga::engine::{self, Input, State, Status};
/// # use amarra_saga::{Policy, SagaId};
/// let step = |name: &str, after: &[u16]| StepSpec {
///     name: name.into(),
///     kind: Kind::Compensatable,
///     inputs: Inputs::None,
///     after: after.iter().copied().map(StepIndex).collect(),
///     policy: Policy::default(),
/// };
/// let trip = Definition::new("trip", 1, None, vec![step("hotel", &[]), step("flight", &[0])])?;
///
/// let (mut state, now) = (State::default(), Timestamp::from_micros(0));
/// let start = Input::Start { id: SagaId::from("t-1"), input: Arc::default() };
/// engine::handle(&trip, &mut state, start, now)?;
/// engine::handle(&trip, &mut state, Input::completed("hotel", "room 7".into()), now)?;
/// engine::handle(&trip, &mut state, Input::rejected("flight", "full"), now)?;
/// assert_eq!(state.status(), Status::Compensating);
/// engine::handle(&trip, &mut state, Input::undone("hotel"), now)?;
/// assert_eq!(state.status(), Status::Compensated);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn handle(
    definition: &Definition,
    state: &mut State,
    input: Input,
    now: Timestamp,
) -> Result<Decision, Illegal> {
    let mut turn = Turn { definition, state, now, events: Vec::new() };
    let outcome = turn.input(input)?;
    Ok(Decision { outcome, events: turn.events })
}

/// Decides without touching the state: [`handle`] on a copy.
///
/// # Errors
/// [`Illegal`], as [`handle`].
pub fn decide(
    definition: &Definition,
    state: &State,
    input: Input,
    now: Timestamp,
) -> Result<Decision, Illegal> {
    handle(definition, &mut state.clone(), input, now)
}

/// One input being decided: every event is folded as it is emitted, so that the next decision of
/// the same turn sees it.
struct Turn<'a> {
    definition: &'a Definition,
    state: &'a mut State,
    now: Timestamp,
    events: Vec<Event>,
}

impl<'a> Turn<'a> {
    fn input(&mut self, input: Input) -> Result<Outcome, Illegal> {
        if let Input::Start { id, input } = input {
            return self.start(id, input);
        }
        let (log, definition) = (self.state.steps().len(), self.definition.steps().len());
        match self.state.phase() {
            Phase::Absent => return Err(Illegal::NotStarted),
            _ if log != definition => return Err(Illegal::OtherDefinition { log, definition }),
            _ => {}
        }
        let definition = self.definition;
        let named = |step: Arc<str>| definition.find(&step).ok_or(Illegal::NoSuchStep(step));
        match input {
            Input::Start { .. } => Ok(Outcome::Stale),
            Input::StepCompleted { step, out } => Ok(self.step_completed(named(step)?, out)),
            Input::StepFailed { step, class, why } => {
                Ok(self.step_failed(named(step)?, class, why))
            }
            Input::CompensationDone { step } => Ok(self.compensation_done(named(step)?)),
            Input::CompensationFailed { step, class, why } => {
                Ok(self.compensation_failed(named(step)?, class, why))
            }
            Input::TimerFired => Ok(self.timer_fired()),
            Input::LocalQueued { step, op } => Ok(self.local_queued(named(step)?, op)),
            Input::LocalStarted { step, op } => Ok(self.local_started(named(step)?, op)),
            Input::Cancel { reason } => Ok(self.cancel(reason)),
            Input::Operator { by, reason, verb } => self.operator(by, reason, verb),
        }
    }

    fn emit(&mut self, event: Event) {
        apply(self.state, &event);
        self.events.push(event);
    }

    fn spec(&self, at: StepIndex) -> Option<&'a StepSpec> {
        self.definition.step(at)
    }

    fn kind(&self, at: StepIndex) -> Kind {
        self.spec(at).map_or(Kind::Retriable, |spec| spec.kind)
    }

    fn is_forward(&self) -> bool {
        matches!(self.state.phase(), Phase::Forward)
    }

    fn is_ended(&self) -> bool {
        matches!(self.state.phase(), Phase::Ended(_))
    }

    /// Asks for attempt `n` of an operation.
    fn send(&mut self, at: StepIndex, op: Op, n: u32) {
        let due = self.now.plus(self.timeout(at, op));
        self.emit(Event::Sent { s: at, op, n, due });
    }

    fn timeout(&self, at: StepIndex, op: Op) -> std::time::Duration {
        let policy = self.spec(at).map(|spec| spec.policy).unwrap_or_default();
        match op {
            Op::Action => policy.timeout,
            Op::Compensation => policy.compensation_timeout,
        }
    }

    /// Lets a failed attempt wait for its next one.
    fn delay(&mut self, at: StepIndex, op: Op, unsure: bool, why: Arc<str>) {
        let Some(spec) = self.spec(at) else { return };
        let id = self.state.id().cloned().unwrap_or_else(|| SagaId::from(""));
        let request = Request::new(id, Arc::clone(&spec.name), op);
        let attempt = self.state.step(at).map_or(1, |step| step.attempt);
        let wait = spec.policy.backoff.delay(&request, attempt);
        self.emit(Event::Delayed { s: at, at: self.now.plus(wait), unsure, why });
    }

    fn timer_fired(&mut self) -> Outcome {
        if self.is_ended() {
            return Outcome::Stale;
        }
        if self.state.deadline().is_some_and(|at| at <= self.now) && self.can_unwind() {
            self.unwind(Cause::Deadline);
        }
        for at in self.definition.indexes() {
            let Stage::Active(op, work) = self.state.stage(at).clone() else { continue };
            match work {
                Work::Awaiting(due) | Work::Local(due) if due <= self.now => match op {
                    Op::Action => {
                        self.attempt_failed(at, Class::Unknown, "no answer in time".into())
                    }
                    Op::Compensation => {
                        self.undo_failed(at, Class::Unknown, "no answer in time".into());
                    }
                },
                Work::Backoff(due) if due <= self.now => {
                    let n = self.state.step(at).map_or(1, |step| step.attempt.saturating_add(1));
                    self.send(at, op, n);
                }
                _ => {}
            }
        }
        if self.events.is_empty() { Outcome::Stale } else { Outcome::Applied }
    }

    fn local_queued(&mut self, at: StepIndex, op: Op) -> Outcome {
        match self.state.stage(at) {
            Stage::Active(now, Work::Awaiting(_)) if *now == op && !self.is_ended() => {
                self.emit(Event::Queued { s: at });
                Outcome::Applied
            }
            _ => Outcome::Stale,
        }
    }

    fn local_started(&mut self, at: StepIndex, op: Op) -> Outcome {
        match self.state.stage(at) {
            Stage::Active(now, Work::Queued) if *now == op && !self.is_ended() => {
                let due = self.now.plus(self.timeout(at, op));
                self.emit(Event::LocalStarted { s: at, due });
                Outcome::Applied
            }
            _ => Outcome::Stale,
        }
    }
}
