//! One process's connections to one database, checked before they are used.

use std::fmt;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use amarra_messaging::TxError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool};

use crate::config::{PgConfig, redacted};
use crate::ending::Endings;
use crate::error::{PgError, sqlstate, tx_error};
use crate::migrate::{self, Migrations};
use crate::sql;
use crate::wake::Wake;

/// One service's database, as one process reaches it; cheap to clone.
#[derive(Debug, Clone)]
pub struct PgDatabase {
    inner: Arc<Inner>,
}

struct Inner {
    pool: PgPool,
    config: PgConfig,
    options: PgConnectOptions,
    wake: Arc<Wake>,
    endings: Arc<Endings>,
}

impl fmt::Debug for Inner {
    /// Without the driver's options and pool, which show the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("config", &self.config).finish_non_exhaustive()
    }
}

impl PgDatabase {
    /// Connects and checks that server, role and schema can do what the ports promise.
    ///
    /// Migrations of a service's own, from 1000 on, are not looked at.
    ///
    /// # Errors
    /// [`PgError`] for the first thing that is wrong, with how to correct it.
    pub async fn connect(config: PgConfig) -> Result<Self, PgError> {
        Self::connect_with(config, &Migrations::default()).await
    }

    /// Connects as [`connect`](Self::connect) does, to a schema with a service's own `migrations`.
    ///
    /// # Errors
    /// [`PgError`] for the first thing that is wrong, with how to correct it.
    pub async fn connect_with(config: PgConfig, migrations: &Migrations) -> Result<Self, PgError> {
        config.validate()?;
        let options = options(&config)?;
        let mut conn = open(&options, &config).await?;
        let checked = tokio::time::timeout(config.call_timeout, async {
            check_server(&mut conn).await?;
            migrate::check(&mut conn, migrations).await?;
            check_views(&mut conn, &config).await
        });
        checked.await.map_err(|_| PgError::Unreachable {
            server: redacted(&config.url),
            why: "no answer within call_timeout".to_owned(),
        })??;
        // Told politely, if the server still listens: nothing depends on it.
        let _ = tokio::time::timeout(config.call_timeout, conn.close()).await;
        let prepare: Arc<[String]> = sql::prepare(&config.views).into();
        let pool = PgPoolOptions::new()
            .max_connections(config.connections_max)
            .acquire_timeout(config.acquire_timeout)
            .test_before_acquire(false)
            .after_connect(move |conn, _| {
                let prepare = Arc::clone(&prepare);
                Box::pin(async move {
                    for statement in prepare.iter() {
                        let statement = AssertSqlSafe(statement.clone());
                        sqlx::raw_sql(statement).execute(&mut *conn).await?;
                    }
                    Ok(())
                })
            })
            .before_acquire(|conn, meta| {
                // A connection that was used just now is taken to be alive.
                Box::pin(async move {
                    Ok(meta.idle_for < Duration::from_secs(1) || conn.ping().await.is_ok())
                })
            })
            .connect_lazy_with(options.clone());
        let (wake, endings) = (Arc::default(), Arc::default());
        Ok(Self { inner: Arc::new(Inner { pool, config, options, wake, endings }) })
    }

    /// Returns the pool, for an application's own transactions and queries.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &PgConfig {
        &self.inner.config
    }

    /// Returns how to connect outside of the pool.
    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.inner.options
    }

    /// Returns the signals between writers and readers of this process.
    #[must_use]
    pub fn wake(&self) -> &Arc<Wake> {
        &self.inner.wake
    }

    /// Returns the rollbacks under way.
    pub(crate) fn endings(&self) -> &Arc<Endings> {
        &self.inner.endings
    }

    /// Closes every connection, after the units that hold one ended.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }

    /// Runs one statement outside of any unit, bounded in time. A pooled connection that turns out
    /// to be dead is put away, and the statement tried on another one.
    pub(crate) async fn bounded<T, F>(&self, mut work: impl FnMut() -> F) -> Result<T, TxError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let tried = async {
            let mut tries = self.inner.config.connections_max;
            loop {
                match work().await {
                    Err(e) if tries > 0 && is_lost(&e) => tries = tries.saturating_sub(1),
                    answer => return answer.map_err(|e| tx_error(&e)),
                }
            }
        };
        match tokio::time::timeout(self.inner.config.call_timeout, tried).await {
            Ok(answer) => answer,
            Err(_) => Err(TxError::Connection { why: "no answer within call_timeout".to_owned() }),
        }
    }

    /// Asks on a connection of its own what became of a transaction whose commit was sent.
    pub(crate) async fn resolve(&self, xid: i64) -> Result<(), TxError> {
        let asked = async {
            loop {
                match self.status(xid).await.as_deref() {
                    Ok("committed") => return Ok(()),
                    Ok("aborted") => {
                        let why = "lost in the commit, which was not applied".to_owned();
                        return Err(TxError::Connection { why });
                    }
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let within = tokio::time::timeout(self.inner.config.resolve_timeout, asked).await;
        within.unwrap_or(Err(TxError::OutcomeUnknown))
    }

    async fn status(&self, xid: i64) -> Result<String, sqlx::Error> {
        let mut conn = self.inner.options.connect().await?;
        let status: Option<String> = sqlx::query_scalar("SELECT pg_xact_status($1::text::xid8)")
            .bind(xid.to_string())
            .fetch_one(&mut conn)
            .await?;
        let _ = conn.close().await;
        Ok(status.unwrap_or_default())
    }
}

/// Returns how to connect: every session has the bounds of the configuration.
pub(crate) fn options(config: &PgConfig) -> Result<PgConnectOptions, PgError> {
    let why = "must look like postgres://role:password@host:port/database";
    let options = PgConnectOptions::from_str(&config.url)
        .map_err(|_| PgError::Field { field: "url", why })?;
    let millis = |d: Duration| d.as_millis().max(1).to_string();
    Ok(options.disable_statement_logging().options([
        ("statement_timeout", millis(config.statement_timeout)),
        ("lock_timeout", millis(config.lock_timeout)),
        ("idle_in_transaction_session_timeout", millis(config.idle_timeout)),
        ("client_connection_check_interval", "1000".to_owned()),
        ("search_path", config.schema.clone()),
        // Planning a statement costs more than running it, and the shapes are known: by key. Plans
        // made while the tables were small would otherwise scan them for as long as they are kept.
        ("plan_cache_mode", "force_generic_plan".to_owned()),
        ("enable_seqscan", "off".to_owned()),
        // What has to be scanned all the same looks dear by that, and compiling it would be.
        ("jit", "off".to_owned()),
    ]))
}

/// Opens one connection, and says what is wrong when it cannot.
pub(crate) async fn open(
    options: &PgConnectOptions,
    config: &PgConfig,
) -> Result<PgConnection, PgError> {
    let server = redacted(&config.url);
    match tokio::time::timeout(config.acquire_timeout, options.connect()).await {
        Ok(Ok(conn)) => Ok(conn),
        Ok(Err(e)) => Err(match sqlstate(&e).as_deref() {
            // Unknown role or database, wrong password, no right to connect.
            Some(state) if state.starts_with("28") || matches!(state, "3D000" | "42501") => {
                PgError::Refused { server, why: e.to_string() }
            }
            _ => PgError::Unreachable { server, why: e.to_string() },
        }),
        Err(_) => Err(PgError::Unreachable { server, why: "acquire_timeout passed".to_owned() }),
    }
}

async fn check_server(conn: &mut PgConnection) -> Result<(), PgError> {
    let setting = "SELECT current_setting('server_version_num')::int, \
                   current_setting('synchronous_commit'), \
                   current_setting('default_transaction_isolation'), \
                   current_setting('default_transaction_read_only'), \
                   current_setting('server_encoding')";
    let (version, durable, isolation, read_only, encoding): (i32, String, String, String, String) =
        sqlx::query_as(setting).fetch_one(conn).await.map_err(database)?;
    if version < 150_000 {
        return Err(PgError::Version { found: version.to_string() });
    }
    let check = |ok: bool, name, found: String, expected| {
        if ok { Ok(()) } else { Err(PgError::Setting { name, found, expected }) }
    };
    let flushes = !matches!(durable.as_str(), "off" | "remote_write");
    check(flushes, "synchronous_commit", durable, "on")?;
    let committed = isolation == "read committed";
    check(committed, "default_transaction_isolation", isolation, "read committed")?;
    check(read_only == "off", "default_transaction_read_only", read_only, "off")?;
    check(encoding == "UTF8", "server_encoding", encoding, "UTF8")
}

async fn check_views(conn: &mut PgConnection, config: &PgConfig) -> Result<(), PgError> {
    for table in config.views.values() {
        let sql = format!("SELECT key, position, body, json FROM {table} LIMIT 0");
        let found = sqlx::query(AssertSqlSafe(sql)).execute(&mut *conn).await;
        found.map_err(|e| PgError::View { table: table.clone(), why: e.to_string() })?;
    }
    Ok(())
}

/// Tells whether an error says that the connection was dead, and no more.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    match sqlstate(error) {
        None => matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_)),
        Some(state) => matches!(state.as_str(), "57P01" | "57P02" | "08006" | "08003"),
    }
}

/// Turns a driver's error at start into ours.
pub(crate) fn database(error: sqlx::Error) -> PgError {
    PgError::Database { why: error.to_string() }
}
