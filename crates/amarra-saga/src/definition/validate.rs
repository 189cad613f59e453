//! The laws of a definition, checked in time linear in its steps and edges.

use std::collections::BTreeSet;
use std::sync::Arc;

use amarra_core::{Class, Classify};

use super::{Definition, Kind, StepIndex, StepSpec};

/// At most this many steps: an index fits 16 bits in the log.
const STEPS_MAX: usize = 10_000;

/// Why a definition is refused. Class `Fatal`, always: it is a bug in the definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// A name is empty or holds a colon, which separates the parts of a request's key.
    #[error("{0:?} is no name: it must be neither empty nor hold a colon")]
    Name(Arc<str>),
    /// There are no steps, or too many.
    #[error("{0} steps are too few or too many: 1 to {STEPS_MAX}")]
    Size(usize),
    /// Two steps share a name.
    #[error("two steps are called {0:?}")]
    Doubled(Arc<str>),
    /// A dependency names no step of this definition: a node of another builder.
    #[error("step {0:?} depends on a node of another definition")]
    ForeignNode(Arc<str>),
    /// Steps wait for each other.
    #[error("step {0:?} waits for itself")]
    Cycle(Arc<str>),
    /// Two pivots: only one step can decide.
    #[error("step {0:?} is a second pivot")]
    SecondPivot(Arc<str>),
    /// A compensatable step runs beside the pivot or after it: it might have to be undone when it
    /// no longer may be.
    #[error("compensatable step {0:?} is not before the pivot")]
    NotBeforePivot(Arc<str>),
    /// A retriable step runs beside the pivot or before it: it could not be undone when the pivot
    /// is refused.
    #[error("retriable step {0:?} is not after the pivot")]
    NotAfterPivot(Arc<str>),
    /// Both compensatable and retriable steps, and no pivot between them.
    #[error("compensatable and retriable steps need a pivot between them")]
    NoPivot,
    /// A policy is out of range.
    #[error("policy of step {step:?}: {why}")]
    Policy {
        /// The step.
        step: Arc<str>,
        /// Which field, and its range.
        why: &'static str,
    },
    /// A deadline of zero.
    #[error("deadline must be above zero")]
    Deadline,
}

impl Classify for DefinitionError {
    fn class(&self) -> Class {
        Class::Fatal
    }
}

/// Inverts the dependencies.
pub(super) fn dependants(
    name: &Arc<str>,
    steps: &[StepSpec],
) -> Result<Vec<Vec<StepIndex>>, DefinitionError> {
    if steps.is_empty() || steps.len() > STEPS_MAX {
        return Err(DefinitionError::Size(steps.len()));
    }
    if !is_name(name) {
        return Err(DefinitionError::Name(Arc::clone(name)));
    }
    let mut dependants = vec![Vec::new(); steps.len()];
    for (at, step) in steps.iter().enumerate() {
        let at = StepIndex(u16::try_from(at).unwrap_or(u16::MAX));
        for before in &step.after {
            let foreign = || DefinitionError::ForeignNode(Arc::clone(&step.name));
            dependants.get_mut(before.get()).ok_or_else(foreign)?.push(at);
        }
    }
    Ok(dependants)
}

pub(super) fn check(definition: &Definition) -> Result<(), DefinitionError> {
    let mut names = BTreeSet::new();
    for step in definition.steps() {
        if !is_name(&step.name) {
            return Err(DefinitionError::Name(Arc::clone(&step.name)));
        }
        if !names.insert(&step.name) {
            return Err(DefinitionError::Doubled(Arc::clone(&step.name)));
        }
        let policy = |why| DefinitionError::Policy { step: Arc::clone(&step.name), why };
        step.policy.validate().map_err(policy)?;
    }
    if definition.deadline().is_some_and(|deadline| deadline.is_zero()) {
        return Err(DefinitionError::Deadline);
    }
    acyclic(definition)?;
    pivot(definition)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(':')
}

/// Takes away steps that wait for nothing until none is left.
///
/// # Source
/// Kahn, "Topological sorting of large networks", 1962.
fn acyclic(definition: &Definition) -> Result<(), DefinitionError> {
    let mut waits: Vec<usize> = definition.steps().iter().map(|s| s.after.len()).collect();
    let mut ready: Vec<StepIndex> =
        definition.indexes().filter(|at| waits.get(at.get()) == Some(&0)).collect();
    while let Some(at) = ready.pop() {
        for next in definition.dependants(at) {
            if let Some(left) = waits.get_mut(next.get()) {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    ready.push(*next);
                }
            }
        }
    }
    let stuck = definition.steps().iter().zip(waits).find(|(_, left)| *left > 0);
    stuck.map_or(Ok(()), |(step, _)| Err(DefinitionError::Cycle(Arc::clone(&step.name))))
}

/// Every other step must be comparable with the pivot: compensatable before it, retriable after.
fn pivot(definition: &Definition) -> Result<(), DefinitionError> {
    let of = |kind| definition.steps().iter().filter(move |step| step.kind == kind);
    if let Some(second) = of(Kind::Pivot).nth(1) {
        return Err(DefinitionError::SecondPivot(Arc::clone(&second.name)));
    }
    let Some(pivot) = definition.pivot() else {
        let mixed =
            of(Kind::Compensatable).next().is_some() && of(Kind::Retriable).next().is_some();
        return if mixed { Err(DefinitionError::NoPivot) } else { Ok(()) };
    };
    let before = reach(definition, pivot, |at| {
        definition.step(at).map_or(&[][..], |step| step.after.as_slice())
    });
    let after = reach(definition, pivot, |at| definition.dependants(at));
    for (step, (before, after)) in definition.steps().iter().zip(before.iter().zip(after)) {
        match step.kind {
            Kind::Compensatable if !before => {
                return Err(DefinitionError::NotBeforePivot(Arc::clone(&step.name)));
            }
            Kind::Retriable if !after => {
                return Err(DefinitionError::NotAfterPivot(Arc::clone(&step.name)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Marks what can be reached from `start` along `edges`, visiting each step once.
fn reach<'d>(
    definition: &'d Definition,
    start: StepIndex,
    edges: impl Fn(StepIndex) -> &'d [StepIndex],
) -> Vec<bool> {
    let mut seen = vec![false; definition.steps().len()];
    let mut stack = vec![start];
    while let Some(at) = stack.pop() {
        for next in edges(at) {
            if let Some(seen) = seen.get_mut(next.get())
                && !*seen
            {
                *seen = true;
                stack.push(*next);
            }
        }
    }
    seen
}
