//! What the examples share: the composition of one process on the in-memory servers.
//!
//! Everything runs on one thread, and time jumps to the next timer whenever nobody has anything to
//! do: an example takes no time, and each run of it prints the same.

pub mod neighbours;
mod process;

pub use process::{Process, Service};

/// What an example returns.
pub type Fallible<T = ()> = Result<T, Box<dyn std::error::Error>>;
