//! The state of one instance: a fold over its log.

use std::sync::Arc;

use amarra_core::{Actor, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{Cause, End, Event, Verb};
use crate::definition::StepIndex;
use crate::request::{Op, SagaId};

/// At most this many interventions are kept in a state.
pub const INTERVENTIONS_MAX: usize = 256;

/// Where a saga stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It was never started.
    #[default]
    Absent,
    /// Steps are being done.
    Forward,
    /// Steps are being undone.
    Unwinding(Cause),
    /// It is over.
    Ended(End),
}

/// Where a step stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It was not asked for, or was taken back before it can have had an effect.
    #[default]
    Idle,
    /// An operation of it is going on.
    Active(Op, Work),
    /// The action succeeded.
    Completed,
    /// The action was refused and had no effect.
    Rejected,
    /// The action may have had an effect; it waits to be undone.
    Unknown,
    /// It was undone.
    Undone,
}

/// How an operation goes on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A reply is awaited until then.
    Awaiting(Timestamp),
    /// A local call waits for a driver.
    Queued,
    /// A driver makes the local call; it counts as unknown from then on.
    Local(Timestamp),
    /// The next attempt follows then.
    Backoff(Timestamp),
    /// An operator has to decide, for the reason given.
    Parked(Arc<str>),
}

/// One step's state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct StepState {
    /// Where it stands.
    pub stage: Stage,
    /// Attempts of the current operation within its budget.
    pub attempt: u32,
    /// Whether an attempt of the action may have had an effect nobody confirmed.
    pub unsure: bool,
    /// What the action brought; `null` is something, and absent is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub out: Option<Arc<Value>>,
    /// Whether a success arrived too late.
    pub late: bool,
}

fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Arc<Value>>, D::Error> {
    Deserialize::deserialize(d).map(Some)
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Intervention {
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: Arc<str>,
    /// How.
    pub verb: Verb,
    /// When.
    pub at: Timestamp,
}

/// What a saga looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It was never started.
    Absent,
    /// It goes forward.
    Running,
    /// It is being undone.
    Compensating,
    /// Nothing goes on but what an operator has to decide.
    NeedsOperator,
    /// Every step succeeded.
    Completed,
    /// Every effect was undone.
    Compensated,
    /// An operator gave it up.
    Abandoned,
}

impl Status {
    /// Tells whether nothing will happen any more.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated | Self::Abandoned)
    }
}

/// One instance's state.
///
/// Invariant: `completed` and `unsettled` count the steps in those stages, so that the end of a
/// saga is seen without looking at every step.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct State {
    id: Option<SagaId>,
    phase: Phase,
    input: Arc<Value>,
    deadline: Option<Timestamp>,
    steps: Vec<StepState>,
    completed: u16,
    unsettled: u16,
    interventions: Vec<Intervention>,
}

impl State {
    /// Folds a log.
    #[must_use]
    pub fn replay<'e>(log: impl IntoIterator<Item = &'e Event>) -> Self {
        let mut state = Self::default();
        log.into_iter().for_each(|event| apply(&mut state, event));
        state
    }

    /// Returns the saga's name, none before it started.
    #[must_use]
    pub fn id(&self) -> Option<&SagaId> {
        self.id.as_ref()
    }

    /// Returns where the saga stands.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Returns the saga's input.
    #[must_use]
    pub fn input(&self) -> &Arc<Value> {
        &self.input
    }

    /// Returns when the saga is undone unless its pivot was sent.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Returns the steps' states, in the definition's order.
    #[must_use]
    pub fn steps(&self) -> &[StepState] {
        &self.steps
    }

    /// Returns one step's state.
    #[must_use]
    pub fn step(&self, at: StepIndex) -> Option<&StepState> {
        self.steps.get(at.get())
    }

    /// Returns what operators did, oldest first; the newest [`INTERVENTIONS_MAX`]. The store's
    /// audit chain has them all.
    #[must_use]
    pub fn interventions(&self) -> &[Intervention] {
        &self.interventions
    }

    /// Returns how the saga looks from outside.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.phase {
            Phase::Absent => Status::Absent,
            Phase::Ended(End::Completed) => Status::Completed,
            Phase::Ended(End::Compensated) => Status::Compensated,
            Phase::Ended(End::Abandoned) => Status::Abandoned,
            _ if self.is_stuck() => Status::NeedsOperator,
            Phase::Forward => Status::Running,
            Phase::Unwinding(_) => Status::Compensating,
        }
    }

    fn is_stuck(&self) -> bool {
        let mut parked = false;
        for step in &self.steps {
            match step.stage {
                Stage::Active(_, Work::Parked(_)) => parked = true,
                Stage::Active(..) => return false,
                _ => {}
            }
        }
        parked
    }

    pub(super) fn all_completed(&self) -> bool {
        usize::from(self.completed) == self.steps.len()
    }

    pub(super) fn all_settled(&self) -> bool {
        self.unsettled == 0
    }

    pub(super) fn stage(&self, at: StepIndex) -> &Stage {
        self.steps.get(at.get()).map_or(&Stage::Idle, |step| &step.stage)
    }

    fn set(&mut self, at: StepIndex, stage: Stage) {
        let Some(step) = self.steps.get_mut(at.get()) else { return };
        let old = std::mem::replace(&mut step.stage, stage);
        if is_completed(&old) {
            self.completed = self.completed.saturating_sub(1);
        }
        if is_completed(&step.stage) {
            self.completed = self.completed.saturating_add(1);
        }
        if !is_settled(&old) {
            self.unsettled = self.unsettled.saturating_sub(1);
        }
        if !is_settled(&step.stage) {
            self.unsettled = self.unsettled.saturating_add(1);
        }
    }

    fn work(&mut self, at: StepIndex, work: Work) {
        if let Some(Stage::Active(op, _)) = self.steps.get(at.get()).map(|step| &step.stage) {
            self.set(at, Stage::Active(*op, work));
        }
    }

    fn edit(&mut self, at: StepIndex, change: impl FnOnce(&mut StepState)) {
        if let Some(step) = self.steps.get_mut(at.get()) {
            change(step);
        }
    }
}

fn is_completed(stage: &Stage) -> bool {
    matches!(stage, Stage::Completed)
}

/// Tells whether a step has no effect that would still have to be undone.
pub(super) fn is_settled(stage: &Stage) -> bool {
    matches!(stage, Stage::Idle | Stage::Rejected | Stage::Undone)
}

/// Folds one event into the state. An event that does not fit changes nothing.
///
/// # Laws
/// - SGA-1 folding a log from the empty state gives the state that decided it.
pub fn apply(state: &mut State, event: &Event) {
    match event {
        Event::Started { id, input, deadline, steps } => {
            state.id = Some(id.clone());
            state.phase = Phase::Forward;
            state.input = Arc::clone(input);
            state.deadline = *deadline;
            state.steps = vec![StepState::default(); usize::from(*steps)];
        }
        Event::Sent { s, op, n, due } => {
            state.edit(*s, |step| step.attempt = *n);
            state.set(*s, Stage::Active(*op, Work::Awaiting(*due)));
        }
        Event::Queued { s } => state.work(*s, Work::Queued),
        Event::LocalStarted { s, due } => state.work(*s, Work::Local(*due)),
        Event::Completed { s, out } => {
            state.edit(*s, |step| step.out = Some(Arc::clone(out)));
            state.set(*s, Stage::Completed);
        }
        Event::Rejected { s, .. } => state.set(*s, Stage::Rejected),
        Event::Unknown { s, .. } => state.set(*s, Stage::Unknown),
        Event::Withdrawn { s } => state.set(*s, Stage::Idle),
        Event::Delayed { s, at, unsure, .. } => {
            state.edit(*s, |step| step.unsure |= *unsure);
            state.work(*s, Work::Backoff(*at));
        }
        Event::Unwinding { cause } => state.phase = Phase::Unwinding(cause.clone()),
        Event::Undone { s } => state.set(*s, Stage::Undone),
        Event::Parked { s, why } => state.work(*s, Work::Parked(Arc::clone(why))),
        Event::Late { s, .. } => state.edit(*s, |step| step.late = true),
        Event::Operator { by, reason, verb, at } => {
            let (by, reason) = (by.clone(), Arc::clone(reason));
            state.interventions.push(Intervention { by, reason, verb: verb.clone(), at: *at });
            if state.interventions.len() > INTERVENTIONS_MAX {
                state.interventions.remove(0);
            }
        }
        Event::Ended { end } => state.phase = Phase::Ended(*end),
    }
}
