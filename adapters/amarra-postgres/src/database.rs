//! One process's connections to one database, checked before they are used.

use std::sync::Arc;

use sqlx::PgPool;

use crate::config::PgConfig;
use crate::error::PgError;
use crate::wake::Wake;

/// One service's database, as one process reaches it; cheap to clone.
#[derive(Debug, Clone)]
pub struct PgDatabase {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    config: PgConfig,
    wake: Arc<Wake>,
}

impl PgDatabase {
    /// Connects and checks that server, role and schema can do what the ports promise.
    ///
    /// # Errors
    /// [`PgError`] for the first thing that is wrong, with how to correct it.
    pub async fn connect(config: PgConfig) -> Result<Self, PgError> {
        config.validate()?;
        let pool = PgPool::connect_lazy(&config.url)
            .map_err(|e| PgError::Database { why: e.to_string() })?;
        Ok(Self { inner: Arc::new(Inner { pool, config, wake: Arc::default() }) })
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

    /// Returns the signals between writers and readers of this process.
    #[must_use]
    pub fn wake(&self) -> &Arc<Wake> {
        &self.inner.wake
    }

    /// Closes every connection, after the units that hold one ended.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }
}
