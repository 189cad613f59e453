//! One breaker per key, in bounded memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use amarra_core::Monotonic;

use super::Breaker;
use super::config::Config;
use super::settings::Settings;
use super::state::{Observer, State};
use crate::config::{ConfigError, check};

/// How many breakers a registry keeps, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryConfig {
    /// What each breaker is made with.
    pub breaker: Config,
    /// How many keys are kept, at least 1. At the bound the least recently used breakers
    /// that are closed and not in use give way, a sixteenth of them at a time; if every one is open
    /// or in use, the new key gets a breaker that is not kept. Default 10,000.
    pub keys_max: usize,
    /// A breaker not asked for this long is forgotten, above zero. Default 10 minutes.
    pub idle_after: Duration,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self { breaker: Config::default(), keys_max: 10_000, idle_after: Duration::from_secs(600) }
    }
}

impl RegistryConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first field outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.breaker.validate()?;
        check(self.keys_max > 0, "keys_max", "must be at least 1")?;
        check(!self.idle_after.is_zero(), "idle_after", "must be above zero")
    }
}

#[derive(Debug)]
struct Entry {
    breaker: Arc<Breaker>,
    used: Monotonic,
}

impl Entry {
    /// A breaker in somebody's hands must stay the one of its key, or a key would have two.
    fn in_use(&self) -> bool {
        Arc::strong_count(&self.breaker) > 1
    }
}

#[derive(Debug)]
struct Keys<K> {
    entries: BTreeMap<K, Entry>,
    /// How many breakers were made; the next one's jitter derives from it.
    made: u64,
    swept: Monotonic,
}

/// One breaker per key: per callee, per route, per tenant.
///
/// # Laws
/// - REG-1 a key has one breaker as long as anybody holds it or it is not idle.
/// - REG-2 never more than `keys_max` breakers are kept.
///
/// # Example
/// ```
/// use amarra_core::Monotonic;
/// use amarra_resilience::breaker::{Registry, RegistryConfig};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breakers: Registry<&str> = Registry::new(RegistryConfig::default(), 42)?;
/// let now = Monotonic::from_nanos(0);
/// let a = breakers.get(&"inventory", now);
/// assert!(std::sync::Arc::ptr_eq(&a, &breakers.get(&"inventory", now)));
/// # Ok(()) }
/// ```
pub struct Registry<K> {
    config: RegistryConfig,
    /// What all breakers share.
    settings: Arc<Settings>,
    seed: u64,
    keys: Mutex<Keys<K>>,
}

impl<K: Ord + Clone + fmt::Display> Registry<K> {
    /// Makes an empty registry; `seed` decides the jitter of all its breakers.
    ///
    /// # Errors
    /// [`ConfigError`] when a field of `config` is outside its range.
    pub fn new(config: RegistryConfig, seed: u64) -> Result<Self, ConfigError> {
        config.validate()?;
        let keys = Keys { entries: BTreeMap::new(), made: 0, swept: Monotonic::default() };
        let settings = Arc::new(Settings::new(config.breaker, None));
        Ok(Self { config, settings, seed, keys: Mutex::new(keys) })
    }

    /// Returns this registry with `observer` hearing of the transitions of its breakers, each
    /// named by its key.
    #[must_use]
    pub fn observed(self, observer: Arc<dyn Observer>) -> Self {
        let settings = Arc::new(Settings::new(self.config.breaker, Some(observer)));
        Self { settings, ..self }
    }

    /// Returns the breaker of `key`, a new one when it has none.
    #[must_use]
    pub fn get(&self, key: &K, now: Monotonic) -> Arc<Breaker> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(keys.swept) >= self.config.idle_after {
            keys.swept = now;
            let idle_after = self.config.idle_after;
            keys.entries.retain(|_, e| e.in_use() || now.since(e.used) < idle_after);
        }
        if let Some(entry) = keys.entries.get_mut(key) {
            entry.used = entry.used.max(now);
            return Arc::clone(&entry.breaker);
        }
        keys.made = keys.made.saturating_add(1);
        let breaker = Arc::new(self.make(key, keys.made));
        if keys.entries.len() >= self.config.keys_max {
            make_room(&mut keys.entries);
        }
        if keys.entries.len() < self.config.keys_max {
            let entry = Entry { breaker: Arc::clone(&breaker), used: now };
            keys.entries.insert(key.clone(), entry);
        }
        breaker
    }

    /// Returns how many breakers are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).entries.len()
    }

    /// Tells whether no breaker is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn make(&self, key: &K, number: u64) -> Breaker {
        let seed = self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Breaker::from_parts(key.to_string().into(), Arc::clone(&self.settings), seed)
    }
}

/// Drops the least recently used sixteenth of the breakers that are closed and in nobody's hands.
///
/// A share and not one, so that a flood of new keys does not search the whole map for each.
fn make_room<K: Ord + Clone>(entries: &mut BTreeMap<K, Entry>) {
    let at_rest = |e: &Entry| !e.in_use() && e.breaker.snapshot().state == State::Closed;
    let mut idle: Vec<_> =
        entries.iter().filter(|(_, e)| at_rest(e)).map(|(key, e)| (e.used, key.clone())).collect();
    idle.sort_unstable();
    let share = (idle.len() / 16).max(1);
    for (_, key) in idle.into_iter().take(share) {
        entries.remove(&key);
    }
}

impl<K> fmt::Debug for Registry<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("config", &self.config).finish_non_exhaustive()
    }
}
