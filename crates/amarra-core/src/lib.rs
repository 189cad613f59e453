#![doc = include_str!("../README.md")]

pub mod class;
pub mod codec;
pub mod entropy;
pub mod env;
pub mod envelope;
pub mod id;
pub mod invariant;
pub mod time;

pub use class::{Class, Classify};
pub use codec::{Codec, CodecError};
pub use entropy::{Entropy, SeededEntropy};
pub use env::Environment;
pub use envelope::{Actor, Cause, Envelope, TraceParent};
pub use id::{AggregateId, CorrelationId, EventId, PartitionKey, Version};
pub use invariant::InvariantId;
pub use time::{Clock, Elapsed, Monotonic, Timer, Timestamp};
