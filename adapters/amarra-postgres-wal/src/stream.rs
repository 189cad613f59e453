//! Follows the log on a slot that lives no longer than the connection.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use amarra_messaging::Shutdown;
use amarra_messaging::outbox::Snapshot;
use pgwire_replication::{ReplicationClient, ReplicationConfig, ReplicationEvent};

use crate::config::WalConfig;
use crate::decode::Decoder;
use crate::error::WalError;
use crate::place::parse;
use crate::shelf::Shelf;

/// The one task of a [`WalOutboxLog`](crate::WalOutboxLog): whoever opened the log runs it.
///
/// While it does not run, or waits, the log reads the table: nothing is lost, it is only later.
///
/// # Source
/// PostgreSQL, "Logical Streaming Replication Protocol" and "Logical Replication Message Formats".
#[derive(Debug)]
pub struct WalStream {
    config: WalConfig,
    shelf: Arc<Shelf>,
    tally: Arc<Tally>,
}

/// What became of the streams.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) begun: AtomicU64,
    pub(crate) ended: Mutex<Option<WalError>>,
}

impl WalStream {
    pub(crate) fn new(config: WalConfig, shelf: Arc<Shelf>, tally: Arc<Tally>) -> Self {
        Self { config, shelf, tally }
    }

    /// Follows the log until `shutdown`; a stream that ends is started anew, with a new slot.
    ///
    /// A slot is made once every transaction that was open has ended: until then the table is read.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection, and the server drops the slot.
    pub async fn run(self, shutdown: Shutdown) {
        let mut failures = 0_u32;
        loop {
            let begun = self.tally.begun.load(Ordering::Relaxed);
            let _ends = Ends(&self.shelf);
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                error = self.follow() => {
                    self.shelf.end();
                    let mut ended = self.tally.ended.lock().unwrap_or_else(PoisonError::into_inner);
                    *ended = Some(error);
                }
            }
            let ran = self.tally.begun.load(Ordering::Relaxed) != begun;
            failures = if ran { 1 } else { failures.saturating_add(1) };
            // Streams of other processes broke at another moment: no need to draw.
            let wait = self.config.backoff.wait(failures, u64::from(failures));
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Follows one stream to its end, and says why it ended.
    async fn follow(&self) -> WalError {
        let slot = slot(&self.config);
        let mut client = match connect(&self.config, &slot).await {
            Ok(client) => client,
            Err(error) => return error,
        };
        let start = match self.begin(&mut client, &slot).await {
            Ok(start) => start,
            Err(error) => return error,
        };
        self.shelf.begin(start);
        self.tally.begun.fetch_add(1, Ordering::Relaxed);
        let mut decoder = Decoder::default();
        loop {
            let event = match client.recv().await {
                Ok(Some(event)) => event,
                Ok(None) => return WalError::Unavailable { why: "the server ended it".to_owned() },
                Err(error) => return error.into(),
            };
            match event {
                ReplicationEvent::XLogData { data, .. } => match decoder.take(data) {
                    Ok(Some(inserted)) => self.shelf.put(inserted),
                    Ok(None) => {}
                    Err(error) => return error,
                },
                ReplicationEvent::Commit { end_lsn, .. } => {
                    self.shelf.committed(end_lsn.as_u64());
                    client.update_applied_lsn(end_lsn);
                }
                ReplicationEvent::KeepAlive { wal_end, .. } => {
                    self.shelf.read_to(wal_end.as_u64());
                    client.update_applied_lsn(wal_end);
                }
                _ => {}
            }
        }
    }

    /// Makes the slot and starts to read it; returns what was committed by then.
    async fn begin(
        &self,
        client: &mut ReplicationClient,
        slot: &str,
    ) -> Result<Snapshot, WalError> {
        let make =
            format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT");
        client.simple_query(&make).await?;
        let start = ask(client, "SELECT pg_current_snapshot()").await?;
        let start = parse(&start).ok_or(WalError::Corrupt { why: "a snapshot" })?;
        client.start().await?;
        client.wait_started().await?;
        Ok(start)
    }
}

/// Empties the shelf when the task is dropped: nobody goes on filling it.
struct Ends<'a>(&'a Shelf);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Connects, and checks that the log and the publication can be followed.
pub(crate) async fn connect(config: &WalConfig, slot: &str) -> Result<ReplicationClient, WalError> {
    let mut client = ReplicationClient::connect_gated(options(config, slot)).await?;
    let level = ask(&mut client, "SHOW wal_level").await?;
    if level != "logical" {
        return Err(WalError::Level { found: level });
    }
    let sql = format!(
        "SELECT pubinsert AND pubviaroot AND EXISTS (SELECT FROM pg_publication_tables t \
         WHERE t.pubname = p.pubname AND t.tablename = 'outbox') \
         FROM pg_publication p WHERE pubname = '{}'",
        config.publication
    );
    let refused = |why| WalError::Publication { name: config.publication.clone(), why };
    match ask(&mut client, &sql).await?.as_str() {
        "t" => Ok(client),
        "" => Err(refused("is missing")),
        _ => Err(refused("does not publish the inserts of outbox via its root")),
    }
}

/// Names a slot that no other stream of the server has.
pub(crate) fn slot(config: &WalConfig) -> String {
    let drawn = RandomState::new().build_hasher().finish();
    format!("{}_{drawn:016x}", config.slot)
}

fn options(config: &WalConfig, slot: &str) -> ReplicationConfig {
    let WalConfig { host, role, password, database, publication, .. } = config;
    ReplicationConfig::new(host, role, password, database, slot, publication.as_str())
        .with_port(config.port)
        .with_binary(true)
        .with_application_name("amarra-wal")
        .with_status_interval(config.status_interval)
        .with_max_message_size(config.frame_bytes_max)
        .with_buffer_size(config.frames_max)
}

/// Asks for one value; an empty text when there is no row.
async fn ask(client: &mut ReplicationClient, sql: &str) -> Result<String, WalError> {
    let rows = client.simple_query(sql).await?;
    let value = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
    Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
}
