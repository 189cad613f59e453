//! What the shell around the engine asks of a state.

use std::sync::Arc;

use amarra_core::Timestamp;
use serde_json::Value;

use super::{Phase, Stage, State, Work};
use crate::definition::{Definition, Inputs, Source, StepIndex};
use crate::request::{Op, Request};

/// A local call to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The step.
    pub step: StepIndex,
    /// The operation.
    pub op: Op,
    /// Counts the attempts from 1.
    pub attempt: u32,
}

/// Returns when the saga has to be looked at next: a timeout, a retry, the deadline, or at once for
/// a local call nobody has begun. None when only a reply or an operator can bring it on, or never.
#[must_use]
pub fn next_due(definition: &Definition, state: &State) -> Option<Timestamp> {
    if matches!(state.phase(), Phase::Absent | Phase::Ended(_)) {
        return None;
    }
    let steps = state.steps().iter().filter_map(|step| match &step.stage {
        Stage::Active(_, Work::Awaiting(at) | Work::Local(at) | Work::Backoff(at)) => Some(*at),
        Stage::Active(_, Work::Queued) => Some(Timestamp::EPOCH),
        _ => None,
    });
    let pivot_idle = definition.pivot().is_none_or(|at| matches!(state.stage(at), Stage::Idle));
    let reversible =
        matches!(state.phase(), Phase::Forward) && pivot_idle && !definition.is_forward_only();
    let deadline = state.deadline().filter(|_| reversible);
    steps.chain(deadline).min()
}

/// Returns the local calls nobody has begun.
#[must_use]
pub fn queued(state: &State) -> Vec<Call> {
    if matches!(state.phase(), Phase::Ended(_)) {
        return Vec::new();
    }
    let call = |(at, step): (usize, &super::StepState)| match step.stage {
        Stage::Active(op, Work::Queued) => {
            let at = StepIndex(u16::try_from(at).ok()?);
            Some(Call { step: at, op, attempt: step.attempt })
        }
        _ => None,
    };
    state.steps().iter().enumerate().filter_map(call).collect()
}

/// Tells whether a driver may be making a local call at `now`.
#[must_use]
pub fn local_in_flight(state: &State, now: Timestamp) -> bool {
    let in_flight = |step: &super::StepState| match step.stage {
        Stage::Active(_, Work::Local(due)) => due > now,
        _ => false,
    };
    !matches!(state.phase(), Phase::Ended(_)) && state.steps().iter().any(in_flight)
}

/// Puts a step's input together from what is recorded; none while something is missing.
#[must_use]
pub fn input_of(definition: &Definition, state: &State, at: StepIndex) -> Option<Value> {
    let value = |source: &Source| match source {
        Source::Input => Some(state.input().as_ref().clone()),
        Source::Step(at) => state.step(*at)?.out.as_deref().cloned(),
    };
    match &definition.step(at)?.inputs {
        Inputs::None => Some(Value::Null),
        Inputs::One(source) => value(source),
        Inputs::Tuple(sources) => {
            sources.iter().map(value).collect::<Option<_>>().map(Value::Array)
        }
    }
}

/// Returns the idempotency key of an operation.
#[must_use]
pub fn request_of(
    definition: &Definition,
    state: &State,
    at: StepIndex,
    op: Op,
) -> Option<Request> {
    let step = definition.step(at)?;
    Some(Request::new(state.id()?.clone(), Arc::clone(&step.name), op))
}
