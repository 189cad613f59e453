//! The consumer runtime: polls, batches per partition, keeps order per key, commits after effects.

mod config;
mod driver;
mod engine;
mod events;
mod lane;
mod processor;

pub use config::RuntimeConfig;
pub use driver::Runtime;
pub use engine::{Action, Engine, Event, Token};
pub use events::{RuntimeEvent, RuntimeObserver, RuntimeStats};
pub use processor::{ProcessError, Processor};
