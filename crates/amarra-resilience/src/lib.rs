#![doc = include_str!("../README.md")]

pub mod breaker;
pub mod bulkhead;
pub mod config;
pub mod deadline;
pub mod error;
pub mod limiter;
pub mod pipeline;
pub mod retry;
pub mod shed;

pub use breaker::{Breaker, Registry};
pub use bulkhead::Bulkhead;
pub use config::{ConfigError, PerMille};
pub use deadline::Deadline;
pub use error::{Error, Failed, Stop};
pub use limiter::{KeyedLimiter, Limiter};
pub use pipeline::{Attempt, CallOptions, Pipeline};
pub use retry::{Budget, Jitter, Policy, retry};
