//! The consumer runtime: polls, batches per partition, keeps order per key, commits after effects.

mod processor;

pub use processor::{ProcessError, Processor};
