//! What the engine is told, and what it answers.

use std::sync::Arc;

use amarra_core::{Actor, Class, Classify};
use serde_json::Value;

use super::event::{Event, Verb};
use crate::request::{Op, Request, SagaId};

/// Something the engine is told. Steps are named as in the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// Begin.
    Start {
        /// The saga's name.
        id: SagaId,
        /// Its input.
        input: Arc<Value>,
    },
    /// A step's action succeeded.
    StepCompleted {
        /// The step.
        step: Arc<str>,
        /// Its output.
        out: Arc<Value>,
    },
    /// A step's action failed.
    ///
    /// `Rejected` is final: the participant recorded the refusal, had no effect, and will answer
    /// the same to every delivery of the request; it is never retried, and never undone. Everything
    /// else is retried by the policy: of a local call `Transient` and `Conflict` mean that it had
    /// no effect, of a command nothing does, since another delivery of it may be applied yet.
    /// `Fatal` is not retried.
    StepFailed {
        /// The step.
        step: Arc<str>,
        /// What is known of it.
        class: Class,
        /// Why, in words.
        why: Arc<str>,
    },
    /// A step's compensation succeeded, or found nothing to undo.
    CompensationDone {
        /// The step.
        step: Arc<str>,
    },
    /// A step's compensation failed. It is tried again, and parked by its policy; `Rejected` and
    /// `Fatal` park at once.
    CompensationFailed {
        /// The step.
        step: Arc<str>,
        /// What is known of it.
        class: Class,
        /// Why, in words.
        why: Arc<str>,
    },
    /// Time has passed.
    TimerFired,
    /// A driver begins the queued local call of a step.
    LocalStarted {
        /// The step.
        step: Arc<str>,
        /// The operation.
        op: Op,
    },
    /// The shell found the attempt just sent to be a local call.
    LocalQueued {
        /// The step.
        step: Arc<str>,
        /// The operation.
        op: Op,
    },
    /// Undo the saga, if its pivot was not sent.
    Cancel {
        /// Why.
        reason: Arc<str>,
    },
    /// An operator intervenes.
    Operator {
        /// Who.
        by: Actor,
        /// Why.
        reason: Arc<str>,
        /// How.
        verb: Verb,
    },
}

impl Input {
    /// Makes the input of a reply that says a step succeeded.
    #[must_use]
    pub fn completed(step: &str, out: Value) -> Self {
        Self::StepCompleted { step: step.into(), out: Arc::new(out) }
    }

    /// Makes the input of a reply that says a step was refused and had no effect.
    #[must_use]
    pub fn rejected(step: &str, why: &str) -> Self {
        Self::StepFailed { step: step.into(), class: Class::Rejected, why: why.into() }
    }

    /// Makes the input for a step whose outcome is not known.
    #[must_use]
    pub fn unknown(step: &str, why: &str) -> Self {
        Self::StepFailed { step: step.into(), class: Class::Unknown, why: why.into() }
    }

    /// Makes the input of a reply that says a step was undone.
    #[must_use]
    pub fn undone(step: &str) -> Self {
        Self::CompensationDone { step: step.into() }
    }

    /// Makes the input of a correlated reply: success with the output, ignored for a compensation,
    /// or failure.
    #[must_use]
    pub fn reply(request: &Request, result: Result<Value, (Class, Arc<str>)>) -> Self {
        let step = Arc::clone(&request.step);
        match (request.op, result) {
            (Op::Action, Ok(out)) => Self::StepCompleted { step, out: Arc::new(out) },
            (Op::Action, Err((class, why))) => Self::StepFailed { step, class, why },
            (Op::Compensation, Ok(_)) => Self::CompensationDone { step },
            (Op::Compensation, Err((class, why))) => Self::CompensationFailed { step, class, why },
        }
    }
}

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was applied.
    Applied,
    /// It changes nothing: a duplicate, or overtaken by what happened since.
    Stale,
    /// A step succeeded after it was undone or refused. The owner has to take its effect back.
    LateSuccess,
    /// The saga can no longer be undone: the pivot was sent, or there is nothing but forward.
    TooLate,
}

/// What became of an input, and what to append to the log for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What became of the input.
    pub outcome: Outcome,
    /// The events, already folded into the state that decided.
    pub events: Vec<Event>,
}

/// Why an input is refused: nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Illegal {
    /// No such step. Class `Fatal`: the reply or the operator named a step of another definition.
    #[error("the definition has no step {0:?}")]
    NoSuchStep(Arc<str>),
    /// The saga was never started. Class `Rejected`.
    #[error("the saga was never started")]
    NotStarted,
    /// The saga has ended. Class `Rejected`: an operator's verb came too late.
    #[error("the saga has ended")]
    Ended,
    /// The verb does not apply to the step as it stands. Class `Rejected`: look at it again.
    #[error("{verb} does not apply to step {step:?}: {why}")]
    Verb {
        /// The verb.
        verb: &'static str,
        /// The step.
        step: Arc<str>,
        /// Why not.
        why: &'static str,
    },
    /// The log was written under a definition of another size. Class `Fatal`.
    #[error("the log has {log} steps, the definition has {definition}")]
    OtherDefinition {
        /// Steps in the log.
        log: usize,
        /// Steps in the definition.
        definition: usize,
    },
}

impl Classify for Illegal {
    fn class(&self) -> Class {
        match self {
            Self::NoSuchStep(_) | Self::OtherDefinition { .. } => Class::Fatal,
            Self::NotStarted | Self::Ended | Self::Verb { .. } => Class::Rejected,
        }
    }
}
