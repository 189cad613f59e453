//! Turns a plan into faults: `Injector` at each operation of the servers, `timeline` at its time.

mod injector;
mod provider;
pub(crate) mod timeline;

pub(crate) use injector::Injector;
pub(crate) use provider::ProviderFaults;
