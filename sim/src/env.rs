//! The ambient ports over simulated time and the run's seed, with a skewed wall clock per node.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use amarra_core::{Clock, Environment, Monotonic, SeededEntropy, Timer, Timestamp};
use async_trait::async_trait;

/// The wall-clock time at which every run starts, so that dates in a trace do not depend on the
/// seed.
const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// How far a node's wall clock is off, in microseconds.
pub(crate) type Skew = Arc<AtomicI64>;

/// Makes the ambient ports of one process: `stream` names its randomness.
pub(crate) fn environment(
    epoch: tokio::time::Instant,
    skew: Skew,
    seed: u64,
    stream: &str,
) -> Environment {
    Environment {
        clock: Arc::new(SimClock { epoch, skew }),
        timer: Arc::new(SimTimer { epoch }),
        entropy: Arc::new(SeededEntropy::new(seed, stream)),
    }
}

#[derive(Debug)]
struct SimClock {
    epoch: tokio::time::Instant,
    skew: Skew,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let true_time = START.plus(self.epoch.elapsed());
        Timestamp::from_micros(
            true_time.as_micros().saturating_add(self.skew.load(Ordering::Relaxed)),
        )
    }

    fn monotonic(&self) -> Monotonic {
        let nanos = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Monotonic::from_nanos(nanos)
    }
}

#[derive(Debug)]
struct SimTimer {
    epoch: tokio::time::Instant,
}

#[async_trait]
impl Timer for SimTimer {
    async fn sleep_until(&self, at: Monotonic) {
        let deadline = self.epoch + Duration::from_nanos(at.as_nanos());
        tokio::time::sleep_until(deadline).await;
    }
}
