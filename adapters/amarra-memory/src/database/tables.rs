//! The committed rows of a database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use amarra_core::{AggregateId, EventId, PartitionKey};
use amarra_messaging::inbox::offset::Mark;
use amarra_messaging::inbox::window::Window;
use amarra_messaging::{Group, Parked, Topic};
use amarra_store::audit::AuditRow;
use amarra_store::read_model::{Page, PageQuery, ViewRow};
use amarra_store::unit::StoredState;
use amarra_store::{IdempotencyKey, Idempotent, StoredResponse};

use super::inbox::{MarkKey, WindowKey};
use super::locks::LockKey;
use super::outbox::OutboxTable;
use super::timers::Timers;
use super::writes::WriteSet;
use crate::observer::Admitted;

/// Names the parked messages of one key.
pub(super) type ParkedKey = (Group, Topic, PartitionKey);

/// Everything that is committed.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) aggregates: BTreeMap<AggregateId, StoredState>,
    pub(super) inbox: BTreeMap<(Group, EventId), Admitted>,
    pub(super) windows: BTreeMap<WindowKey, Window>,
    pub(super) marks: BTreeMap<MarkKey, Mark>,
    pub(super) parked: BTreeMap<(Group, u64), Parked>,
    parked_keys: BTreeMap<ParkedKey, BTreeSet<u64>>,
    responses: BTreeMap<LockKey, (IdempotencyKey, StoredResponse)>,
    pub(super) audit: Vec<AuditRow>,
    pub(super) views: BTreeMap<Arc<str>, BTreeMap<Arc<str>, ViewRow>>,
    pub(super) timers: Timers,
    pub(super) outbox: OutboxTable,
}

impl Tables {
    pub(super) fn new(shards: u16) -> Self {
        Self {
            aggregates: BTreeMap::new(),
            inbox: BTreeMap::new(),
            windows: BTreeMap::new(),
            marks: BTreeMap::new(),
            parked: BTreeMap::new(),
            parked_keys: BTreeMap::new(),
            responses: BTreeMap::new(),
            audit: Vec::new(),
            views: BTreeMap::new(),
            timers: Timers::default(),
            outbox: OutboxTable::new(shards),
        }
    }

    /// Applies the writes of transaction `xid` and returns its audit rows, chained.
    pub(super) fn apply(&mut self, xid: u64, writes: &WriteSet) -> Vec<AuditRow> {
        for (id, version, body) in &writes.saved {
            let state = StoredState { version: *version, body: body.clone() };
            self.aggregates.insert(id.clone(), state);
        }
        for (seq, message) in &writes.messages {
            self.outbox.append(xid, *seq, message);
        }
        for admitted in writes.admitted.iter().filter(|a| writes.has_row(&a.group, a.event)) {
            self.inbox.insert((admitted.group.clone(), admitted.event), admitted.clone());
        }
        self.windows
            .extend(writes.windows.iter().map(|(key, window)| (key.clone(), window.clone())));
        self.marks.extend(writes.marks.iter().map(|(key, mark)| (key.clone(), *mark)));
        for (key, response) in &writes.responses {
            self.responses.insert(LockKey::from(key), (key.clone(), response.clone()));
        }
        for (id, due) in &writes.timers {
            self.timers.set(id, *due);
        }
        self.apply_parking(writes);
        self.apply_views(writes);
        writes.audit.iter().map(|entry| self.chain(entry)).collect()
    }

    fn chain(&mut self, entry: &amarra_store::AuditDraft) -> AuditRow {
        let (number, previous) =
            self.audit.last().map_or((1, [0; 32]), |row| (row.number.saturating_add(1), row.hash));
        let row = AuditRow::chain(number, previous, entry.clone());
        self.audit.push(row.clone());
        row
    }

    fn apply_parking(&mut self, writes: &WriteSet) {
        for (group, parked) in &writes.parked {
            let key = (group.clone(), parked.delivery.topic.clone(), parked.delivery.key());
            self.parked_keys.entry(key).or_default().insert(parked.ticket);
            self.parked.insert((group.clone(), parked.ticket), parked.clone());
        }
        for name in &writes.unparked {
            let Some(parked) = self.parked.remove(name) else { continue };
            let key = (name.0.clone(), parked.delivery.topic.clone(), parked.delivery.key());
            if let Some(tickets) = self.parked_keys.get_mut(&key) {
                tickets.remove(&parked.ticket);
                if tickets.is_empty() {
                    self.parked_keys.remove(&key);
                }
            }
        }
    }

    fn apply_views(&mut self, writes: &WriteSet) {
        for ((view, key), write) in &writes.views {
            let rows = self.views.entry(Arc::clone(view)).or_default();
            match &write.body {
                None => drop(rows.remove(key)),
                Some(body) => {
                    let (key, position, body) = (Arc::clone(key), write.position, body.clone());
                    rows.insert(Arc::clone(&key), ViewRow { key, position, body });
                }
            }
        }
    }

    /// Returns the tickets of a key's parked messages, in the order they were parked.
    pub(super) fn tickets(&self, key: &ParkedKey) -> impl Iterator<Item = u64> {
        self.parked_keys.get(key).into_iter().flatten().copied()
    }

    /// Answers a key that was committed, none for one that was not.
    pub(super) fn response(&self, key: &IdempotencyKey) -> Option<Idempotent> {
        let (stored, response) = self.responses.get(&LockKey::from(key))?;
        Some(replay(stored, response, key))
    }

    /// Lists recorded responses.
    pub(super) fn responses(&self) -> impl Iterator<Item = &(IdempotencyKey, StoredResponse)> {
        self.responses.values()
    }

    pub(super) fn view_row(&self, view: &str, key: &str) -> Option<&ViewRow> {
        self.views.get(view)?.get(key)
    }

    /// Reads one page; one row more than asked for tells whether there is a next one.
    pub(super) fn page(&self, query: &PageQuery) -> Page {
        let Some(view) = self.views.get(&query.view) else {
            return Page { rows: Vec::new(), next: None };
        };
        let start = query.after.as_ref().filter(|after| ***after >= *query.prefix);
        let from = match start {
            Some(after) => std::ops::Bound::Excluded(Arc::clone(after)),
            None => std::ops::Bound::Included(Arc::clone(&query.prefix)),
        };
        let mut matching = view
            .range((from, std::ops::Bound::Unbounded))
            .map(|(_, row)| row)
            .take_while(|row| row.key.starts_with(&*query.prefix));
        let rows: Vec<ViewRow> = matching.by_ref().take(query.limit).cloned().collect();
        let more = matching.next().is_some();
        let next = rows.last().filter(|_| more).map(|row| Arc::clone(&row.key));
        Page { rows, next }
    }
}

/// Answers a key whose response is known: replay it, unless the request is another one.
pub(super) fn replay(
    stored: &IdempotencyKey,
    response: &StoredResponse,
    asked: &IdempotencyKey,
) -> Idempotent {
    if stored.request_hash == asked.request_hash {
        Idempotent::Replay(response.clone())
    } else {
        Idempotent::Mismatch
    }
}
