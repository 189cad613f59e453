//! Which copy of the database a connection leads to: a restored or promoted one is another source.

use std::sync::{Arc, PoisonError, RwLock};

use amarra_messaging::outbox::LogError;
use sqlx::{Connection as _, PgConnection};

use crate::error::log_error;

/// Added to every epoch when a copy is recognised, so that no lease of the original is served.
const EPOCHS: i64 = 1_000_000;

/// The name of the outbox in positions, kept true to the server behind it.
///
/// A database that was restored to an earlier time, or failed over to a replica, goes on at
/// positions that its original may have given to other messages. It therefore gets a new name, and
/// everybody who held a lease is fenced. Consumers that count positions start anew with the name;
/// what was sent twice around the switch is recognised by message id alone.
///
/// A dump restored into another cluster has lost the meaning of its transaction ids: it is refused
/// until [`PgPartitions::adopt`](crate::PgPartitions::adopt) has given it new ones.
#[derive(Debug)]
pub(crate) struct Origin {
    base: Arc<str>,
    name: RwLock<Arc<str>>,
}

impl Origin {
    pub(super) fn new(base: &str) -> Self {
        let base: Arc<str> = base.into();
        Self { name: RwLock::new(Arc::clone(&base)), base }
    }

    /// Returns the name.
    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at where a new connection leads, once before it is used.
    pub(super) async fn settle(&self, conn: &mut PgConnection) -> Result<(), LogError> {
        let incarnation = incarnation(conn).await?;
        let name = match incarnation {
            1 => Arc::clone(&self.base),
            n => format!("{}~{n}", self.base).into(),
        };
        *self.name.write().unwrap_or_else(PoisonError::into_inner) = name;
        Ok(())
    }
}

async fn incarnation(conn: &mut PgConnection) -> Result<i64, LogError> {
    let failed = |e: sqlx::Error| log_error(&e);
    let (system, timeline) = identity(conn).await.map_err(failed)?;
    let stored = "SELECT system, timeline, incarnation FROM outbox_origin";
    let found: Option<(String, String, i64)> =
        sqlx::query_as(stored).fetch_optional(&mut *conn).await.map_err(failed)?;
    match found {
        Some((s, t, n)) if s == system && t == timeline => Ok(n),
        Some((s, ..)) if s != system => Err(LogError::Corrupt {
            what: "outbox".to_owned(),
            why: "it was restored into another cluster: adopt it with the owner role".to_owned(),
        }),
        _ => recognise(conn, &system, &timeline).await.map_err(failed),
    }
}

/// Reads the cluster's identifier and timeline.
pub(crate) async fn identity(conn: &mut PgConnection) -> Result<(String, String), sqlx::Error> {
    let sql = "SELECT system_identifier::text, \
               substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) FROM pg_control_system()";
    sqlx::query_as(sql).fetch_one(conn).await
}

/// Takes note of a new copy, fencing the leases of the one before.
pub(crate) async fn recognise(
    conn: &mut PgConnection,
    system: &str,
    timeline: &str,
) -> Result<i64, sqlx::Error> {
    let mut tx = conn.begin().await?;
    let note = "INSERT INTO outbox_origin AS o (system, timeline, incarnation) VALUES ($1, $2, 1) \
                ON CONFLICT (one) DO UPDATE SET system = $1, timeline = $2, \
                    incarnation = o.incarnation + 1 \
                WHERE o.system <> $1 OR o.timeline <> $2 RETURNING incarnation";
    let noted: Option<i64> =
        sqlx::query_scalar(note).bind(system).bind(timeline).fetch_optional(&mut *tx).await?;
    if noted.is_some_and(|n| n > 1) {
        let fence = "UPDATE outbox_cursor SET epoch = epoch + $1, owner = NULL, \
                     expires = '-infinity'";
        sqlx::query(fence).bind(EPOCHS).execute(&mut *tx).await?;
    }
    let now = "SELECT incarnation FROM outbox_origin";
    let incarnation = sqlx::query_scalar(now).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(incarnation)
}
