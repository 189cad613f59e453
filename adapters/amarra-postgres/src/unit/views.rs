//! Locks and reads rows of views, many in one round trip.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use amarra_core::Version;
use amarra_messaging::TxError;
use amarra_store::{ViewName, ViewRow};
use bytes::Bytes;
use sqlx::Row as _;

use super::PgUnit;
use super::writes::View;
use crate::sql::{Argument, Script, lock_key};

impl PgUnit {
    /// Locks and reads rows, in the order of their names.
    pub(super) async fn learn_views(
        &mut self,
        wanted: &BTreeSet<&ViewName>,
    ) -> Result<(), TxError> {
        if wanted.len() > self.config().load_max {
            let bound = u64::try_from(self.config().load_max).unwrap_or(u64::MAX);
            return self.fail(TxError::TooLarge { what: "load of views (load_max)", bound });
        }
        let locks = wanted.iter().map(|(view, key)| lock_key("view", &[view, key])).collect();
        let mut script = Script::default();
        script.execute("amarra_lock", &[Argument::Ints(locks)]);
        let mut by_table: BTreeMap<Option<String>, Vec<&ViewName>> = BTreeMap::new();
        for name in wanted {
            let table = self.config().views.get(&*name.0).cloned();
            by_table.entry(table).or_default().push(name);
        }
        for (table, names) in &by_table {
            let keys = Argument::Texts(names.iter().map(|(_, key)| &**key).collect());
            let views = Argument::Texts(names.iter().map(|(view, _)| &**view).collect());
            match table {
                Some(table) => script.execute(&format!("amarra_get_{table}"), &[keys]),
                None => script.execute("amarra_view_get", &[views, keys]),
            };
        }
        let answers = self.run(script).await?;
        for (names, answer) in by_table.into_values().zip(answers.iter().skip(1)) {
            let mut found = BTreeMap::new();
            for row in &answer.rows {
                let row = row
                    .try_get::<i64, _>(0)
                    .and_then(|n| Ok((n, row.try_get(1)?, row.try_get(2)?)));
                let (n, position, body): (i64, i64, Vec<u8>) = self.decoded(row)?;
                found.insert(n, (position, body));
            }
            for (n, name) in (1..).zip(names) {
                let loaded = found.remove(&n).map(|(position, body)| ViewRow {
                    key: Arc::clone(&name.1),
                    position: Version::new(u64::try_from(position).unwrap_or_default()),
                    body: Bytes::from(body),
                });
                self.writes.views.insert(name.clone(), View { locked: true, loaded, write: None });
            }
        }
        Ok(())
    }
}
