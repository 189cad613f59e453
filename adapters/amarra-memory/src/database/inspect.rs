//! A view of what is committed, for oracles and tests.

use std::sync::Arc;

use amarra_core::AggregateId;
use amarra_messaging::message::Seq;
use amarra_messaging::outbox::{ParkedRow, Snapshot};
use amarra_messaging::{Group, Parked};
use amarra_store::audit::AuditRow;
use amarra_store::read_model::ViewRow;
use amarra_store::unit::StoredState;
use amarra_store::{IdempotencyKey, StoredResponse};

use super::outbox::{OutboxRow, ShardRow};
use super::state::State;
use super::timers::TimerRow;
use crate::observer::Admitted;

/// What is committed in a database; see
/// [`MemoryDatabase::inspect`](super::MemoryDatabase::inspect).
#[derive(Debug)]
pub struct Inspection<'a> {
    state: &'a State,
}

impl<'a> Inspection<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        Self { state }
    }

    /// Tells whether the server runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state.running
    }

    /// Returns one aggregate.
    #[must_use]
    pub fn aggregate(&self, id: &AggregateId) -> Option<&'a StoredState> {
        self.state.tables.aggregates.get(id)
    }

    /// Lists the aggregates of a kind, ascending by id.
    pub fn aggregates(
        &self,
        kind: &str,
    ) -> impl Iterator<Item = (&'a AggregateId, &'a StoredState)> + use<'a> {
        let from = AggregateId::new(kind, "");
        let kind = Arc::clone(&from.kind);
        self.state.tables.aggregates.range(from..).take_while(move |(id, _)| id.kind == kind)
    }

    /// Lists outbox rows, by shard and then transaction.
    pub fn outbox(&self) -> impl Iterator<Item = OutboxRow<'a>> + use<'a> {
        self.state.tables.outbox.iter()
    }

    /// Lists outbox shards with lease and cursor.
    pub fn shards(&self) -> impl Iterator<Item = ShardRow<'a>> + use<'a> {
        self.state.tables.outbox.shards()
    }

    /// Lists outbox rows that the relay set aside, ascending by sequence.
    #[must_use]
    pub fn outbox_parked(&self) -> Vec<ParkedRow> {
        self.state.tables.outbox.parked(Seq(0), usize::MAX)
    }

    /// Lists the admissions that have a row, by group and event: those of windows and offsets do
    /// not.
    pub fn inbox(&self) -> impl Iterator<Item = &'a Admitted> + use<'a> {
        self.state.tables.inbox.values()
    }

    /// Lists parked messages, by group and ticket.
    pub fn parked(&self) -> impl Iterator<Item = (&'a Group, &'a Parked)> + use<'a> {
        self.state.tables.parked.iter().map(|((group, _), parked)| (group, parked))
    }

    /// Lists the audit chain.
    #[must_use]
    pub fn audit(&self) -> &'a [AuditRow] {
        &self.state.tables.audit
    }

    /// Lists the names of the views.
    pub fn views(&self) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        self.state.tables.views.keys()
    }

    /// Lists the rows of a view, ascending by key.
    pub fn view(&self, view: &str) -> impl Iterator<Item = &'a ViewRow> + use<'a> {
        self.state.tables.views.get(view).into_iter().flat_map(|rows| rows.values())
    }

    /// Lists recorded responses of idempotency keys.
    pub fn responses(
        &self,
    ) -> impl Iterator<Item = &'a (IdempotencyKey, StoredResponse)> + use<'a> {
        self.state.tables.responses()
    }

    /// Lists the timers that are set, ascending by aggregate.
    pub fn timers(&self) -> impl Iterator<Item = TimerRow<'a>> + use<'a> {
        self.state.tables.timers.iter()
    }

    /// Takes a snapshot, as a transaction beginning now would.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.state.transactions.snapshot()
    }
}
