//! What a unit knows under its locks, and the writes it keeps until the commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{AggregateId, Version};
use amarra_store::read_model::{ViewName, ViewRow, ViewWrite};
use amarra_store::unit::StoredState;
use amarra_store::{AuditDraft, IdempotencyKey, StoredResponse};
use bytes::Bytes;

use super::inbox::Admissions;
use crate::config::PgConfig;
use crate::idempotency::KeyName;
use crate::outbox::OutboxRows;
use crate::sql::{Argument, Script, lock_key};

/// The longest timer, a hundred years: more does not fit the server's timestamps.
const TIMER_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// An aggregate that is locked, or created without having been looked at.
#[derive(Debug)]
pub(super) struct Known {
    /// Whether it is locked; else it is taken to be absent, and the commit finds out.
    pub(super) locked: bool,
    /// The version that is committed.
    pub(super) stored: Version,
    /// The state as this unit sees it.
    pub(super) state: StoredState,
}

/// A view row that is locked, written or both.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) locked: bool,
    pub(super) loaded: Option<ViewRow>,
    pub(super) write: Option<ViewWrite>,
}

impl View {
    /// Returns the row as this unit sees it.
    pub(super) fn row(&self, key: &Arc<str>) -> Option<ViewRow> {
        let Some(write) = &self.write else { return self.loaded.clone() };
        let row = |body: &Bytes| ViewRow {
            key: Arc::clone(key),
            position: write.position,
            body: body.clone(),
        };
        write.body.as_ref().map(row)
    }
}

/// Which statements of a script write aggregates, and how many rows each must change.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) created: Option<(usize, usize)>,
    pub(super) updated: Option<(usize, usize)>,
}

/// The write set, ordered by name in every part: units lock in one order at their commits.
#[derive(Debug, Default)]
pub(super) struct Writes {
    pub(super) aggregates: BTreeMap<AggregateId, Known>,
    pub(super) timers: BTreeMap<AggregateId, Option<Duration>>,
    pub(super) begun: BTreeSet<KeyName>,
    pub(super) responses: BTreeMap<KeyName, (IdempotencyKey, StoredResponse)>,
    pub(super) audit: Vec<AuditDraft>,
    pub(super) views: BTreeMap<ViewName, View>,
    pub(super) admissions: Admissions,
    /// In the order they were appended in.
    pub(super) outbox: OutboxRows,
}

impl Writes {
    /// Returns aggregates that are locked as this unit sees them.
    pub(super) fn states(&self, ids: &[AggregateId]) -> Vec<StoredState> {
        let known = ids.iter().filter_map(|id| self.aggregates.get(id));
        known.map(|known| known.state.clone()).collect()
    }

    /// Adds the statements that write everything but the audit chain. Returns which of them write
    /// aggregates, with how many rows each must change.
    pub(super) fn script(&self, config: &PgConfig, script: &mut Script) -> Written {
        let mut sent = 0_usize;
        let mut execute = |name: &str, arguments: &[Argument<'_>]| {
            script.execute(name, arguments);
            sent = sent.saturating_add(1);
            sent.saturating_sub(1)
        };
        self.lock_blind(&mut execute);
        let written = self.write_aggregates(&mut execute);
        self.write_timers(&mut execute);
        for (key, response) in self.responses.values() {
            execute(
                "amarra_respond",
                &[
                    Argument::Text(&key.principal),
                    Argument::Text(&key.route),
                    Argument::Text(&key.key),
                    Argument::Bytes(&key.request_hash),
                    Argument::Int(i64::from(response.status)),
                    Argument::Bytes(&response.body),
                ],
            );
        }
        self.write_views(config, &mut execute);
        self.admissions.script(&mut execute);
        // Last, when every lock of the unit is held: whoever comes later draws higher values.
        self.outbox.script(&mut execute);
        written
    }

    /// Locks what is written without having been loaded, so that whoever loaded it is waited for.
    fn lock_blind(&self, execute: &mut impl FnMut(&str, &[Argument<'_>]) -> usize) {
        let blind = self.aggregates.iter().filter(|(_, known)| !known.locked);
        let aggregates = blind.map(|(id, _)| lock_key("aggregate", &[&id.kind, &id.id]));
        let blind = self.views.iter().filter(|(_, view)| !view.locked && view.write.is_some());
        let views = blind.map(|((view, key), _)| lock_key("view", &[view, key]));
        let locks: Vec<i64> = aggregates.chain(views).collect();
        if !locks.is_empty() {
            execute("amarra_lock", &[Argument::Ints(locks)]);
        }
    }

    fn write_aggregates(
        &self,
        execute: &mut impl FnMut(&str, &[Argument<'_>]) -> usize,
    ) -> Written {
        let mut written = Written::default();
        let changed = self.aggregates.iter().filter(|(_, k)| k.state.version != k.stored);
        let (created, updated): (Vec<_>, Vec<_>) =
            changed.partition(|(_, known)| known.stored == Version::ABSENT);
        let columns = |rows: &[(&AggregateId, &Known)]| {
            let version = |v: Version| i64::try_from(v.get()).unwrap_or(i64::MAX);
            rows.iter()
                .map(|(_, known)| (version(known.stored), version(known.state.version)))
                .unzip::<i64, i64, Vec<_>, Vec<_>>()
        };
        if !created.is_empty() {
            let at = execute(
                "amarra_create",
                &[
                    Argument::Texts(created.iter().map(|(id, _)| &*id.kind).collect()),
                    Argument::Texts(created.iter().map(|(id, _)| &*id.id).collect()),
                    Argument::Ints(columns(&created).1),
                    Argument::ByteArrays(created.iter().map(|(_, k)| &*k.state.body).collect()),
                ],
            );
            written.created = Some((at, created.len()));
        }
        if updated.is_empty() {
            return written;
        }
        let (expected, versions) = columns(&updated);
        let at = execute(
            "amarra_update",
            &[
                Argument::Texts(updated.iter().map(|(id, _)| &*id.kind).collect()),
                Argument::Texts(updated.iter().map(|(id, _)| &*id.id).collect()),
                Argument::Ints(expected),
                Argument::Ints(versions),
                Argument::ByteArrays(updated.iter().map(|(_, k)| &*k.state.body).collect()),
            ],
        );
        Written { updated: Some((at, updated.len())), ..written }
    }

    fn write_timers(&self, execute: &mut impl FnMut(&str, &[Argument<'_>]) -> usize) {
        let (set, cleared): (Vec<_>, Vec<_>) = self.timers.iter().partition(|(_, d)| d.is_some());
        let kinds = |ids: &[(&AggregateId, &Option<Duration>)]| {
            ids.iter().map(|(id, _)| Arc::clone(&id.kind)).collect::<Vec<_>>()
        };
        if !set.is_empty() {
            let kinds = kinds(&set);
            let micros = |d: &Option<Duration>| {
                let micros = d.unwrap_or_default().min(TIMER_MAX).as_micros();
                i64::try_from(micros).unwrap_or(i64::MAX)
            };
            execute(
                "amarra_timer_set",
                &[
                    Argument::Texts(kinds.iter().map(AsRef::as_ref).collect()),
                    Argument::Texts(set.iter().map(|(id, _)| &*id.id).collect()),
                    Argument::Ints(set.iter().map(|(_, after)| micros(after)).collect()),
                ],
            );
        }
        if !cleared.is_empty() {
            let kinds = kinds(&cleared);
            execute(
                "amarra_timer_clear",
                &[
                    Argument::Texts(kinds.iter().map(AsRef::as_ref).collect()),
                    Argument::Texts(cleared.iter().map(|(id, _)| &*id.id).collect()),
                ],
            );
        }
    }

    fn write_views(
        &self,
        config: &PgConfig,
        execute: &mut impl FnMut(&str, &[Argument<'_>]) -> usize,
    ) {
        let mut by_table: BTreeMap<Option<&String>, Vec<&ViewWrite>> = BTreeMap::new();
        for write in self.views.values().filter_map(|view| view.write.as_ref()) {
            by_table.entry(config.views.get(&*write.view)).or_default().push(write);
        }
        for (table, writes) in by_table {
            let (put, gone): (Vec<_>, Vec<_>) = writes.iter().partition(|w| w.body.is_some());
            let views = |of: &[&&ViewWrite]| of.iter().map(|w| w.view.clone()).collect::<Vec<_>>();
            let (put_views, gone_views) = (views(&put), views(&gone));
            let keys = |of: &[&&'_ ViewWrite]| of.iter().map(|w| w.key.clone()).collect::<Vec<_>>();
            let (put_keys, gone_keys) = (keys(&put), keys(&gone));
            if !put.is_empty() {
                let position =
                    |w: &&&ViewWrite| i64::try_from(w.position.get()).unwrap_or(i64::MAX);
                let rows = [
                    Argument::Texts(put_views.iter().map(AsRef::as_ref).collect()),
                    Argument::Texts(put_keys.iter().map(AsRef::as_ref).collect()),
                    Argument::Ints(put.iter().map(position).collect()),
                    Argument::ByteArrays(put.iter().filter_map(|w| w.body.as_deref()).collect()),
                ];
                match table {
                    Some(table) => {
                        execute(&format!("amarra_put_{table}"), rows.get(1..).unwrap_or_default())
                    }
                    None => execute("amarra_view_put", &rows),
                };
            }
            if !gone.is_empty() {
                let rows = [
                    Argument::Texts(gone_views.iter().map(AsRef::as_ref).collect()),
                    Argument::Texts(gone_keys.iter().map(AsRef::as_ref).collect()),
                ];
                match table {
                    Some(table) => execute(
                        &format!("amarra_delete_{table}"),
                        rows.get(1..).unwrap_or_default(),
                    ),
                    None => execute("amarra_view_delete", &rows),
                };
            }
        }
    }
}
