//! The relay: publishes what committed transactions left in the outbox, in order, under leases.

mod config;
mod driver;
mod engine;
mod events;
mod work;

pub use config::RelayConfig;
pub use driver::Relay;
pub use engine::{Action, Engine, Event, StopReason};
pub use events::{RelayEvent, RelayObserver, RelayStats};
