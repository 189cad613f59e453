//! A definition with its steps, whose types are erased behind JSON values.

use std::fmt;
use std::sync::Arc;

use amarra_core::{Class, Classify, CodecError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::builder::{Builder, Compensatable, Retriable};
use super::{Definition, StepIndex};
use crate::step::{Action, Compensate, Step, StepContext};

/// An [`Action`] whose output is encoded.
pub type Effect = Action<Value>;

/// Why a step could not say what to do. Class `Fatal`: a bug in the step or a corrupt log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// Its command does not encode.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Its recorded input or output is not of its type.
    #[error("{what} of step {step:?} does not decode: {why}")]
    Value {
        /// The step.
        step: Arc<str>,
        /// Its input or its output.
        what: &'static str,
        /// What the parser said.
        why: String,
    },
}

impl Classify for StepError {
    fn class(&self) -> Class {
        Class::Fatal
    }
}

/// A step without its types.
pub(crate) trait Erased: Send + Sync + fmt::Debug {
    fn action(&self, ctx: &StepContext, input: &Value) -> Result<Effect, StepError>;

    fn compensation(
        &self,
        ctx: &StepContext,
        input: &Value,
        out: Option<&Value>,
    ) -> Result<Effect, StepError>;

    fn check_output(&self, step: &Arc<str>, out: &Value) -> Result<(), StepError>;
}

#[derive(Debug)]
pub(super) struct Forward<S>(pub(super) S);

#[derive(Debug)]
pub(super) struct Undoable<S>(pub(super) S);

impl<S: Step> Erased for Forward<S> {
    fn action(&self, ctx: &StepContext, input: &Value) -> Result<Effect, StepError> {
        action(&self.0, ctx, input)
    }

    fn compensation(
        &self,
        _: &StepContext,
        _: &Value,
        _: Option<&Value>,
    ) -> Result<Effect, StepError> {
        // The engine never asks: neither the pivot nor a retriable step is ever undone.
        Ok(Action::Done(Value::Null))
    }

    fn check_output(&self, step: &Arc<str>, out: &Value) -> Result<(), StepError> {
        decode::<S::Out>(step, "output", out).map(drop)
    }
}

impl<S: Compensate> Erased for Undoable<S> {
    fn action(&self, ctx: &StepContext, input: &Value) -> Result<Effect, StepError> {
        action(&self.0, ctx, input)
    }

    fn compensation(
        &self,
        ctx: &StepContext,
        input: &Value,
        out: Option<&Value>,
    ) -> Result<Effect, StepError> {
        let step = &ctx.request.step;
        let input = decode::<S::In>(step, "input", input)?;
        let out = out.map(|out| decode::<S::Out>(step, "output", out)).transpose()?;
        let action = self.0.compensation(ctx, &input, out.as_ref())?;
        erase(step, action)
    }

    fn check_output(&self, step: &Arc<str>, out: &Value) -> Result<(), StepError> {
        decode::<S::Out>(step, "output", out).map(drop)
    }
}

fn action<S: Step>(step: &S, ctx: &StepContext, input: &Value) -> Result<Effect, StepError> {
    let name = &ctx.request.step;
    let input = decode::<S::In>(name, "input", input)?;
    erase(name, step.action(ctx, &input)?)
}

fn erase<Out: Serialize>(step: &Arc<str>, action: Action<Out>) -> Result<Effect, StepError> {
    Ok(match action {
        Action::Command(draft) => Action::Command(draft),
        Action::Sent => Action::Sent,
        Action::Local => Action::Local,
        Action::Done(out) => Action::Done(serde_json::to_value(out).map_err(|e| {
            StepError::Value { step: Arc::clone(step), what: "output", why: e.to_string() }
        })?),
    })
}

fn decode<T: DeserializeOwned>(
    step: &Arc<str>,
    what: &'static str,
    value: &Value,
) -> Result<T, StepError> {
    T::deserialize(value).map_err(|e| StepError::Value {
        step: Arc::clone(step),
        what,
        why: e.to_string(),
    })
}

/// A definition together with the code of its steps. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Saga {
    definition: Arc<Definition>,
    steps: Arc<[Arc<dyn Erased>]>,
}

impl Saga {
    /// Starts the definition of a saga whose steps can be undone until a pivot, if it has one.
    #[must_use]
    pub fn builder<I: Serialize + DeserializeOwned>(
        name: &str,
        version: u32,
    ) -> Builder<Compensatable, I> {
        Builder::new(name, version)
    }

    /// Starts the definition of a saga that only goes forward, such as a refund: every step is
    /// retriable.
    #[must_use]
    pub fn forward_only<I: Serialize + DeserializeOwned>(
        name: &str,
        version: u32,
    ) -> Builder<Retriable, I> {
        Builder::new(name, version)
    }

    pub(super) fn assemble(definition: Definition, steps: Vec<Arc<dyn Erased>>) -> Self {
        Self { definition: Arc::new(definition), steps: steps.into() }
    }

    /// Returns the definition.
    #[must_use]
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    pub(crate) fn step(&self, at: StepIndex) -> Option<&dyn Erased> {
        self.steps.get(at.get()).map(Arc::as_ref)
    }
}
