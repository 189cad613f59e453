//! A bulkhead: so many calls at once to one callee, so many waiting, and no more.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use amarra_core::time::timeout_at;
use amarra_core::{Environment, Monotonic};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::{ConfigError, PerMille, check};

/// How many calls may run and wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkheadConfig {
    /// Calls at once, 1 to 1,000,000. Default 64.
    pub concurrency_max: u32,
    /// Calls that may wait for a place; one more is refused at once. Zero means nobody waits.
    /// Default 64.
    pub queue_max: u32,
    /// How long a call may wait for a place; its deadline may cut it shorter. Default 1 s.
    pub queue_wait_max: Duration,
}

impl Default for BulkheadConfig {
    fn default() -> Self {
        Self { concurrency_max: 64, queue_max: 64, queue_wait_max: Duration::from_secs(1) }
    }
}

impl BulkheadConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first field outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let in_range = (1..=1_000_000).contains(&self.concurrency_max);
        check(in_range, "concurrency_max", "must be 1 to 1000000")
    }
}

/// Every place and every place to wait was taken; nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bulkhead full")]
pub struct Full;

/// Keeps one slow callee from taking all of the caller's capacity.
///
/// # Laws
/// - BLK-1 never more than `concurrency_max` slots are out, nor more than `queue_max` calls wait.
/// - BLK-2 those who wait are served in the order they came; nobody overtakes them.
/// - BLK-3 a slot or a wait that is dropped, at whatever moment, leaves its place free.
#[derive(Debug)]
pub struct Bulkhead {
    config: BulkheadConfig,
    slots: Semaphore,
    waiting: AtomicU32,
}

impl Bulkhead {
    /// Makes an empty bulkhead.
    ///
    /// # Errors
    /// [`ConfigError`] when a field of `config` is outside its range.
    pub fn new(config: BulkheadConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let places = usize::try_from(config.concurrency_max).unwrap_or(1);
        Ok(Self { config, slots: Semaphore::new(places), waiting: AtomicU32::new(0) })
    }

    /// Takes a place, waiting for one in line until `until` at the latest.
    ///
    /// # Errors
    /// [`Full`] when the line is full too, or no place came free in time.
    ///
    /// # Cancellation
    /// Dropping the future leaves the line.
    pub async fn acquire(&self, env: &Environment, until: Monotonic) -> Result<Slot<'_>, Full> {
        if let Ok(permit) = self.slots.try_acquire() {
            return Ok(Slot { _permit: permit });
        }
        let _place = Place::take(self).ok_or(Full)?;
        let until = env.monotonic().plus(self.config.queue_wait_max).min(until);
        match timeout_at(env.timer.as_ref(), until, self.slots.acquire()).await {
            Ok(Ok(permit)) => Ok(Slot { _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(Full),
        }
    }

    /// Returns how many calls run.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        let free = u32::try_from(self.slots.available_permits()).unwrap_or(u32::MAX);
        self.config.concurrency_max.saturating_sub(free)
    }

    /// Returns how many calls wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Acquire)
    }

    /// Returns how full it is, places to wait included.
    #[must_use]
    pub fn load(&self) -> PerMille {
        let used = u64::from(self.in_flight()).saturating_add(u64::from(self.waiting()));
        let all = u64::from(self.config.concurrency_max)
            .saturating_add(u64::from(self.config.queue_max))
            .max(1);
        let load = used.saturating_mul(1000).checked_div(all).unwrap_or(1000);
        PerMille::new(u16::try_from(load).unwrap_or(1000))
    }
}

/// A place in a [`Bulkhead`], free again when dropped.
#[derive(Debug)]
#[must_use = "a slot dropped at once bounds nothing"]
pub struct Slot<'a> {
    _permit: SemaphorePermit<'a>,
}

/// A place in the line, given up when dropped: by its wait ending, or by being cancelled.
struct Place<'a>(&'a AtomicU32);

impl<'a> Place<'a> {
    fn take(bulkhead: &'a Bulkhead) -> Option<Self> {
        let most = bulkhead.config.queue_max;
        let one_more = |waiting: u32| waiting.checked_add(1).filter(|n| *n <= most);
        bulkhead
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .ok()
            .map(|_| Self(&bulkhead.waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Each place was counted once when it was taken, so this cannot go below zero.
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
