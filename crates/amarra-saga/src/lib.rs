#![doc = include_str!("../README.md")]

pub mod barrier;
pub mod definition;
pub mod driver;
pub mod engine;
pub mod error;
pub mod instance;
pub mod request;
pub mod step;
pub mod store;
pub mod transition;

pub use barrier::Barrier;
pub use definition::{
    Builder, Compensatable, Definition, DefinitionError, Edges, Effect, Fingerprint, Node,
    Retriable, Saga, StepError,
};
pub use driver::{AppendConfig, Hooks, LocalCall, LocalError, LocalStep, SagaWorker};
pub use engine::{Cause, End, Illegal, Input, Outcome, Resolution, State, Status, Verb};
pub use error::SagaError;
pub use instance::{Instance, SagaLog};
pub use request::{MalformedRequest, Op, Request, SagaId};
pub use step::{Action, Backoff, CommandDraft, Compensate, Policy, Step, StepContext};
pub use store::{Sagas, SagasConfig};
pub use transition::{Progress, Transition};
