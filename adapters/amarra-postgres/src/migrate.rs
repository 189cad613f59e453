//! The schema and its changes: our migrations, and those a service adds to them.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

/// A set of schema changes.
///
/// Ours have versions below 1000. A service's own start at 1000: its view tables, and typed columns
/// generated from a view's body.
#[derive(Debug, Clone)]
pub struct Migrations {
    pub(crate) list: Vec<Migration>,
}

impl Default for Migrations {
    /// Our own.
    fn default() -> Self {
        let ours = [
            (1, "core", include_str!("../migrations/0001_core.sql")),
            (2, "outbox", include_str!("../migrations/0002_outbox.sql")),
        ];
        let mut all = Self { list: Vec::new() };
        for (version, name, sql) in ours {
            all.push(version, name, sql);
        }
        all
    }
}

impl Migrations {
    /// Adds a service's migration; `version` is 1000 or above and says the order.
    #[must_use]
    pub fn with(mut self, version: i64, name: &'static str, sql: impl Into<String>) -> Self {
        self.push(version, name, sql);
        self
    }

    fn push(&mut self, version: i64, name: &'static str, sql: impl Into<String>) {
        let sql = AssertSqlSafe(sql.into()).into_sql_str();
        let name = Cow::Borrowed(name);
        self.list.push(Migration::new(version, name, MigrationType::Simple, sql, false));
    }
}
