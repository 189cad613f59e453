//! Durable timers: one per aggregate, claimed by lease and fenced by epoch.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::AggregateId;
use amarra_messaging::message::{Epoch, Owner};

/// Asks for aggregates of one kind whose timer is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueQuery {
    /// The kind.
    pub kind: Arc<str>,
    /// Who will work on them.
    pub owner: Owner,
    /// For how long nobody else gets them, by the database's clock.
    pub lease: Duration,
    /// At most how many, the longest due first.
    pub limit: usize,
}

/// The right to act on one aggregate's due timer, until the lease ends or a newer claim begins.
///
/// The owner calls [`UnitOfWork::verify`](crate::UnitOfWork::verify) in the transaction that acts,
/// and schedules the next timer or none in the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The aggregate.
    pub id: AggregateId,
    /// The fencing epoch.
    pub epoch: Epoch,
    /// Who holds it.
    pub owner: Owner,
}

/// What one look at the timers of a kind came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Due {
    /// The claims, the longest due first.
    pub claims: Vec<Claim>,
    /// How long it takes until a timer of the kind is due that nobody has claimed; none when there
    /// is no such timer, when as many were claimed as were asked for, or when it cannot be told.
    pub wait: Option<Duration>,
}
