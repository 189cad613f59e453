//! The clocks the breaker is measured with.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use amarra_resilience::{Monotonic, Ticks};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Reads the real clock.
pub(crate) fn exact() -> Monotonic {
    let nanos = START.elapsed().as_nanos();
    Monotonic::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A tick word wound every millisecond by a thread, for as long as somebody holds it.
pub(crate) fn ticking() -> Arc<Ticks> {
    let ticks = Arc::new(Ticks::new());
    let wound = Arc::downgrade(&ticks);
    std::thread::spawn(move || {
        while let Some(ticks) = wound.upgrade() {
            ticks.wind(exact());
            drop(ticks);
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    ticks
}
