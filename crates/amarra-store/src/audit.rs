//! The audit chain: one row per committed change, each holding the hash of the one before.

use std::sync::Arc;

use amarra_core::{Actor, AggregateId, CorrelationId, Timestamp, Version};
use serde::{Deserialize, Serialize};

/// A hash of the chain.
pub type Hash = [u8; 32];

/// What a change says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditDraft {
    /// On whose behalf.
    pub actor: Actor,
    /// What was done, in the imperative: `"reserve"`.
    pub action: Arc<str>,
    /// To which aggregate.
    pub aggregate: AggregateId,
    /// Its version after the change.
    pub version: Version,
    /// For which order or saga.
    pub correlation: CorrelationId,
    /// When, by the database's clock.
    pub at: Timestamp,
    /// A hash of the aggregate's state after the change.
    pub state_hash: Hash,
}

/// A row of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Its number, dense from 1.
    pub number: u64,
    /// The hash of the row before, zero for the first.
    pub previous: Hash,
    /// What it says.
    pub entry: AuditDraft,
    /// [`chain_hash`] of the three above.
    pub hash: Hash,
}

impl AuditRow {
    /// Chains an entry behind the row of number `number - 1` and hash `previous`.
    #[must_use]
    pub fn chain(number: u64, previous: Hash, entry: AuditDraft) -> Self {
        let hash = chain_hash(number, &previous, &entry);
        Self { number, previous, entry, hash }
    }
}

/// Hashes a row: every field, length-prefixed, so that no two rows share an encoding.
#[must_use]
pub fn chain_hash(number: u64, previous: &Hash, entry: &AuditDraft) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"amarra.audit.1");
    hasher.update(&number.to_le_bytes());
    hasher.update(previous);
    let mut text = |s: &str| {
        hasher.update(&u64::try_from(s.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(s.as_bytes());
    };
    text(&entry.actor.to_string());
    text(&entry.action);
    text(&entry.aggregate.kind);
    text(&entry.aggregate.id);
    text(&entry.correlation.to_string());
    hasher.update(&entry.version.get().to_le_bytes());
    hasher.update(&entry.at.as_micros().to_le_bytes());
    hasher.update(&entry.state_hash);
    *hasher.finalize().as_bytes()
}

/// What is wrong with a chain, and from which row on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokenChain {
    /// Rows are missing, doubled or reordered.
    #[error("audit row {found} stands where row {expected} belongs")]
    Number {
        /// The number that belongs there.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// A row does not continue the one before.
    #[error("audit row {0} does not continue the row before it")]
    Link(u64),
    /// A row was changed after it was written.
    #[error("audit row {0} was changed after it was written")]
    Content(u64),
}

/// Verifies rows that continue (`after`, `previous`): row number and hash of the last verified one,
/// zeros at the start. Returns the same pair for the last of `rows`.
///
/// # Errors
/// [`BrokenChain`] for the first row that does not fit.
pub fn verify_chain(
    after: u64,
    previous: Hash,
    rows: &[AuditRow],
) -> Result<(u64, Hash), BrokenChain> {
    let (mut number, mut hash) = (after, previous);
    for row in rows {
        let expected = number.saturating_add(1);
        if row.number != expected {
            return Err(BrokenChain::Number { expected, found: row.number });
        }
        if row.previous != hash {
            return Err(BrokenChain::Link(row.number));
        }
        if row.hash != chain_hash(row.number, &row.previous, &row.entry) {
            return Err(BrokenChain::Content(row.number));
        }
        (number, hash) = (row.number, row.hash);
    }
    Ok((number, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: u64) -> Vec<AuditRow> {
        let mut previous = [0; 32];
        (1..=n)
            .map(|number| {
                let entry = AuditDraft {
                    actor: Actor::Service("orders".into()),
                    action: "place".into(),
                    aggregate: AggregateId::new("order", number.to_string()),
                    version: Version::new(1),
                    correlation: uuid::Uuid::nil().into(),
                    at: Timestamp::from_micros(7),
                    state_hash: [1; 32],
                };
                let row = AuditRow::chain(number, previous, entry);
                previous = row.hash;
                row
            })
            .collect()
    }

    #[test]
    fn an_untouched_chain_verifies_in_pages() {
        let rows = rows(5);
        let (number, hash) = verify_chain(0, [0; 32], &rows[..2]).unwrap();
        assert_eq!(verify_chain(number, hash, &rows[2..]), Ok((5, rows[4].hash)));
    }

    #[test]
    fn every_kind_of_tampering_is_found() {
        let check = |tamper: fn(&mut Vec<AuditRow>), expect| {
            let mut rows = rows(4);
            tamper(&mut rows);
            assert_eq!(verify_chain(0, [0; 32], &rows), Err(expect));
        };
        check(|r| drop(r.remove(1)), BrokenChain::Number { expected: 2, found: 3 });
        check(|r| r[2].entry.actor = Actor::Admin("eve".into()), BrokenChain::Content(3));
        check(|r| r[1] = AuditRow::chain(2, [9; 32], r[1].entry.clone()), BrokenChain::Link(2));
    }
}
