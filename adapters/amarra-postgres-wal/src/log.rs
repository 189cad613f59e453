//! The outbox-log port: the table's log, with the rows out of the write-ahead log where it can.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amarra_core::PartitionKey;
use amarra_messaging::message::{Owner, Seq, Shard};
use amarra_messaging::outbox::{
    Backlog, Chunk, Cursor, Lease, LogError, ParkedRow, Resumed, Snapshot,
};
use amarra_messaging::{OutboxLog, Topic};
use async_trait::async_trait;
use sqlx::postgres::PgConnectOptions;

use crate::config::WalConfig;
use crate::error::WalError;
use crate::place::{Place, Places};
use crate::shelf::{Ask, Shelf};
use crate::stream::{Tally, WalStream, connect, slot};

/// The relay's side of an outbox, told of rows and served with them by the write-ahead log.
///
/// Leases, cursors and parked rows are the table's. A batch is what the table's relay would read:
/// the rows that one snapshot sees and another does not, so a relay of the one kind goes on where
/// one of the other kind stopped, and whatever is not held of the log is read from the table.
///
/// # State
/// Rows are held for the shards that are read here, in [`WalConfig::held_bytes_max`] bytes.
#[derive(Debug)]
pub struct WalOutboxLog {
    table: Arc<dyn OutboxLog>,
    config: WalConfig,
    places: Places,
    shelf: Arc<Shelf>,
    tally: Arc<Tally>,
    /// The open batch of each shard that is served out of the log.
    open: Mutex<BTreeMap<Shard, Open>>,
    told: Mutex<BTreeMap<Shard, u64>>,
    from_log: AtomicU64,
    from_table: AtomicU64,
}

/// A batch that is wholly held.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    prev: Snapshot,
    place: Place,
}

/// What became of the log so far, for operators and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalStatus {
    /// Whether the log is followed now.
    pub following: bool,
    /// Streams that began.
    pub streams: u64,
    /// Rows that were read out of the log.
    pub from_log: u64,
    /// Rows that were read out of the table.
    pub from_table: u64,
    /// Why the last stream that ended did, or could not begin.
    pub ended: Option<WalError>,
}

impl WalOutboxLog {
    /// Checks that the log can be followed, and returns what serves the relay and what follows.
    ///
    /// `table` is the log of the same outbox; `options` reach its database as the service does, to
    /// ask how far it is. The stream has to be [run](WalStream::run) for rows to come out of the
    /// log; until then they come out of the table.
    ///
    /// # Errors
    /// [`WalError`]: a field, the server, its `wal_level`, the role, or the publication.
    pub async fn open(
        table: Arc<dyn OutboxLog>,
        options: PgConnectOptions,
        config: WalConfig,
    ) -> Result<(Self, WalStream), WalError> {
        config.validate()?;
        drop(connect(&config, &slot(&config)).await?);
        let shelf = Arc::new(Shelf::new(config.held_bytes_max));
        let tally = Arc::new(Tally::default());
        let stream = WalStream::new(config.clone(), Arc::clone(&shelf), Arc::clone(&tally));
        let log = Self {
            table,
            places: Places::new(options, config.connections),
            config,
            shelf,
            tally,
            open: Mutex::default(),
            told: Mutex::default(),
            from_log: AtomicU64::new(0),
            from_table: AtomicU64::new(0),
        };
        Ok((log, stream))
    }

    /// Returns what became of the log so far.
    #[must_use]
    pub fn status(&self) -> WalStatus {
        let ended = self.tally.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        WalStatus {
            following: self.shelf.is_live(),
            streams: self.tally.begun.load(Ordering::Relaxed),
            from_log: self.from_log.load(Ordering::Relaxed),
            from_table: self.from_table.load(Ordering::Relaxed),
            ended,
        }
    }

    fn opened(&self) -> MutexGuard<'_, BTreeMap<Shard, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the batch that the cursor is in, or opens one; none when the log does not hold it.
    async fn place(&self, shard: Shard, cursor: &Cursor) -> Option<Place> {
        if let Some(cur) = &cursor.cur {
            let open = self.opened().get(&shard).cloned()?;
            return (open.prev == cursor.prev && open.place.snapshot == *cur).then_some(open.place);
        }
        if !self.shelf.open(shard, &cursor.prev) {
            return None;
        }
        // What the question costs of the time is the database's, and the table is there too.
        let place = self.places.ask().await.ok()?;
        self.shelf.reach(place.lsn, self.config.catch_up).await.then_some(place)
    }

    /// Reads a chunk out of the log; none when it does not hold it.
    async fn held(&self, shard: Shard, cursor: &Cursor, limit: usize) -> Option<Chunk> {
        let place = self.place(shard, cursor).await?;
        let Place { snapshot: cur, lsn } = &place;
        let (prev, after, lsn) = (&cursor.prev, cursor.last_seq, *lsn);
        let (rows, last) = self.shelf.batch(&Ask { shard, prev, cur, lsn, after, limit })?;
        let chunk = Chunk { cur: cur.clone(), rows, last };
        self.from_log.fetch_add(count(&chunk), Ordering::Relaxed);
        self.opened().insert(shard, Open { prev: prev.clone(), place });
        Some(chunk)
    }
}

fn count(chunk: &Chunk) -> u64 {
    u64::try_from(chunk.rows.len()).unwrap_or(u64::MAX)
}

#[async_trait]
impl OutboxLog for WalOutboxLog {
    fn source(&self) -> Arc<str> {
        self.table.source()
    }

    async fn lease(
        &self,
        owner: &Owner,
        limit: usize,
        ttl: Duration,
    ) -> Result<Vec<Lease>, LogError> {
        self.table.lease(owner, limit, ttl).await
    }

    async fn until_free(&self, owner: &Owner) -> Result<Option<Duration>, LogError> {
        self.table.until_free(owner).await
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        for lease in leases {
            self.shelf.leave(lease.shard);
            self.opened().remove(&lease.shard);
        }
        self.table.give_back(leases).await
    }

    async fn resume(&self, lease: &Lease) -> Result<Resumed, LogError> {
        self.table.resume(lease).await
    }

    async fn next_chunk(
        &self,
        lease: &Lease,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<Chunk, LogError> {
        if let Some(chunk) = self.held(lease.shard, cursor, limit).await {
            return Ok(chunk);
        }
        self.opened().remove(&lease.shard);
        let chunk = self.table.next_chunk(lease, cursor, limit).await?;
        self.from_table.fetch_add(count(&chunk), Ordering::Relaxed);
        Ok(chunk)
    }

    /// What is read out of the log saves nothing; what is read out of the table is opened there.
    async fn open_chunk(
        &self,
        lease: &Lease,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<(Chunk, bool), LogError> {
        if let Some(chunk) = self.held(lease.shard, cursor, limit).await {
            return Ok((chunk, false));
        }
        self.opened().remove(&lease.shard);
        let (chunk, saved) = self.table.open_chunk(lease, cursor, limit).await?;
        self.from_table.fetch_add(count(&chunk), Ordering::Relaxed);
        Ok((chunk, saved))
    }

    async fn checkpoint(&self, lease: &Lease, cursor: &Cursor) -> Result<(), LogError> {
        self.table.checkpoint(lease, cursor).await
    }

    async fn park(&self, lease: &Lease, rows: &[ParkedRow]) -> Result<(), LogError> {
        self.table.park(lease, rows).await
    }

    async fn released(&self, lease: &Lease, limit: usize) -> Result<Vec<ParkedRow>, LogError> {
        self.table.released(lease, limit).await
    }

    async fn settle(&self, lease: &Lease, rows: &[ParkedRow]) -> Result<(), LogError> {
        self.table.settle(lease, rows).await
    }

    async fn parked(&self, after: Seq, limit: usize) -> Result<Vec<ParkedRow>, LogError> {
        self.table.parked(after, limit).await
    }

    async fn release(&self, topic: &Topic, key: &PartitionKey) -> Result<(), LogError> {
        self.table.release(topic, key).await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>, LogError> {
        self.table.backlog().await
    }

    async fn changed(&self) {
        tokio::select! {
            biased;
            () = self.shelf.changed() => {}
            () = self.table.changed() => {}
        }
    }

    fn concerns(&self, shard: Shard) -> bool {
        let count = self.shelf.told(shard);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Both are asked: each remembers what it told.
        let by_table = self.table.concerns(shard);
        told.insert(shard, count) != Some(count) || by_table
    }
}
