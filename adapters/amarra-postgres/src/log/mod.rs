//! The outbox-log port over the outbox table: leases, cursors, and rows as a snapshot difference.

mod backlog;
mod config;
mod lease;
mod link;
pub(crate) mod origin;
mod parked;
mod read;
pub(crate) mod snapshot;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amarra_core::PartitionKey;
use amarra_messaging::message::{Owner, Seq, Shard};
use amarra_messaging::outbox::{Backlog, Chunk, Cursor, Lease, LogError, ParkedRow, Resumed};
use amarra_messaging::{OutboxLog, Topic};
use async_trait::async_trait;

pub use self::config::PgLogConfig;
use self::link::{Link, Links};
use self::read::{Ask, Large};
use crate::database::PgDatabase;
use crate::error::PgError;
use crate::outbox::fix_shards;

/// The relay's side of the outbox table.
///
/// It writes one row a shard, its lease and cursor, and the rows it parks. Message rows are only
/// read: one statement a small batch, and along the primary key through a large one.
///
/// # Source
/// Skytools PgQ, `pgq.batch_event_sql`.
#[derive(Debug)]
pub struct PgOutboxLog {
    database: PgDatabase,
    config: Arc<PgLogConfig>,
    links: Links,
    seen: AtomicU64,
    /// How often each shard's relay was told of rows.
    told: Mutex<BTreeMap<Shard, u64>>,
    /// The open batches that are read along the sequence.
    large: Mutex<BTreeMap<Shard, Large>>,
}

impl PgOutboxLog {
    /// Connects, makes the shards and cursors that are missing, and finds out which copy of the
    /// database this is.
    ///
    /// # Errors
    /// [`PgError`]: a field, the server, another number of shards, or a restored outbox.
    pub async fn open(database: &PgDatabase, config: PgLogConfig) -> Result<Self, PgError> {
        config.validate()?;
        let options = database.options().clone();
        let links = Links::new(options, config.connections, config.call_timeout, &config.source);
        let log = Self {
            database: database.clone(),
            config: Arc::new(config),
            links,
            seen: AtomicU64::new(database.wake().outbox.count()),
            told: Mutex::default(),
            large: Mutex::default(),
        };
        log.prepare().await?;
        Ok(log)
    }

    async fn prepare(&self) -> Result<(), PgError> {
        let failed = |why: String| PgError::Database { why };
        let link = self.links.take(Shard(0)).await.map_err(|e| failed(e.to_string()))?;
        let (shards, group) = (self.database.config().shards, self.config.group.clone());
        let made = link.run(move |conn| {
            Box::pin(async move {
                if let Err(e) = fix_shards(conn, shards).await {
                    return Ok(Err(e));
                }
                let cursors = "INSERT INTO outbox_cursor (grp, shard) \
                               SELECT $1, shard FROM outbox_shard ON CONFLICT DO NOTHING";
                let made = sqlx::query(cursors).bind(group).execute(conn).await;
                Ok(made.map(|_| ()).map_err(|e| PgError::Database { why: e.to_string() }))
            })
        });
        made.await.map_err(|e| failed(e.to_string()))?
    }

    async fn link(&self, shard: Shard) -> Result<(Link<'_>, Arc<PgLogConfig>), LogError> {
        Ok((self.links.take(shard).await?, Arc::clone(&self.config)))
    }

    /// Reads a chunk and, when it may `save`, the cursor that opens its batch along with it.
    async fn read(
        &self,
        lease: &Lease,
        cursor: &Cursor,
        limit: usize,
        save: bool,
    ) -> Result<(Chunk, bool), LogError> {
        let known = self.large().get(&lease.shard).cloned();
        let save = save.then(|| self.config.group.clone());
        let ask = Ask { lease: lease.clone(), cursor: cursor.clone(), limit, save };
        let link = self.links.take(lease.shard).await?;
        let found = link.run(|conn| Box::pin(read::chunk(conn, ask, known))).await?;
        let mut large = self.large();
        match found.large {
            Some(batch) => large.insert(lease.shard, batch),
            None => large.remove(&lease.shard),
        };
        Ok((found.chunk, found.saved))
    }

    fn large(&self) -> MutexGuard<'_, BTreeMap<Shard, Large>> {
        self.large.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `$work` of a submodule on the connection of a shard.
macro_rules! on {
    ($self:ident, $shard:expr, |$conn:ident, $group:ident| $work:expr) => {{
        let (link, config) = $self.link($shard).await?;
        link.run(|$conn| {
            Box::pin(async move {
                let $group = config.group.as_str();
                $work.await
            })
        })
        .await
    }};
}

#[async_trait]
impl OutboxLog for PgOutboxLog {
    fn source(&self) -> Arc<str> {
        self.links.origin.name()
    }

    async fn lease(
        &self,
        owner: &Owner,
        limit: usize,
        ttl: Duration,
    ) -> Result<Vec<Lease>, LogError> {
        let (ttl, owner) = (ttl.min(self.database.config().lease_max), owner.clone());
        on!(self, Shard(0), |conn, group| lease::lease(conn, group, &owner, limit, ttl))
    }

    async fn until_free(&self, owner: &Owner) -> Result<Option<Duration>, LogError> {
        let owner = owner.clone();
        on!(self, Shard(0), |conn, group| lease::until_free(conn, group, &owner))
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        let leases = leases.to_vec();
        on!(self, Shard(0), |conn, group| lease::give_back(conn, group, &leases))
    }

    async fn resume(&self, lease: &Lease) -> Result<Resumed, LogError> {
        let lease = lease.clone();
        on!(self, lease.shard, |conn, group| lease::resume(conn, group, &lease))
    }

    async fn next_chunk(
        &self,
        lease: &Lease,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<Chunk, LogError> {
        self.read(lease, cursor, limit, false).await.map(|(chunk, _)| chunk)
    }

    async fn open_chunk(
        &self,
        lease: &Lease,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<(Chunk, bool), LogError> {
        self.read(lease, cursor, limit, cursor.cur.is_none()).await
    }

    async fn checkpoint(&self, lease: &Lease, cursor: &Cursor) -> Result<(), LogError> {
        let (lease, cursor) = (lease.clone(), cursor.clone());
        on!(self, lease.shard, |conn, group| lease::checkpoint(conn, group, &lease, &cursor))
    }

    async fn park(&self, lease: &Lease, rows: &[ParkedRow]) -> Result<(), LogError> {
        let (lease, rows) = (lease.clone(), rows.to_vec());
        on!(self, lease.shard, |conn, group| parked::park(conn, group, &lease, &rows))
    }

    async fn released(&self, lease: &Lease, limit: usize) -> Result<Vec<ParkedRow>, LogError> {
        let (lease, limit) = (lease.clone(), limit.min(self.database.config().rows_max));
        on!(self, lease.shard, |conn, group| parked::released(conn, group, &lease, limit))
    }

    async fn settle(&self, lease: &Lease, rows: &[ParkedRow]) -> Result<(), LogError> {
        let (lease, rows) = (lease.clone(), rows.to_vec());
        on!(self, lease.shard, |conn, group| parked::settle(conn, group, &lease, &rows))
    }

    async fn parked(&self, after: Seq, limit: usize) -> Result<Vec<ParkedRow>, LogError> {
        let limit = limit.min(self.database.config().rows_max);
        on!(self, Shard(0), |conn, group| parked::parked(conn, group, after, limit))
    }

    async fn release(&self, topic: &Topic, key: &PartitionKey) -> Result<(), LogError> {
        let (topic, key) = (topic.clone(), key.clone());
        on!(self, Shard(0), |conn, group| parked::release(conn, group, &topic, &key))?;
        self.database.wake().outbox_committed();
        Ok(())
    }

    async fn backlog(&self) -> Result<Vec<Backlog>, LogError> {
        self.look_at_backlog().await
    }

    fn concerns(&self, shard: Shard) -> bool {
        let count = self.database.wake().told_of(shard.0);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(shard, count) != Some(count)
    }

    async fn changed(&self) {
        self.database.wake().outbox.changed(&self.seen).await;
    }
}
