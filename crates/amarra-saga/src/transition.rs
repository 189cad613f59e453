//! What happened to a saga, with names: for the owner to apply to its own aggregate.

use std::sync::Arc;

use serde_json::Value;

use crate::definition::{Definition, StepIndex};
use crate::engine::{Cause, End, Event, Outcome, Status};
use crate::request::Op;

/// One thing that happened to a saga.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transition {
    /// It began.
    Started,
    /// An operation of a step was asked for.
    Sent {
        /// The step.
        step: Arc<str>,
        /// The operation.
        op: Op,
        /// Counts the attempts from 1.
        attempt: u32,
    },
    /// A step succeeded.
    Completed {
        /// The step.
        step: Arc<str>,
        /// Its output.
        out: Arc<Value>,
    },
    /// A step was refused and had no effect.
    Rejected {
        /// The step.
        step: Arc<str>,
        /// Why.
        why: Arc<str>,
    },
    /// A step's outcome will not be known.
    Unknown {
        /// The step.
        step: Arc<str>,
        /// Why.
        why: Arc<str>,
    },
    /// From here on steps are undone.
    Unwinding {
        /// Why.
        cause: Cause,
    },
    /// A step was undone.
    Undone {
        /// The step.
        step: Arc<str>,
    },
    /// An operator has to decide about a step.
    Parked {
        /// The step.
        step: Arc<str>,
        /// Why.
        why: Arc<str>,
    },
    /// A step succeeded after it was undone or refused: take its effect back.
    LateSuccess {
        /// The step.
        step: Arc<str>,
        /// Its output.
        out: Arc<Value>,
    },
    /// It ended.
    Ended(End),
}

impl Transition {
    pub(crate) fn of(definition: &Definition, event: &Event) -> Option<Self> {
        let name = |s: &StepIndex| definition.step(*s).map(|step| Arc::clone(&step.name));
        Some(match event {
            Event::Started { .. } => Self::Started,
            Event::Sent { s, op, n, .. } => Self::Sent { step: name(s)?, op: *op, attempt: *n },
            Event::Completed { s, out } => Self::Completed { step: name(s)?, out: Arc::clone(out) },
            Event::Rejected { s, why } => Self::Rejected { step: name(s)?, why: Arc::clone(why) },
            Event::Unknown { s, why } => Self::Unknown { step: name(s)?, why: Arc::clone(why) },
            Event::Unwinding { cause } => Self::Unwinding { cause: cause.clone() },
            Event::Undone { s } => Self::Undone { step: name(s)? },
            Event::Parked { s, why } => Self::Parked { step: name(s)?, why: Arc::clone(why) },
            Event::Late { s, out } => Self::LateSuccess { step: name(s)?, out: Arc::clone(out) },
            Event::Ended { end } => Self::Ended(*end),
            Event::Queued { .. }
            | Event::LocalStarted { .. }
            | Event::Withdrawn { .. }
            | Event::Delayed { .. }
            | Event::Operator { .. } => return None,
        })
    }
}

/// What an input brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What became of the input.
    pub outcome: Outcome,
    /// What happened, in order; empty when nothing did.
    pub transitions: Vec<Transition>,
    /// Where the saga stands now.
    pub status: Status,
}
