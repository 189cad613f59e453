//! I24: the same idempotency key gets the same answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use amarra_core::InvariantId;

use super::{Finding, Invariant, complaints};
use crate::oracle::{Facts, Settled, Tx};

/// A key's principal, route and text.
type Name = (Arc<str>, Arc<str>, Arc<str>);

/// One in ten customers sends an order twice; and a key has one recorded response, ever.
#[derive(Debug, Default)]
pub(crate) struct SameKeySameAnswer {
    recorded: BTreeSet<Name>,
}

impl Invariant for SameKeySameAnswer {
    fn id(&self) -> InvariantId {
        InvariantId::I24
    }

    fn committed(&mut self, tx: &Tx<'_>, _facts: &Facts) -> Vec<Finding> {
        let mut found = Vec::new();
        for (key, _) in &tx.raw.responses {
            let name = (Arc::clone(&key.principal), Arc::clone(&key.route), Arc::clone(&key.key));
            if !self.recorded.insert(name) {
                found.push(Finding::new(format!(
                    "the key {:?} of {} was carried out a second time",
                    key.key, key.route
                )));
            }
        }
        found
    }

    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        complaints(end, self.id())
    }
}
