//! Turns a plan into faults: `Injector` at each operation of the servers, `timeline` at its time.

mod injector;
mod provider;
pub mod timeline;

pub use injector::Injector;
pub use provider::ProviderFaults;
