//! I16: each committed change has one audit row with an actor; the hash chain is intact.

use std::collections::BTreeMap;

use amarra_core::InvariantId;
use amarra_store::audit::verify_chain;

use super::{Finding, Invariant};
use crate::oracle::{Facts, Settled, Tx};

/// Every save of a transaction has its audit row in the same one, and no row is without a save.
#[derive(Debug)]
pub(crate) struct Audited;

impl Invariant for Audited {
    fn id(&self) -> InvariantId {
        InvariantId::I16
    }

    fn committed(&mut self, tx: &Tx<'_>, _facts: &Facts) -> Vec<Finding> {
        let mut balance: BTreeMap<_, i64> = BTreeMap::new();
        for (id, version, _) in &tx.raw.saved {
            *balance.entry((id, *version)).or_default() += 1;
        }
        for row in &tx.raw.audited {
            *balance.entry((&row.entry.aggregate, row.entry.version)).or_default() -= 1;
        }
        let uneven = balance.into_iter().filter(|(_, n)| *n != 0);
        uneven
            .map(|((id, version), n)| {
                let what = if n > 0 { "has no audit row" } else { "is audited but not saved" };
                Finding::new(format!("{id} version {version} in {} {what}", tx.raw.database))
            })
            .collect()
    }

    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (name, database) in &end.cluster.databases {
            let checked = database.inspect(|i| verify_chain(0, [0; 32], i.audit()));
            if let Err(broken) = checked {
                found.push(Finding::new(format!("audit chain of {name}: {broken}")));
            }
        }
        found
    }
}
