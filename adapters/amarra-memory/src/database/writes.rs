//! What one unit has written so far: its own until it commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use amarra_core::{AggregateId, EventId, Timestamp, Version};
use amarra_messaging::inbox::offset::Mark;
use amarra_messaging::inbox::window::Window;
use amarra_messaging::message::{Outgoing, Seq};
use amarra_messaging::{Group, Parked};
use amarra_store::read_model::ViewWrite;
use amarra_store::unit::StoredState;
use amarra_store::{AuditDraft, IdempotencyKey, StoredResponse};
use bytes::Bytes;

use super::inbox::{MarkKey, WindowKey};
use super::locks::LockKey;
use crate::observer::Admitted;

/// The name of a view row: view and key.
pub(super) type ViewKey = (Arc<str>, Arc<str>);

/// The write set of a unit.
#[derive(Debug, Default)]
pub(super) struct WriteSet {
    /// Every save, in call order.
    pub(super) saved: Vec<(AggregateId, Version, Bytes)>,
    latest: BTreeMap<AggregateId, usize>,
    pub(super) messages: Vec<(Seq, Outgoing)>,
    /// Every message admitted, whatever by.
    pub(super) admitted: Vec<Admitted>,
    /// Those that get a row.
    rows: BTreeSet<(Group, EventId)>,
    /// Windows and offsets as this unit, which has locked them, sees them.
    pub(super) windows: BTreeMap<WindowKey, Window>,
    pub(super) marks: BTreeMap<MarkKey, Mark>,
    pub(super) parked: Vec<(Group, Parked)>,
    pub(super) unparked: BTreeSet<(Group, u64)>,
    /// The idempotency keys begun.
    pub(super) begun: BTreeSet<LockKey>,
    pub(super) responses: Vec<(IdempotencyKey, StoredResponse)>,
    pub(super) audit: Vec<AuditDraft>,
    pub(super) views: BTreeMap<ViewKey, ViewWrite>,
    /// The timers set, with the time they are due, or removed.
    pub(super) timers: BTreeMap<AggregateId, Option<Timestamp>>,
}

impl WriteSet {
    /// Tells whether there is nothing to commit.
    pub(super) fn is_empty(&self) -> bool {
        self.saved.is_empty()
            && self.messages.is_empty()
            && self.admitted.is_empty()
            && self.windows.is_empty()
            && self.marks.is_empty()
            && self.parked.is_empty()
            && self.unparked.is_empty()
            && self.responses.is_empty()
            && self.audit.is_empty()
            && self.views.is_empty()
            && self.timers.is_empty()
    }

    /// Returns the aggregate as this unit last saved it.
    pub(super) fn state_of(&self, id: &AggregateId) -> Option<StoredState> {
        let (_, version, body) = self.saved.get(*self.latest.get(id)?)?;
        Some(StoredState { version: *version, body: body.clone() })
    }

    pub(super) fn save(&mut self, id: AggregateId, version: Version, body: Bytes) {
        self.latest.insert(id.clone(), self.saved.len());
        self.saved.push((id, version, body));
    }

    pub(super) fn has_row(&self, group: &Group, event: EventId) -> bool {
        !self.rows.is_empty() && self.rows.contains(&(group.clone(), event))
    }

    pub(super) fn add_row(&mut self, group: &Group, event: EventId) {
        self.rows.insert((group.clone(), event));
    }

    pub(super) fn admit_row(&mut self, admitted: Admitted) {
        self.add_row(&admitted.group, admitted.event);
        self.admitted.push(admitted);
    }

    pub(super) fn response_of(
        &self,
        key: &IdempotencyKey,
    ) -> Option<&(IdempotencyKey, StoredResponse)> {
        let name = |k: &IdempotencyKey| LockKey::from(k);
        self.responses.iter().find(|(other, _)| name(other) == name(key))
    }
}
