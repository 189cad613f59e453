#![doc = include_str!("../docs.md")]

pub mod clock;
pub mod config;
pub mod entropy;
pub mod group;
pub mod signal;

use std::sync::Arc;

use amarra_core::Environment;

pub use clock::{TokioClock, TokioTimer};
pub use config::TaskGroupConfig;
pub use entropy::OsEntropy;
pub use group::{End, TaskGroup, Why};

/// Makes the ambient ports of this process.
///
/// # Panics
/// Its timer panics when it is awaited outside a tokio runtime with time enabled.
#[must_use]
pub fn environment() -> Environment {
    let clock = TokioClock::new();
    Environment {
        timer: Arc::new(TokioTimer::paired(clock)),
        clock: Arc::new(clock),
        entropy: Arc::new(OsEntropy),
    }
}
