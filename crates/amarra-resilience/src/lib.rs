#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod breaker;
pub mod config;
pub mod time;

#[cfg(feature = "std")]
pub mod adaptive;
#[cfg(feature = "std")]
pub mod bulkhead;
#[cfg(feature = "std")]
pub mod deadline;
#[cfg(feature = "std")]
pub mod error;
#[cfg(feature = "std")]
pub mod hedge;
#[cfg(feature = "std")]
pub mod limiter;
#[cfg(feature = "std")]
pub mod pipeline;
#[cfg(feature = "std")]
pub mod retry;
#[cfg(feature = "std")]
mod row;
#[cfg(feature = "std")]
pub mod shed;
#[cfg(feature = "std")]
pub mod suite;
#[cfg(feature = "std")]
pub mod throttle;
#[cfg(feature = "tower")]
pub mod tower;

pub use breaker::Breaker;
pub use config::{ConfigError, PerMille};
pub use time::{Monotonic, Now, Ticks};

#[cfg(feature = "std")]
pub use adaptive::Adaptive;
#[cfg(feature = "std")]
pub use breaker::Registry;
#[cfg(feature = "std")]
pub use bulkhead::Bulkhead;
#[cfg(feature = "std")]
pub use deadline::Deadline;
#[cfg(feature = "std")]
pub use error::{Error, Failed, Stop};
#[cfg(feature = "std")]
pub use hedge::{Hedge, hedge};
#[cfg(feature = "std")]
pub use limiter::{KeyedLimiter, Limiter};
#[cfg(feature = "std")]
pub use pipeline::{Attempt, CallOptions, Pipeline};
#[cfg(feature = "std")]
pub use retry::{Budget, Jitter, Policy, retry};
#[cfg(feature = "std")]
pub use throttle::Throttle;
