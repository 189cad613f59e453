//! The inbox port: admits each message once per group, inside the effect's own transaction.

use async_trait::async_trait;

use crate::error::TxError;
use crate::message::{Group, Incoming};

/// Whether a message may be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admit {
    /// The first time for this group: apply it.
    Fresh,
    /// A committed transaction of this group applied it: skip it.
    Duplicate,
}

/// Remembers, in the caller's transaction, which messages a group has applied.
///
/// # Laws
/// - INB-1 of all transactions that admit one message for one group, exactly one that commits was
///   answered `Fresh`.
/// - INB-2 an admission that is rolled back leaves no trace.
/// - INB-3 groups do not see each other's admissions.
/// - INB-4 a transaction that meets an admission in progress waits for its end, or fails with a
///   [`TxError`] of class `Transient` or `Conflict`.
#[async_trait]
pub trait Inbox: Send {
    /// Admits a message for a group.
    ///
    /// # Errors
    /// Any [`TxError`]; the transaction must then be rolled back.
    async fn admit(&mut self, group: &Group, message: &Incoming) -> Result<Admit, TxError>;
}
