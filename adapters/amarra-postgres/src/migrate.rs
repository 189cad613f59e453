//! The schema and its changes: our migrations, and those a service adds to them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqlSafeStr as _};

use crate::config::PgConfig;
use crate::database::{database, open, options};
use crate::error::PgError;

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
            (3, "inbox", include_str!("../migrations/0003_inbox.sql")),
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

/// Where a service's own migrations start.
const SERVICE_FROM: i64 = 1000;

/// Brings the schema up to date. The role in `config.url` must own the schema, or be allowed to
/// create it; services connect with another role, which cannot.
///
/// # Errors
/// [`PgError`]: a migration that was changed, or one that the server refuses.
pub async fn migrate(config: &PgConfig, migrations: &Migrations) -> Result<(), PgError> {
    config.validate()?;
    let mut conn = open(&options(config)?, config).await?;
    let mut migrator = Migrator::with_migrations(migrations.list.clone());
    migrator.set_ignore_missing(true);
    if config.schema != "public" {
        migrator.create_schema(config.schema.clone());
    }
    check_unknown(&mut conn, migrations).await?;
    let run = migrator.run_direct(None, &mut conn, false).await;
    let closed = conn.close().await.map_err(database);
    run.map_err(|e| match e {
        MigrateError::Dirty(version) => refused(version, "ended half-way: repair it by hand"),
        MigrateError::VersionMismatch(version) => {
            refused(version, "was changed after it was applied: restore it and add a new one")
        }
        other => PgError::Database { why: other.to_string() },
    })?;
    closed
}

fn refused(version: i64, why: &str) -> PgError {
    PgError::Migration { version, why: why.to_owned() }
}

/// Returns the applied migrations, none when there is no schema yet.
async fn applied(conn: &mut PgConnection) -> Result<BTreeMap<i64, (Vec<u8>, bool)>, PgError> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *conn)
        .await
        .map_err(database)?;
    if !there {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<(i64, Vec<u8>, bool)> =
        sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version")
            .fetch_all(conn)
            .await
            .map_err(database)?;
    Ok(rows.into_iter().map(|(version, sum, done)| (version, (sum, done))).collect())
}

async fn check_unknown(conn: &mut PgConnection, set: &Migrations) -> Result<(), PgError> {
    let has_own = set.list.iter().any(|m| m.version >= SERVICE_FROM);
    for &found in applied(conn).await?.keys() {
        let known = set.list.iter().any(|m| m.version == found);
        if !known && (found < SERVICE_FROM || has_own) {
            return Err(PgError::SchemaAhead { found });
        }
    }
    Ok(())
}

/// Checks that exactly these migrations are applied.
pub(crate) async fn check(conn: &mut PgConnection, set: &Migrations) -> Result<(), PgError> {
    check_unknown(conn, set).await?;
    let applied = applied(conn).await?;
    for migration in &set.list {
        let version = migration.version;
        match applied.get(&version) {
            None => return Err(PgError::SchemaBehind { missing: version }),
            Some((_, false)) => return Err(refused(version, "ended half-way: repair it by hand")),
            Some((sum, true)) if sum[..] != migration.checksum[..] => {
                return Err(refused(version, "differs from this binary's: run the matching one"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
