//! Every law of the ambient ports, by the machine's own time and randomness.

use std::future::Future;
use std::sync::Arc;

use amarra_conformance::{Backend, ClockBackend, EntropyBackend};
use amarra_core::{Clock, Entropy, Environment, Timer};
use amarra_tokio::{OsEntropy, environment};

amarra_conformance::clock_laws!(Real);
amarra_conformance::entropy_laws!(Real);

/// This machine.
struct Real(Environment);

impl Backend for Real {
    fn run<F: Future<Output = ()>>(law: impl FnOnce(Self) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { law(Self(environment())).await });
    }

    fn env(&self) -> Environment {
        self.0.clone()
    }
}

impl ClockBackend for Real {
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock)
    }

    fn timer(&self) -> Arc<dyn Timer> {
        Arc::clone(&self.0.timer)
    }

    /// Nobody but the administrator moves a machine's wall clock.
    fn jump_wall(&self, _micros: i64) {}
}

impl EntropyBackend for Real {
    fn seeded(&self, _seed: u64) -> Option<Arc<dyn Entropy>> {
        None
    }

    fn other(&self) -> Arc<dyn Entropy> {
        Arc::new(OsEntropy)
    }
}
