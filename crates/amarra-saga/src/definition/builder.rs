//! The typed builder: edges carry types, and no step can be undone after the pivot.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::erased::{Erased, Forward, Saga, Undoable};
use super::{Definition, DefinitionError, Inputs, Kind, Source, StepIndex, StepSpec};
use crate::step::{Compensate, Policy, Step};

/// The state of a [`Builder`] before the pivot: steps can be undone.
#[derive(Debug)]
pub enum Compensatable {}

/// The state of a [`Builder`] after the pivot: steps are tried until they succeed.
#[derive(Debug)]
pub enum Retriable {}

/// A value of type `T` in a definition: the saga's input, or a step's output.
#[derive(Debug)]
pub struct Node<T> {
    definition: Arc<str>,
    source: Source,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        Self { definition: Arc::clone(&self.definition), source: self.source, value: PhantomData }
    }
}

/// Where a step's input comes from: `()`, a node, or a tuple of up to six nodes.
pub trait Edges {
    /// The type of the input they make together.
    type In;

    /// Returns how to put it together, and the definitions the nodes belong to.
    #[doc(hidden)]
    fn inputs(&self) -> (Inputs, Vec<Arc<str>>);
}

impl Edges for () {
    type In = ();

    fn inputs(&self) -> (Inputs, Vec<Arc<str>>) {
        (Inputs::None, Vec::new())
    }
}

impl<T> Edges for &Node<T> {
    type In = T;

    fn inputs(&self) -> (Inputs, Vec<Arc<str>>) {
        (Inputs::One(self.source), vec![Arc::clone(&self.definition)])
    }
}

macro_rules! tuple_edges {
    ($($($name:ident)+;)+) => {$(
        impl<$($name),+> Edges for ($(&Node<$name>,)+) {
            type In = ($($name,)+);

            #[expect(non_snake_case, reason = "one name for the type and its value")]
            fn inputs(&self) -> (Inputs, Vec<Arc<str>>) {
                let ($($name,)+) = self;
                (
                    Inputs::Tuple(vec![$($name.source),+]),
                    vec![$(Arc::clone(&$name.definition)),+],
                )
            }
        }
    )+};
}

tuple_edges! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
}

/// Builds a [`Saga`] whose input is an `I`; `S` says whether the pivot has been passed.
///
/// A step's edges must bring exactly its input type, and after the pivot nothing that would have to
/// be undone can be added. Both are checked by the compiler:
///
/// ```compile_fail,E0599
/// # use amarra_core::CodecError;
/// # use amarra_saga::{Action, Compensate, Saga, Step, StepContext};
/// #[derive(Debug)]
/// struct Noop;
/// impl Step for Noop {
///     type In = ();
///     type Out = ();
///     fn action(&self, _: &StepContext, _: &()) -> Result<Action<()>, CodecError> {
///         Ok(Action::Sent)
///     }
/// }
/// # impl Compensate for Noop {
/// #     fn compensation(&self, _: &StepContext, _: &(), _: Option<&()>)
/// #         -> Result<Action<()>, CodecError> { Ok(Action::Sent) }
/// # }
/// let (mut after, _capture) = Saga::builder::<()>("order", 1).pivot("capture", (), Noop);
/// after.compensatable("restock", (), Noop); // no such method on Builder<Retriable, _>
/// ```
///
/// ```compile_fail,E0271
/// # use amarra_core::CodecError;
/// # use amarra_saga::{Action, Saga, Step, StepContext};
/// #[derive(Debug)]
/// struct Charge;
/// impl Step for Charge {
///     type In = u64;
///     type Out = ();
///     fn action(&self, _: &StepContext, _: &u64) -> Result<Action<()>, CodecError> {
///         Ok(Action::Sent)
///     }
/// }
/// let b = Saga::builder::<String>("order", 1);
/// let order = b.input();
/// b.pivot("charge", &order, Charge); // a String is no u64
/// ```
#[derive(Debug)]
pub struct Builder<S, I> {
    name: Arc<str>,
    version: u32,
    deadline: Option<Duration>,
    specs: Vec<StepSpec>,
    steps: Vec<Arc<dyn Erased>>,
    error: Option<DefinitionError>,
    types: PhantomData<fn() -> (S, I)>,
}

impl<S, I: Serialize + DeserializeOwned> Builder<S, I> {
    pub(super) fn new(name: &str, version: u32) -> Self {
        Self {
            name: name.into(),
            version,
            deadline: None,
            specs: Vec::new(),
            steps: Vec::new(),
            error: None,
            types: PhantomData,
        }
    }

    /// Returns the saga's own input as a node.
    #[must_use]
    pub fn input(&self) -> Node<I> {
        self.node(Source::Input)
    }

    /// Sets how long after its start a saga that has not sent its pivot is undone.
    pub fn deadline(&mut self, deadline: Duration) -> &mut Self {
        self.deadline = Some(deadline);
        self
    }

    /// Makes one step wait for another without taking its output.
    pub fn order<A, B>(&mut self, before: &Node<A>, after: &Node<B>) -> &mut Self {
        self.own(&before.definition);
        self.own(&after.definition);
        if let (Source::Step(before), Source::Step(after)) = (before.source, after.source)
            && let Some(spec) = self.specs.get_mut(after.get())
        {
            spec.after.push(before);
        }
        self
    }

    /// Validates the definition and returns it with its steps.
    ///
    /// # Errors
    /// [`DefinitionError`] for the first law broken.
    pub fn build(self) -> Result<Saga, DefinitionError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let definition = Definition::new(self.name, self.version, self.deadline, self.specs)?;
        Ok(Saga::assemble(definition, self.steps))
    }

    fn node<T>(&self, source: Source) -> Node<T> {
        Node { definition: Arc::clone(&self.name), source, value: PhantomData }
    }

    fn own(&mut self, definition: &Arc<str>) {
        // By address: two definitions may share a name, but never the allocation of it.
        if !Arc::ptr_eq(&self.name, definition) {
            self.error.get_or_insert(DefinitionError::ForeignNode(Arc::clone(&self.name)));
        }
    }

    fn push<T>(
        &mut self,
        name: &str,
        kind: Kind,
        edges: &impl Edges,
        (policy, step): (Policy, Arc<dyn Erased>),
    ) -> Node<T> {
        let (inputs, owners) = edges.inputs();
        owners.iter().for_each(|owner| self.own(owner));
        let at = StepIndex(u16::try_from(self.specs.len()).unwrap_or(u16::MAX));
        self.specs.push(StepSpec { name: name.into(), kind, inputs, after: Vec::new(), policy });
        self.steps.push(step);
        self.node(Source::Step(at))
    }
}

impl<I: Serialize + DeserializeOwned> Builder<Compensatable, I> {
    /// Adds a step that can be undone.
    pub fn compensatable<D, S>(&mut self, name: &str, edges: D, step: S) -> Node<S::Out>
    where
        S: Compensate,
        D: Edges<In = S::In>,
    {
        let policy = step.policy();
        self.push(name, Kind::Compensatable, &edges, (policy, Arc::new(Undoable(step))))
    }

    /// Adds the step that decides. All that was added before must be before it.
    pub fn pivot<D, S>(
        mut self,
        name: &str,
        edges: D,
        step: S,
    ) -> (Builder<Retriable, I>, Node<S::Out>)
    where
        S: Step,
        D: Edges<In = S::In>,
    {
        let policy = step.policy();
        let node = self.push(name, Kind::Pivot, &edges, (policy, Arc::new(Forward(step))));
        let Self { name, version, deadline, specs, steps, error, .. } = self;
        (Builder { name, version, deadline, specs, steps, error, types: PhantomData }, node)
    }
}

impl<I: Serialize + DeserializeOwned> Builder<Retriable, I> {
    /// Adds a step that is tried until it succeeds.
    pub fn retriable<D, S>(&mut self, name: &str, edges: D, step: S) -> Node<S::Out>
    where
        S: Step,
        D: Edges<In = S::In>,
    {
        let policy = step.policy();
        self.push(name, Kind::Retriable, &edges, (policy, Arc::new(Forward(step))))
    }
}
