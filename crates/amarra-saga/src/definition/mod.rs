//! Definitions: a saga as data, its typed builder, its fingerprint and its pictures.

mod builder;
mod erased;
mod fingerprint;
mod render;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::step::Policy;

pub use builder::{Builder, Compensatable, Edges, Node, Retriable};
pub use erased::{Effect, Saga, StepError};
pub use fingerprint::Fingerprint;
pub use validate::DefinitionError;

/// A step's place in its definition, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepIndex(pub u16);

impl StepIndex {
    /// Returns the index into the definition's steps.
    #[must_use]
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

/// What may happen to a step once it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It can be undone.
    Compensatable,
    /// It decides: once it was sent the saga cannot be cancelled, once it is done it goes forward
    /// only.
    Pivot,
    /// It is tried until it succeeds.
    Retriable,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compensatable => "compensatable",
            Self::Pivot => "pivot",
            Self::Retriable => "retriable",
        })
    }
}

/// Where one value of a step's input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The saga's own input.
    Input,
    /// The output of a step.
    Step(StepIndex),
}

/// How a step's input is put together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Inputs {
    /// There is none: `()`.
    None,
    /// One value, as it is.
    One(Source),
    /// A tuple of values.
    Tuple(Vec<Source>),
}

impl Inputs {
    /// Returns the sources in order.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        match self {
            Self::None => &[],
            Self::One(source) => std::slice::from_ref(source),
            Self::Tuple(sources) => sources,
        }
    }
}

/// One step as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepSpec {
    /// Its name, unique in the definition and without a colon.
    pub name: Arc<str>,
    /// What may happen to it.
    pub kind: Kind,
    /// How its input is put together.
    pub inputs: Inputs,
    /// The steps that must be completed before it: those its input comes from and any others.
    pub after: Vec<StepIndex>,
    /// Its timeouts and retries.
    pub policy: Policy,
}

/// A saga as data: a directed acyclic graph of steps.
///
/// Made by the typed [`Builder`], or from specs by [`Definition::new`]; either way it is validated,
/// so that the engine never meets a malformed one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Definition {
    name: Arc<str>,
    version: u32,
    deadline: Option<Duration>,
    steps: Vec<StepSpec>,
    #[serde(skip)]
    dependants: Vec<Vec<StepIndex>>,
    #[serde(skip)]
    names: BTreeMap<Arc<str>, StepIndex>,
    #[serde(skip)]
    pivot: Option<StepIndex>,
    #[serde(skip)]
    fingerprint: Fingerprint,
}

impl Definition {
    /// Makes a definition of steps; dependencies taken from inputs are added to `after`.
    ///
    /// # Errors
    /// [`DefinitionError`] says what is wrong with which step.
    pub fn new(
        name: impl Into<Arc<str>>,
        version: u32,
        deadline: Option<Duration>,
        mut steps: Vec<StepSpec>,
    ) -> Result<Self, DefinitionError> {
        for step in &mut steps {
            step.after.extend(step.inputs.sources().iter().filter_map(|source| match source {
                Source::Input => None,
                Source::Step(index) => Some(*index),
            }));
            step.after.sort_unstable();
            step.after.dedup();
        }
        let name = name.into();
        let dependants = validate::dependants(&name, &steps)?;
        let pivot = steps.iter().position(|step| step.kind == Kind::Pivot);
        let pivot = pivot.and_then(|at| u16::try_from(at).ok()).map(StepIndex);
        let fingerprint = fingerprint::of(&name, version, &steps);
        let names = steps
            .iter()
            .zip(0u16..)
            .map(|(step, at)| (Arc::clone(&step.name), StepIndex(at)))
            .collect();
        let made = Self { name, version, deadline, steps, dependants, names, pivot, fingerprint };
        made.validate()?;
        Ok(made)
    }

    /// Checks every law a definition must keep; the constructor does so already.
    ///
    /// # Errors
    /// [`DefinitionError`] for the first law broken.
    pub fn validate(&self) -> Result<(), DefinitionError> {
        validate::check(self)
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the version: a change of the fingerprint needs a new one.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns how long after its start a saga that has not sent its pivot is undone, none for
    /// never.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Returns the steps in the order they were defined in.
    #[must_use]
    pub fn steps(&self) -> &[StepSpec] {
        &self.steps
    }

    /// Returns a step.
    #[must_use]
    pub fn step(&self, at: StepIndex) -> Option<&StepSpec> {
        self.steps.get(at.get())
    }

    /// Returns the index of the step called `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<StepIndex> {
        self.names.get(name).copied()
    }

    /// Returns the index of the pivot.
    #[must_use]
    pub fn pivot(&self) -> Option<StepIndex> {
        self.pivot
    }

    /// Tells whether no step can be undone, so that the saga can only go forward.
    #[must_use]
    pub fn is_forward_only(&self) -> bool {
        self.steps.iter().all(|step| step.kind == Kind::Retriable)
    }

    /// Returns the steps that depend on `at` directly.
    #[must_use]
    pub fn dependants(&self, at: StepIndex) -> &[StepIndex] {
        self.dependants.get(at.get()).map_or(&[], Vec::as_slice)
    }

    /// Returns the hash of its structure.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns every index, ascending.
    pub fn indexes(&self) -> impl Iterator<Item = StepIndex> + use<> {
        (0..u16::try_from(self.steps.len()).unwrap_or(u16::MAX)).map(StepIndex)
    }
}
