//! What the writers committed, what the broker holds, and whether the two agree.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use amarra_messaging::outbox::{Chunk, Lease};

use crate::reader::envelope;

/// What came about in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Messages that were committed.
    pub committed: u64,
    /// Messages that the broker took, repetitions included.
    pub published: u64,
    /// Messages that were published again, each at the position it had.
    pub repeated: u64,
    /// Relays that ended between reading and saving.
    pub crashes: u64,
    /// Publishes of a superseded epoch, which the broker refused.
    pub fenced: u64,
}

#[derive(Debug, Default)]
pub(super) struct World(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By key, the newest version.
    committed: BTreeMap<String, u64>,
    /// By shard and position: key and version.
    stored: BTreeMap<(u16, u64), (String, u64)>,
    epochs: BTreeMap<u16, u64>,
    published: u64,
    repeated: u64,
    fenced: u64,
}

impl State {
    fn expect(&self) -> u64 {
        self.committed.values().sum()
    }
}

impl World {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a version of a key was committed.
    pub(super) fn committed(&self, key: String, version: u64) {
        let mut state = self.lock();
        let newest = state.committed.entry(key).or_default();
        *newest = version.max(*newest);
    }

    /// Publishes rows from the position after `from`; `false` when the epoch is superseded.
    pub(super) fn publish(&self, lease: &Lease, chunk: &Chunk, from: u64) -> bool {
        let mut state = self.lock();
        let shard = lease.shard.0;
        let newest = state.epochs.entry(shard).or_default();
        if lease.epoch.0 < *newest {
            state.fenced += 1;
            return false;
        }
        *newest = lease.epoch.0;
        for (row, pos) in chunk.rows.iter().zip(from + 1..) {
            let envelope = envelope(row);
            let key = envelope.partition_key.as_str().to_owned();
            let what = (key, envelope.subject_version.get());
            state.published += 1;
            if let Some(before) = state.stored.insert((shard, pos), what.clone()) {
                assert_eq!(before, what, "a re-publish differs at position {pos} of shard {shard}");
                state.repeated += 1;
            }
        }
        true
    }

    /// Tells whether as many rows are stored as were committed.
    pub(super) fn is_complete(&self) -> bool {
        let state = self.lock();
        state.stored.len() as u64 >= state.expect()
    }

    /// Asserts that what is stored is what was committed.
    pub(super) fn verify(&self, crashes: u64) -> Figures {
        let state = self.lock();
        let mut next: BTreeMap<u16, u64> = BTreeMap::new();
        let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
        for (&(shard, pos), (key, version)) in &state.stored {
            let dense = next.entry(shard).or_insert(1);
            assert_eq!(pos, *dense, "positions of shard {shard} are not dense");
            *dense += 1;
            let last = seen.entry(key).or_default();
            assert_eq!(*version, *last + 1, "{key}: version {version} follows {last}");
            *last = *version;
        }
        for (key, version) in &state.committed {
            let got = seen.get(key.as_str()).copied().unwrap_or(0);
            assert!(got >= *version, "{key}: versions after {got} were lost");
        }
        let (committed, stored) = (state.expect(), state.stored.len() as u64);
        assert_eq!(stored, committed, "a row was stored that nobody committed");
        assert!(committed > 0, "nothing was committed");
        let State { published, repeated, fenced, .. } = *state;
        Figures { committed, published, repeated, crashes, fenced }
    }
}
