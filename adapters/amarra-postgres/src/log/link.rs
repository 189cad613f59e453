//! The relay's own connections: each used by one call at a time, given up when it fails.

use std::fmt;
use std::time::{Duration, Instant};

use amarra_messaging::message::Shard;
use amarra_messaging::outbox::LogError;
use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::origin::Origin;
use crate::error::log_error;

/// A few connections, opened when first used.
///
/// Shards are spread over them, so that the flush of one shard's cursor does not hold up the
/// reading of another.
pub(crate) struct Links {
    options: PgConnectOptions,
    slots: Vec<Mutex<Option<Idle>>>,
    bound: Duration,
    pub(super) origin: Origin,
}

impl fmt::Debug for Links {
    /// Without the driver's options, which show the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// A connection between two calls.
#[derive(Debug)]
struct Idle {
    conn: PgConnection,
    since: Instant,
}

/// After how long between two calls a connection is asked whether it is alive: a server that was
/// started anew closed it, and the call would fail for nothing.
const IDLE: Duration = Duration::from_millis(50);

/// One connection in use.
#[derive(Debug)]
pub(crate) struct Link<'a> {
    slot: MutexGuard<'a, Option<Idle>>,
    conn: PgConnection,
    bound: Duration,
}

impl Links {
    pub(crate) fn new(options: PgConnectOptions, count: u16, bound: Duration, name: &str) -> Self {
        let options = options.application_name("amarra-relay").options([
            // Planning for many partitions costs more than the statement; the shape is known.
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            ("jit", "off"),
        ]);
        let slots = (0..count.max(1)).map(|_| Mutex::new(None)).collect();
        Self { options, slots, bound, origin: Origin::new(name) }
    }

    /// Waits for the connection of a shard, opens it when there is none.
    pub(crate) async fn take(&self, shard: Shard) -> Result<Link<'_>, LogError> {
        let slot = usize::from(shard.0).checked_rem(self.slots.len()).unwrap_or(0);
        let slot = self.slots.get(slot).ok_or_else(late)?;
        let taken = timeout(self.bound, async {
            let mut slot = slot.lock().await;
            let conn = match slot.take() {
                Some(Idle { conn, since }) if since.elapsed() < IDLE => conn,
                idle => {
                    if let Some(conn) = alive(idle).await {
                        return Ok(Link { slot, conn, bound: self.bound });
                    }
                    let mut conn = self.options.connect().await.map_err(|e| log_error(&e))?;
                    self.origin.settle(&mut conn).await?;
                    conn
                }
            };
            Ok(Link { slot, conn, bound: self.bound })
        });
        taken.await.unwrap_or_else(|_| Err(late()))
    }
}

impl Link<'_> {
    /// Runs `work`, bounded in time, and keeps the connection if it succeeds.
    ///
    /// A call that failed or was cut off may leave an answer on the way, so its connection goes.
    pub(crate) async fn run<T, W>(mut self, work: W) -> Result<T, LogError>
    where
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, LogError>>,
    {
        let out = timeout(self.bound, work(&mut self.conn)).await;
        let out = out.unwrap_or_else(|_| Err(late()))?;
        *self.slot = Some(Idle { conn: self.conn, since: Instant::now() });
        Ok(out)
    }
}

/// Returns the connection if its server still answers.
async fn alive(idle: Option<Idle>) -> Option<PgConnection> {
    let mut conn = idle?.conn;
    conn.ping().await.is_ok().then_some(conn)
}

fn late() -> LogError {
    LogError::Unavailable { why: "no answer within call_timeout".to_owned() }
}
