//! The three ambient ports bundled, so that a constructor takes one argument for them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::entropy::Entropy;
use crate::id::uuid_v7;
use crate::time::{Clock, Elapsed, Monotonic, Timer, Timestamp, timeout_at};

/// Clock, timer and entropy of one process.
///
/// It is the only way a core crate learns the time, waits or draws a random number; the composition
/// root decides what is behind it.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Reads the time.
    pub clock: Arc<dyn Clock>,
    /// Waits.
    pub timer: Arc<dyn Timer>,
    /// Draws random bytes.
    pub entropy: Arc<dyn Entropy>,
}

impl Environment {
    /// Returns the wall-clock time of this process.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the monotonic time of this process.
    #[must_use]
    pub fn monotonic(&self) -> Monotonic {
        self.clock.monotonic()
    }

    /// Waits for `d`.
    pub async fn sleep(&self, d: Duration) {
        self.timer.sleep_until(self.monotonic().plus(d)).await;
    }

    /// Runs `work` for at most `d`; see [`timeout_at`] for what happens to it then.
    ///
    /// # Errors
    /// [`Elapsed`] when `d` passed first.
    pub async fn timeout<F: Future>(&self, d: Duration, work: F) -> Result<F::Output, Elapsed> {
        timeout_at(self.timer.as_ref(), self.monotonic().plus(d), work).await
    }

    /// Makes a new time-ordered id (UUID version 7) as any typed id.
    #[must_use]
    pub fn new_id<T: From<uuid::Uuid>>(&self) -> T {
        T::from(uuid_v7(self.now(), self.entropy.as_ref()))
    }
}
