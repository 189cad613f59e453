//! Makes a service's database with two roles: one that owns the schema, one that only uses it.

use std::fmt;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

use crate::config::{PgConfig, is_name};
use crate::database::{database, open, options};
use crate::error::{PgError, require};

/// One service's database and roles.
///
/// # State
/// Afterwards the owner role may migrate; the service's role may read and change rows, and neither
/// makes nor drops anything; no other role may connect.
///
/// # Example
/// ```no_run
/// # async fn example() -> Result<(), amarra_postgres::PgError> {
/// use amarra_postgres::{PgConfig, Provision, provision};
///
/// let admin = PgConfig::new("postgres://postgres:secret@db.internal/postgres");
/// let orders = Provision {
///     database: "orders".into(),
///     schema: "public".into(),
///     owner: ("orders_owner".into(), "first".into()),
///     service: ("orders".into(), "second".into()),
/// };
/// provision(&admin, &orders).await
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Provision {
    /// The database, a lower-case name.
    pub database: String,
    /// The schema within it, a lower-case name: [`PgConfig::schema`].
    pub schema: String,
    /// The role that migrates, with its password; neither is empty.
    pub owner: (String, String),
    /// The role of the service, another one, with its password.
    pub service: (String, String),
}

impl fmt::Debug for Provision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provision")
            .field("database", &self.database)
            .field("schema", &self.schema)
            .field("owner", &self.owner.0)
            .field("service", &self.service.0)
            .finish()
    }
}

impl Provision {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`PgError::Field`] for the first field out of range.
    pub fn validate(&self) -> Result<(), PgError> {
        for (field, (role, password)) in [("owner", &self.owner), ("service", &self.service)] {
            require(is_name(role), field, "must be a lower-case SQL name")?;
            let usable = !password.is_empty() && !password.contains('\0');
            require(usable, field, "must have a password without NUL")?;
        }
        require(is_name(&self.database), "database", "must be a lower-case SQL name")?;
        require(is_name(&self.schema), "schema", "must be a lower-case SQL name")?;
        require(self.owner.0 != self.service.0, "service", "must be another role than the owner")
    }
}

/// Makes database and roles, or brings those that exist to the same state. `admin` reaches the
/// server as a superuser.
///
/// # Errors
/// [`PgError`]; what was made so far stays, and the next call goes on.
pub async fn provision(admin: &PgConfig, wanted: &Provision) -> Result<(), PgError> {
    admin.validate()?;
    wanted.validate()?;
    let Provision { database: name, schema, owner: (owner, _), service: (service, _) } = wanted;
    let options = options(admin)?;
    let mut conn = open(&options, admin).await?;
    for (role, password) in [&wanted.owner, &wanted.service] {
        make_role(&mut conn, role, password).await?;
    }
    let there = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)";
    let there: bool =
        sqlx::query_scalar(there).bind(name).fetch_one(&mut conn).await.map_err(database)?;
    if !there {
        let sql =
            format!("CREATE DATABASE {name} OWNER {owner} ENCODING 'UTF8' TEMPLATE template0");
        run(&mut conn, sql).await?;
    }
    run(&mut conn, format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC")).await?;
    run(&mut conn, format!("GRANT CONNECT ON DATABASE {name} TO {owner}, {service}")).await?;
    conn.close().await.map_err(database)?;
    let mut conn = options.database(name).connect().await.map_err(database)?;
    let rights = format!(
        "CREATE SCHEMA IF NOT EXISTS {schema}; ALTER SCHEMA {schema} OWNER TO {owner}; \
         REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE ALL ON SCHEMA {schema} FROM PUBLIC; \
         GRANT USAGE ON SCHEMA {schema} TO {service}; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {service}; \
         GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {service}; \
         ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} \
             GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {service}; \
         ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} \
             GRANT USAGE, SELECT ON SEQUENCES TO {service}"
    );
    run(&mut conn, rights).await?;
    conn.close().await.map_err(database)
}

async fn make_role(conn: &mut PgConnection, role: &str, password: &str) -> Result<(), PgError> {
    let there = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)";
    let there: bool =
        sqlx::query_scalar(there).bind(role).fetch_one(&mut *conn).await.map_err(database)?;
    let verb = if there { "ALTER" } else { "CREATE" };
    let secret = password.replace('\\', "\\\\").replace('\'', "''");
    let sql = format!(
        "SET password_encryption = 'scram-sha-256'; {verb} ROLE {role} \
         LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD E'{secret}'"
    );
    // What the server says of a statement with a password in it is not passed on.
    run(conn, sql).await.map_err(|_| PgError::Database {
        why: format!("role {role} could not be made: is admin a superuser?"),
    })
}

async fn run(conn: &mut PgConnection, sql: String) -> Result<(), PgError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.map(drop).map_err(database)
}
