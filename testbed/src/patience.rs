//! Waiting for a condition with an end to it.

use std::thread;
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(5);

/// Asks again and again until there is an answer; `None` once `patience` is used up.
pub(crate) fn until<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if started.elapsed() >= patience {
            return None;
        }
        thread::sleep(STEP);
    }
}
