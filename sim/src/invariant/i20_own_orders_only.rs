//! I20: no answer shows one customer's order to another.

use amarra_core::InvariantId;

use super::{Finding, Invariant, complaints};
use crate::oracle::Settled;

/// Every tenth order is asked for by another customer.
#[derive(Debug)]
pub(crate) struct OwnOrdersOnly;

impl Invariant for OwnOrdersOnly {
    fn id(&self) -> InvariantId {
        InvariantId::I20
    }

    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        complaints(end, self.id())
    }
}
