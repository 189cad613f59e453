//! The clock and timer of a real process.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use amarra_core::{Clock, Monotonic, Timer, Timestamp};
use async_trait::async_trait;
use tokio::time::Instant;

/// The system's wall clock, and monotonic time since this value was made.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    epoch: Instant,
}

impl TokioClock {
    /// Starts monotonic time at zero.
    #[must_use]
    pub fn new() -> Self {
        Self { epoch: Instant::now() }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    /// A wall clock set before 1970 reads as the epoch.
    fn now(&self) -> Timestamp {
        let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH.plus(passed)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::default().plus(self.epoch.elapsed())
    }
}

/// Tokio's timer, paired to one [`TokioClock`].
///
/// # Units
/// The timer wheel counts milliseconds and rounds up: a wait ends up to about 1 ms late.
#[derive(Debug, Clone, Copy)]
pub struct TokioTimer {
    epoch: Instant,
}

impl TokioTimer {
    /// Waits by the monotonic time of `clock`.
    #[must_use]
    pub const fn paired(clock: TokioClock) -> Self {
        Self { epoch: clock.epoch }
    }
}

#[async_trait]
impl Timer for TokioTimer {
    async fn sleep_until(&self, at: Monotonic) {
        match self.epoch.checked_add(Duration::from_nanos(at.as_nanos())) {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            // A point that this machine's time cannot express is never reached.
            None => std::future::pending().await,
        }
    }
}
