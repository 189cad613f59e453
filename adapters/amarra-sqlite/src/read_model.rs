//! The read-model port: rows as the last commit left them.

use std::sync::Arc;

use amarra_core::Version;
use amarra_messaging::TxError;
use amarra_store::ReadModel;
use amarra_store::read_model::{Page, PageQuery, ViewRow, ViewWrite};
use async_trait::async_trait;
use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection, SqliteExecutor};

use crate::clock::{int, nat, rows};
use crate::database::Shared;
use crate::unit::driver;

/// Reads the views of a [`SqliteDatabase`](crate::SqliteDatabase) beside its writer.
#[derive(Debug, Clone)]
pub struct SqliteReadModel {
    shared: Arc<Shared>,
}

impl SqliteReadModel {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[async_trait]
impl ReadModel for SqliteReadModel {
    async fn get(&self, view: &str, key: &str) -> Result<Option<ViewRow>, TxError> {
        row(&self.shared.readers, view, key).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, TxError> {
        // Keys of a prefix are neighbours, from the prefix itself on. One row more than asked for
        // tells whether there is another page.
        let (select, from) = match &query.after {
            Some(after) if **after >= *query.prefix => (
                "SELECT key, position, body FROM views WHERE view = ? AND key > ? \
                 ORDER BY key LIMIT ?",
                after,
            ),
            _ => (
                "SELECT key, position, body FROM views WHERE view = ? AND key >= ? \
                 ORDER BY key LIMIT ?",
                &query.prefix,
            ),
        };
        let found = sqlx::query(select)
            .bind(&*query.view)
            .bind(&**from)
            .bind(rows(query.limit.saturating_add(1)))
            .fetch_all(&self.shared.readers)
            .await
            .map_err(driver)?;
        let found: Result<Vec<_>, _> = found.iter().map(view_row).collect();
        let mut found = found.map_err(driver)?;
        found.retain(|row| row.key.starts_with(&*query.prefix));
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let next = found.last().filter(|_| more).map(|row| Arc::clone(&row.key));
        Ok(Page { rows: found, next })
    }
}

fn view_row(row: &SqliteRow) -> Result<ViewRow, sqlx::Error> {
    let key: String = row.try_get(0)?;
    let body: Vec<u8> = row.try_get(2)?;
    let position = Version::new(nat(row.try_get(1)?));
    Ok(ViewRow { key: Arc::from(key), position, body: Bytes::from(body) })
}

/// Returns one row.
pub(crate) async fn row(
    executor: impl SqliteExecutor<'_>,
    view: &str,
    key: &str,
) -> Result<Option<ViewRow>, TxError> {
    let row = sqlx::query("SELECT key, position, body FROM views WHERE view = ? AND key = ?")
        .bind(view)
        .bind(key)
        .fetch_optional(executor)
        .await
        .map_err(driver)?;
    row.as_ref().map(view_row).transpose().map_err(driver)
}

/// Writes or deletes one row.
pub(crate) async fn write(
    connection: &mut SqliteConnection,
    write: &ViewWrite,
) -> Result<(), TxError> {
    let query = match &write.body {
        None => sqlx::query("DELETE FROM views WHERE view = ? AND key = ?")
            .bind(&*write.view)
            .bind(&*write.key),
        Some(body) => sqlx::query(
            "INSERT INTO views (view, key, position, body) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (view, key) DO UPDATE SET position = ?3, body = ?4",
        )
        .bind(&*write.view)
        .bind(&*write.key)
        .bind(int(write.position.get()))
        .bind(&**body),
    };
    query.execute(connection).await.map(drop).map_err(driver)
}
