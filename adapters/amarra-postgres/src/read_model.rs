//! The read-model port: rows and pages of views, each read by one statement.

use std::sync::Arc;

use amarra_core::Version;
use amarra_messaging::TxError;
use amarra_store::{Page, PageQuery, ReadModel, ViewRow};
use async_trait::async_trait;
use bytes::Bytes;
use sqlx::AssertSqlSafe;

use crate::database::PgDatabase;

/// A [`ReadModel`] on PostgreSQL.
#[derive(Debug, Clone)]
pub struct PgReadModel {
    database: PgDatabase,
}

impl PgReadModel {
    /// Makes the read side of a database, which may be a replica.
    #[must_use]
    pub fn new(database: PgDatabase) -> Self {
        Self { database }
    }

    /// Names the rows of a view: its own table, or its part of the common one. `$1` is the view.
    fn source(&self, view: &str) -> String {
        match self.database.config().views.get(view) {
            Some(table) => format!("{table} WHERE $1::text IS NOT NULL"),
            None => "view_rows WHERE view = $1".to_owned(),
        }
    }
}

type Row = (String, i64, Vec<u8>);

fn row((key, position, body): Row) -> ViewRow {
    let position = Version::new(u64::try_from(position).unwrap_or_default());
    ViewRow { key: Arc::from(key), position, body: Bytes::from(body) }
}

#[async_trait]
impl ReadModel for PgReadModel {
    async fn get(&self, view: &str, key: &str) -> Result<Option<ViewRow>, TxError> {
        let source = self.source(view);
        let sql = format!("SELECT key, position, body FROM {source} AND key = $2");
        let found = || {
            sqlx::query_as::<_, Row>(AssertSqlSafe(sql.as_str()))
                .bind(view)
                .bind(key)
                .fetch_optional(self.database.pool())
        };
        Ok(self.database.bounded(found).await?.map(row))
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, TxError> {
        let source = self.source(&query.view);
        let limit = query.limit.min(self.database.config().rows_max);
        let upper = upper_bound(&query.prefix);
        let below = if upper.is_some() { "AND key < $5" } else { "AND $5::text IS NULL" };
        let after = if query.after.is_some() { "AND key > $3" } else { "AND $3::text IS NULL" };
        let sql = format!(
            "SELECT key, position, body FROM {source} AND key >= $2 {after} {below} \
             ORDER BY key LIMIT $4"
        );
        let rows = || {
            sqlx::query_as::<_, Row>(AssertSqlSafe(sql.as_str()))
                .bind(&*query.view)
                .bind(&*query.prefix)
                .bind(query.after.as_deref())
                .bind(i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX))
                .bind(upper.as_deref())
                .fetch_all(self.database.pool())
        };
        let mut rows: Vec<ViewRow> =
            self.database.bounded(rows).await?.into_iter().map(row).collect();
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|row| Arc::clone(&row.key));
        Ok(Page { rows, next })
    }
}

/// Returns the first text after every text that starts with `prefix`, none when there is none.
fn upper_bound(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            c => u32::from(c).checked_add(1).and_then(char::from_u32),
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::upper_bound;

    #[test]
    fn the_upper_bound_follows_every_text_of_the_prefix() {
        let check = |prefix: &str, expect: Option<&str>| {
            assert_eq!(upper_bound(prefix).as_deref(), expect);
        };
        check("", None);
        check("a", Some("b"));
        check("user/", Some("user0"));
        check("\u{d7ff}", Some("\u{e000}"));
        check("a\u{10ffff}", Some("b"));
        check("\u{10ffff}", None);
    }
}
