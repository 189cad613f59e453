//! The faults of a proxy and the connections they act on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::link::Link;
use super::{CutAt, Direction};
use crate::patience::until;

/// A cut that waits for its pattern, and happens once.
#[derive(Debug, Clone)]
pub struct Rule {
    cut: Arc<AtomicBool>,
}

impl Rule {
    /// Tells whether it cuts or has cut: whoever saw a connection end by it is told so.
    #[must_use]
    pub fn hit(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Waits until it has cut; `false` when it has not within `patience`.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> bool {
        until(patience, || self.hit().then_some(())).is_some()
    }

    pub(super) fn done(&self) {
        self.cut.store(true, Ordering::Release);
    }
}

/// A rule whose pattern has not passed yet.
#[derive(Debug)]
struct Armed {
    direction: Direction,
    pattern: Vec<u8>,
    at: CutAt,
    rule: Rule,
}

/// A value for each direction.
#[derive(Debug, Default)]
pub(super) struct Each<T> {
    up: T,
    down: T,
}

impl<T> Each<T> {
    pub(super) fn of(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) latency: Duration,
    pub(super) stalled: Each<bool>,
    pub(super) refusing: bool,
    pub(super) closing: bool,
    armed: Vec<Armed>,
    /// `None` while a connection's own connection to the target is being made.
    links: BTreeMap<u64, Option<Arc<Link>>>,
    last: u64,
}

impl State {
    pub(super) fn heal(&mut self) {
        self.latency = Duration::ZERO;
        self.stalled = Each::default();
        self.armed.clear();
    }
}

/// What all threads of a proxy share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) target: SocketAddr,
    connections_max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(super) fn new(target: SocketAddr, connections_max: usize) -> Self {
        let state = Mutex::new(State::default());
        Self { target, connections_max, state, changed: Condvar::new() }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    pub(super) fn is_refusing(&self) -> bool {
        self.lock().refusing
    }

    pub(super) fn latency(&self) -> Duration {
        self.lock().latency
    }

    pub(super) fn connections(&self) -> usize {
        self.lock().links.len()
    }

    /// Takes a place for a connection; `None` when all are taken.
    pub(super) fn enter(&self) -> Option<u64> {
        let mut state = self.lock();
        if state.links.len() >= self.connections_max || state.closing {
            return None;
        }
        state.last = state.last.wrapping_add(1);
        let id = state.last;
        state.links.insert(id, None);
        Some(id)
    }

    /// Names the connection of a place; `false` when it was cut before it was there.
    pub(super) fn established(&self, id: u64, link: &Arc<Link>) -> bool {
        let mut state = self.lock();
        let open = !state.closing;
        match state.links.get_mut(&id) {
            Some(place) if open => {
                *place = Some(Arc::clone(link));
                true
            }
            _ => false,
        }
    }

    pub(super) fn leave(&self, id: u64) {
        self.lock().links.remove(&id);
    }

    pub(super) fn cut_all(&self) {
        self.change(|state| state.links.values().flatten().for_each(|link| link.cut()));
    }

    /// Cuts one connection and wakes those who wait on it.
    pub(super) fn cut(&self, link: &Link) {
        self.change(|_| link.cut());
    }

    pub(super) fn arm(&self, direction: Direction, pattern: &[u8], at: CutAt) -> Rule {
        let rule = Rule { cut: Arc::default() };
        let armed = Armed { direction, pattern: pattern.to_vec(), at, rule: rule.clone() };
        self.change(|state| state.armed.push(armed));
        rule
    }

    /// Takes the rule whose pattern ends in `fresh`, which follows `before`.
    pub(super) fn matched(
        &self,
        direction: Direction,
        before: &[u8],
        fresh: &[u8],
    ) -> Option<(CutAt, Rule)> {
        let mut state = self.lock();
        let at = state.armed.iter().position(|armed| {
            armed.direction == direction && contains(before, fresh, &armed.pattern)
        })?;
        let armed = state.armed.remove(at);
        Some((armed.at, armed.rule))
    }

    /// Waits until bytes may pass: their time has come and nothing stalls; `false` after a cut.
    pub(super) fn may_pass(&self, link: &Link, direction: Direction, due: Instant) -> bool {
        let mut state = self.lock();
        loop {
            if link.is_cut() {
                return false;
            }
            let left = due.saturating_duration_since(Instant::now());
            state = if *state.stalled.of(direction) {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else if left > Duration::ZERO {
                let waited = self.changed.wait_timeout(state, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                return true;
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whether `pattern` ends within `fresh`, beginning there or in `before`.
fn contains(before: &[u8], fresh: &[u8], pattern: &[u8]) -> bool {
    let reach = pattern.len().saturating_sub(1);
    let from = before.len().saturating_sub(reach);
    let mut border = before.get(from..).unwrap_or_default().to_vec();
    border.extend(fresh.iter().take(reach));
    let holds = |bytes: &[u8]| bytes.windows(pattern.len()).any(|window| window == pattern);
    holds(&border) || holds(fresh)
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn a_pattern_is_found_whole_or_split_and_never_in_what_has_passed() {
        let check = |before: &str, fresh: &str, expect: bool| {
            assert_eq!(contains(before.as_bytes(), fresh.as_bytes(), b"abc"), expect);
        };
        check("", "xxabcxx", true);
        check("xxa", "bcxx", true);
        check("xxab", "c", true);
        check("xa", "b", false);
        check("abc", "xx", false);
        check("ab", "", false);
        check("", "ab", false);
    }
}
