//! Makes the role that follows the log, and the publication that the stream reads.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

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

/// Makes a role that follows the log and does nothing else, or brings the one that is there to the
/// same state, and lets it into one database; `admin` reaches the server as a superuser.
///
/// # Errors
/// [`WalError::Level`] where the server writes too little into its log; [`WalError::Field`] for a
/// name that is none or an empty password; [`WalError::Unavailable`] for what the server says.
pub async fn admit(
    admin: PgConnectOptions,
    role: &str,
    password: &str,
    database: &str,
) -> Result<(), WalError> {
    for (field, name) in [("role", role), ("database", database)] {
        if !is_name(name) {
            return Err(WalError::Field { field, must: "a lower-case SQL name" });
        }
    }
    if password.is_empty() || password.contains('\0') {
        return Err(WalError::Field { field: "password", must: "not empty and without NUL" });
    }
    let failed = |e: sqlx::Error| WalError::Unavailable { why: e.to_string() };
    let mut conn = admin.connect().await.map_err(failed)?;
    let level: String =
        sqlx::query_scalar("SHOW wal_level").fetch_one(&mut conn).await.map_err(failed)?;
    if level != "logical" {
        return Err(WalError::Level { found: level });
    }
    let there = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)";
    let there: bool =
        sqlx::query_scalar(there).bind(role).fetch_one(&mut conn).await.map_err(failed)?;
    let verb = if there { "ALTER" } else { "CREATE" };
    let secret = password.replace('\\', "\\\\").replace('\'', "''");
    let sql = format!(
        "SET password_encryption = 'scram-sha-256'; {verb} ROLE {role} LOGIN REPLICATION \
         NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD E'{secret}'; \
         GRANT CONNECT ON DATABASE {database} TO {role}"
    );
    // What the server says of a statement with a password in it is not passed on.
    let made = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await;
    made.map_err(|_| WalError::Unavailable {
        why: format!("role {role} could not be made: is admin a superuser, is {database} there?"),
    })?;
    conn.close().await.map_err(failed)
}
