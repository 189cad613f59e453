//! The inbox port: admissions in the caller's transaction.

use amarra_messaging::{Admit, Group, Incoming, TxError};
use sqlx::PgConnection;

use crate::error::tx_error;

/// Admits messages inside a transaction of the caller's own.
///
/// # Laws
/// Those of [`Inbox`](amarra_messaging::Inbox).
///
/// # Example
/// ```no_run
/// # async fn example(pool: sqlx::PgPool, message: amarra_messaging::Incoming)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use amarra_messaging::Admit;
/// use amarra_postgres::PgInbox;
///
/// let mut tx = pool.begin().await?;
/// if PgInbox::admit(&mut tx, &"billing".into(), &message).await? == Admit::Fresh {
///     sqlx::query("UPDATE invoice SET paid = true").execute(&mut *tx).await?;
/// }
/// tx.commit().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PgInbox;

impl PgInbox {
    /// Admits a message for a group: one round trip. It waits for an admission in progress.
    ///
    /// # Errors
    /// Any [`TxError`]; the transaction must then be rolled back.
    pub async fn admit(
        conn: &mut PgConnection,
        group: &Group,
        message: &Incoming,
    ) -> Result<Admit, TxError> {
        let admitted = Self::rows(conn, group, message).await.map_err(|e| tx_error(&e))?;
        Ok(if admitted.is_some() { Admit::Fresh } else { Admit::Duplicate })
    }

    /// Inserts the admission; returns the transaction's id, none when there was one already.
    pub(crate) async fn rows(
        conn: &mut PgConnection,
        group: &Group,
        message: &Incoming,
    ) -> Result<Option<i64>, sqlx::Error> {
        sqlx::query_scalar(
            "INSERT INTO inbox (grp, message, topic, partition, \"offset\") \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (grp, message) DO NOTHING \
             RETURNING pg_current_xact_id()::text::bigint",
        )
        .bind(group.as_str())
        .bind(message.envelope.id.as_uuid())
        .bind(message.topic.as_str())
        .bind(i64::from(message.partition.0))
        .bind(i64::try_from(message.offset.0).unwrap_or(i64::MAX))
        .fetch_optional(conn)
        .await
    }
}
