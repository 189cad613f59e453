//! Locks and reads aggregates and rows of views, many in one round trip.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use amarra_core::{AggregateId, Version};
use amarra_messaging::TxError;
use amarra_store::unit::StoredState;
use amarra_store::{ViewName, ViewRow};
use bytes::Bytes;
use sqlx::Row as _;

use super::PgUnit;
use super::writes::{Known, View};
use crate::config::PgConfig;
use crate::sql::{Answer, Argument, Script, lock_key};

/// What one statement found, by the place of its name among those asked for, from 1 on.
type Found = BTreeMap<i64, (Version, Bytes)>;

impl PgUnit {
    /// Locks and reads the aggregates that are not locked yet, in id order.
    pub(super) async fn learn(&mut self, ids: &[AggregateId]) -> Result<(), TxError> {
        let known = &self.writes.aggregates;
        let wanted: BTreeSet<&AggregateId> =
            ids.iter().filter(|id| known.get(id).is_none_or(|known| !known.locked)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let (locks, read) = reading(&wanted);
        let answers = self.lock_and_read(AGGREGATES, locks, &read).await?;
        self.learned(&wanted, &answers)
    }

    /// Takes what the script of [`reading`] was answered.
    pub(super) fn learned(
        &mut self,
        wanted: &BTreeSet<&AggregateId>,
        answers: &[Answer],
    ) -> Result<(), TxError> {
        let found = answers.first().map_or_else(|| Ok(Found::new()), found);
        let mut found = self.decoded(found)?;
        for (n, &id) in (1..).zip(wanted) {
            let (version, body) = found.remove(&n).unwrap_or((Version::ABSENT, Bytes::new()));
            let stored = StoredState { version, body };
            match self.writes.aggregates.get_mut(id) {
                // It was created here without a look: the creation stands if it is absent.
                Some(blind) if version == Version::ABSENT => blind.locked = true,
                Some(_) => return self.fail(TxError::Conflict { id: id.clone() }),
                None => {
                    let known = Known { locked: true, stored: version, state: stored };
                    self.writes.aggregates.insert(id.clone(), known);
                }
            }
        }
        Ok(())
    }

    /// Locks and reads rows of views, in the order of their names.
    pub(super) async fn learn_views(
        &mut self,
        wanted: &BTreeSet<&ViewName>,
    ) -> Result<(), TxError> {
        let mut by_table: BTreeMap<Option<String>, Vec<&ViewName>> = BTreeMap::new();
        for name in wanted {
            let table = self.config().views.get(&*name.0).cloned();
            by_table.entry(table).or_default().push(name);
        }
        let mut read = Script::default();
        for (table, names) in &by_table {
            let keys = Argument::Texts(names.iter().map(|(_, key)| &**key).collect());
            let views = Argument::Texts(names.iter().map(|(view, _)| &**view).collect());
            match table {
                Some(table) => read.execute(&format!("amarra_get_{table}"), &[keys]),
                None => read.execute("amarra_view_get", &[views, keys]),
            };
        }
        let locks = wanted.iter().map(|(view, key)| lock_key("view", &[view, key])).collect();
        let answers = self.lock_and_read("load of views (load_max)", locks, &read).await?;
        for (names, answer) in by_table.into_values().zip(&answers) {
            let mut found = self.decoded(found(answer))?;
            for (n, name) in (1..).zip(names) {
                let loaded = found.remove(&n).map(|(position, body)| ViewRow {
                    key: Arc::clone(&name.1),
                    position,
                    body,
                });
                self.writes.views.insert(name.clone(), View { locked: true, loaded, write: None });
            }
        }
        Ok(())
    }

    /// Takes locks in their order, then reads: one round trip, and as many answers as statements.
    async fn lock_and_read(
        &mut self,
        what: &'static str,
        locks: Vec<i64>,
        read: &Script,
    ) -> Result<Vec<Answer>, TxError> {
        let script = match locked(what, locks, read, self.config()) {
            Ok(script) => script,
            Err(e) => return self.fail(e),
        };
        let mut answers = self.run(script).await?;
        Ok(answers.split_off(answers.len().min(1)))
    }
}

/// What aggregates are called where they are too many.
pub(super) const AGGREGATES: &str = "load (load_max)";

/// Returns the locks of aggregates, in id order, and the script that reads them.
pub(super) fn reading(wanted: &BTreeSet<&AggregateId>) -> (Vec<i64>, Script) {
    let lock = |id: &&AggregateId| lock_key("aggregate", &[&id.kind, &id.id]);
    let kinds = Argument::Texts(wanted.iter().map(|id| &*id.kind).collect());
    let names = Argument::Texts(wanted.iter().map(|id| &*id.id).collect());
    let mut read = Script::default();
    read.execute("amarra_load", &[kinds, names]);
    (wanted.iter().map(lock).collect(), read)
}

/// Returns the script that takes locks in their order and then reads; it refuses too many of them.
pub(super) fn locked(
    what: &'static str,
    locks: Vec<i64>,
    read: &Script,
    config: &PgConfig,
) -> Result<Script, TxError> {
    if locks.len() > config.load_max {
        let bound = u64::try_from(config.load_max).unwrap_or(u64::MAX);
        return Err(TxError::TooLarge { what, bound });
    }
    let mut script = Script::default();
    script.execute("amarra_lock", &[Argument::Ints(locks)]).append(read);
    Ok(script)
}

/// Decodes rows of a place, a version and a body.
fn found(answer: &Answer) -> Result<Found, sqlx::Error> {
    let mut found = Found::new();
    for row in &answer.rows {
        let version = Version::new(u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or_default());
        found.insert(row.try_get(0)?, (version, row.try_get::<Vec<u8>, _>(2)?.into()));
    }
    Ok(found)
}
