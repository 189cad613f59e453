//! Makes the publication that the stream reads.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::config::is_name;
use crate::error::WalError;

/// Publishes the inserts of the outbox table on the search path, if nobody did; `conn` is the
/// owner's of the table, who may also create in its database.
///
/// Partitions are published as their table, so new ones need nothing.
///
/// # Errors
/// [`WalError::Field`] for a name that is none; [`WalError::Unavailable`] for what the server says.
pub async fn publish(conn: &mut PgConnection, publication: &str) -> Result<(), WalError> {
    if !is_name(publication) {
        return Err(WalError::Field { field: "publication", must: "a lower-case SQL name" });
    }
    let failed = |e: sqlx::Error| WalError::Unavailable { why: e.to_string() };
    let there = "SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1)";
    let there = sqlx::query_scalar(there).bind(publication).fetch_one(&mut *conn).await;
    if there.map_err(failed)? {
        return Ok(());
    }
    let sql = format!(
        "CREATE PUBLICATION {publication} FOR TABLE outbox \
         WITH (publish = 'insert', publish_via_partition_root = true)"
    );
    let made = sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await;
    made.map(drop).map_err(failed)
}
