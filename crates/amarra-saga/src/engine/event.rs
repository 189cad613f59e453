//! What is logged: an instance is the fold of these.

use std::sync::Arc;

use amarra_core::{Actor, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::definition::StepIndex;
use crate::request::{Op, SagaId};

/// One entry of a saga's log. Short field names: the log is stored whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The saga began.
    Started {
        /// Its name.
        id: SagaId,
        /// Its input.
        input: Arc<Value>,
        /// When it is undone unless the pivot was sent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
        /// How many steps the definition has.
        steps: u16,
    },
    /// An attempt was asked for; its message, if any, is in the outbox of the same transaction.
    Sent {
        /// The step.
        s: StepIndex,
        /// The operation.
        op: Op,
        /// Counts the attempts from 1.
        n: u32,
        /// When it counts as unknown.
        due: Timestamp,
    },
    /// The attempt is a local call that no driver has begun.
    Queued {
        /// The step.
        s: StepIndex,
    },
    /// A driver began the local call.
    LocalStarted {
        /// The step.
        s: StepIndex,
        /// When it counts as unknown.
        due: Timestamp,
    },
    /// The action succeeded.
    Completed {
        /// The step.
        s: StepIndex,
        /// What it brought.
        out: Arc<Value>,
    },
    /// The action was refused and had no effect.
    Rejected {
        /// The step.
        s: StepIndex,
        /// Why.
        why: Arc<str>,
    },
    /// The action may or may not have had an effect, and will not be tried again.
    Unknown {
        /// The step.
        s: StepIndex,
        /// Why.
        why: Arc<str>,
    },
    /// The action was taken back before it can have had an effect.
    Withdrawn {
        /// The step.
        s: StepIndex,
    },
    /// An attempt failed; the next one follows.
    Delayed {
        /// The step.
        s: StepIndex,
        /// When.
        at: Timestamp,
        /// Whether the failed attempt may have had an effect.
        unsure: bool,
        /// Why it failed.
        why: Arc<str>,
    },
    /// From here on steps are undone.
    Unwinding {
        /// Why.
        cause: Cause,
    },
    /// The compensation succeeded.
    Undone {
        /// The step.
        s: StepIndex,
    },
    /// The operation is not tried again until an operator says so; other steps go on.
    Parked {
        /// The step.
        s: StepIndex,
        /// Why.
        why: Arc<str>,
    },
    /// A success arrived for a step that was already undone or refused: its effect may stand, and
    /// whoever owns the saga has to take it back.
    Late {
        /// The step.
        s: StepIndex,
        /// What it brought.
        out: Arc<Value>,
    },
    /// An operator intervened.
    Operator {
        /// Who.
        by: Actor,
        /// Why.
        reason: Arc<str>,
        /// How.
        verb: Verb,
        /// When.
        at: Timestamp,
    },
    /// The saga ended.
    Ended {
        /// How.
        end: End,
    },
}

/// Why a saga is undone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// A step was refused.
    Rejected(StepIndex),
    /// A step's outcome stayed unknown.
    Unknown(StepIndex),
    /// It was cancelled, with the reason given.
    Cancelled(Arc<str>),
    /// It took too long.
    Deadline,
    /// An operator wants it undone.
    Operator,
}

/// How a saga ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Every step succeeded.
    Completed,
    /// Every effect was undone.
    Compensated,
    /// An operator gave it up: effects may stand.
    Abandoned,
}

/// What an operator can do to a saga.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verb {
    /// Try the step's current operation again now, with a fresh budget of attempts.
    Retry {
        /// The step's name.
        step: Arc<str>,
    },
    /// Take the step's action as done with this output.
    Skip {
        /// The step's name.
        step: Arc<str>,
        /// Its output.
        output: Arc<Value>,
    },
    /// Undo the saga now.
    CompensateNow,
    /// End the saga where it stands.
    Abandon,
    /// Tell the outcome of the step's current operation, learned by other means.
    Resolve {
        /// The step's name.
        step: Arc<str>,
        /// The outcome.
        as_: Resolution,
    },
}

/// The outcome an operator learned by other means.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// It took effect; with the action's output, `null` for a compensation.
    Done(Arc<Value>),
    /// It took no effect: an action counts as refused, a compensation is tried again.
    NotDone,
}
