//! The unit-of-work port: rows locked and read at once, writes sent together at the commit.

mod begin;
mod commit;
mod inbox;
mod learn;
mod writes;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{AggregateId, Timestamp, Version};
use amarra_messaging::message::{Delivery, Outgoing};
use amarra_messaging::{Group, Outbox, Parked, ParkingLot, Topic, TxError};
use amarra_store::read_model::{ViewName, ViewRow, ViewWrite};
use amarra_store::unit::StoredState;
use amarra_store::{AuditDraft, Claim, IdempotencyKey, Idempotent, StoredResponse, UnitOfWork};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};
use tokio::time::Instant;

use self::inbox::Looked;
use self::writes::{Known, Writes};
use crate::config::PgConfig;
use crate::database::PgDatabase;
use crate::error::{sqlstate, tx_error};
use crate::idempotency;
use crate::outbox::{OutboxRows, PgOutbox};
use crate::parking;
use crate::sql::{Answer, Script};
use crate::timers;
use crate::wake::Touched;

/// One READ COMMITTED transaction on a connection of its own.
///
/// `load`, `load_view`, `first_parked` and `begin_idempotent` take advisory locks, which exist for
/// absent rows as well and write nothing. `save`, `schedule`, `audit`, `write_view`,
/// `record_response` and `enqueue` are kept and sent at the commit: what a caller may know of them
/// before, whether a version fits, was read under the lock. `park` and `unpark` are sent at once:
/// their tickets and their waits are part of their laws. So is `admit` by id; by position and by
/// offset it locks and reads once and is then kept.
///
/// # Invariant
/// A call that failed, or was dropped half-way, leaves the unit refused: it cannot commit.
pub(crate) struct PgUnit {
    database: PgDatabase,
    conn: Option<PoolConnection<Postgres>>,
    now: Timestamp,
    /// A moment of this process that is no later than `now`.
    began: Instant,
    /// Why the unit can no longer commit.
    failed: Option<TxError>,
    /// Whether a call is under way, or was dropped or cut off with its answer outstanding.
    busy: bool,
    /// The transaction's id, once something was written.
    xid: Option<i64>,
    /// Whether a statement that was sent may have written.
    touched: bool,
    enqueued: Touched,
    writes: Writes,
    looked: Looked,
}

impl fmt::Debug for PgUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgUnit").field("xid", &self.xid).field("failed", &self.failed).finish()
    }
}

impl PgUnit {
    fn config(&self) -> &PgConfig {
        self.database.config()
    }

    /// Notes that the unit failed.
    fn fail<T>(&mut self, error: TxError) -> Result<T, TxError> {
        self.failed = Some(error.clone());
        Err(error)
    }

    fn open(&self) -> Result<(), TxError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn decoded<T>(&mut self, value: Result<T, sqlx::Error>) -> Result<T, TxError> {
        match value {
            Ok(value) => Ok(value),
            Err(e) => self.fail(TxError::Corrupt { what: "row".to_owned(), why: e.to_string() }),
        }
    }

    /// Makes one call on the connection, bounded in time; an error refuses the unit.
    async fn call<'a, T>(
        &'a mut self,
        work: impl FnOnce(&'a mut PgConnection) -> BoxFuture<'a, Result<T, sqlx::Error>>,
    ) -> Result<T, TxError> {
        self.open()?;
        let timeout = self.config().call_timeout;
        let Some(conn) = self.conn.as_mut() else {
            return Err(TxError::Connection { why: "the unit has ended".to_owned() });
        };
        // Until the answer is there: a future that is dropped here leaves it set.
        self.busy = true;
        self.failed = Some(TxError::Connection { why: "a call was cancelled".to_owned() });
        let error = match tokio::time::timeout(timeout, work(conn)).await {
            Ok(Ok(value)) => {
                (self.busy, self.failed) = (false, None);
                return Ok(value);
            }
            Ok(Err(e)) => {
                self.busy = sqlstate(&e).is_none();
                tx_error(&e)
            }
            Err(_) => TxError::Connection { why: "no answer within call_timeout".to_owned() },
        };
        self.failed = Some(error.clone());
        Err(error)
    }

    async fn run(&mut self, script: Script) -> Result<Vec<Answer>, TxError> {
        if let Err(e) = script.check() {
            return self.fail(e);
        }
        self.call(|conn| Box::pin(script.run(conn))).await
    }

    fn bounded(&mut self, what: &'static str, bytes: usize) -> Result<(), TxError> {
        let bound = self.config().state_bytes_max;
        if bytes <= bound {
            return Ok(());
        }
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        self.fail(TxError::TooLarge { what, bound })
    }

    /// Refuses the unit of a claim that is not the newest on its timer.
    fn verified(&mut self, claim: &Claim, newest: bool) -> Result<(), TxError> {
        if newest {
            return Ok(());
        }
        let what = format!("the timer of {}", claim.id);
        self.fail(TxError::Fenced { what, held: claim.epoch.0 })
    }

    /// Tries a key's lock, and looks for its response.
    async fn look(&mut self, key: &IdempotencyKey) -> Result<Idempotent, TxError> {
        let answers = self.run(idempotency::look(key)).await?;
        self.decoded(idempotency::answer(&answers, key))
    }
}

impl Drop for PgUnit {
    /// Rolls back. A connection whose answer is outstanding is closed instead: the server rolls
    /// back once it notices, within a second even while it waits for a lock.
    fn drop(&mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        let runtime = tokio::runtime::Handle::try_current();
        let (false, Ok(runtime)) = (self.busy, runtime) else {
            drop(conn.detach());
            return;
        };
        let timeout = self.config().statement_timeout;
        let ending = self.database.endings().begin(std::mem::take(&mut self.writes.begun));
        runtime.spawn(async move {
            let _ending = ending;
            let rollback = sqlx::raw_sql("ROLLBACK").execute(&mut *conn);
            if !matches!(tokio::time::timeout(timeout, rollback).await, Ok(Ok(_))) {
                drop(conn.detach());
            }
        });
    }
}

#[async_trait]
impl UnitOfWork for PgUnit {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn load(&mut self, ids: &[AggregateId]) -> Result<Vec<StoredState>, TxError> {
        self.open()?;
        self.learn(ids).await?;
        Ok(self.writes.states(ids))
    }

    async fn save(
        &mut self,
        id: &AggregateId,
        expected: Version,
        body: Bytes,
    ) -> Result<(), TxError> {
        self.open()?;
        self.bounded("state (state_bytes_max)", body.len())?;
        if expected == Version::ABSENT && !self.writes.aggregates.contains_key(id) {
            let state = StoredState { version: expected.next(), body };
            let blind = Known { locked: false, stored: expected, state };
            self.writes.aggregates.insert(id.clone(), blind);
            return Ok(());
        }
        if !self.writes.aggregates.contains_key(id) {
            self.learn(std::slice::from_ref(id)).await?;
        }
        match self.writes.aggregates.get_mut(id) {
            Some(known) if known.state.version == expected => {
                known.state = StoredState { version: expected.next(), body };
                Ok(())
            }
            _ => self.fail(TxError::Conflict { id: id.clone() }),
        }
    }

    async fn schedule(&mut self, id: &AggregateId, after: Option<Duration>) -> Result<(), TxError> {
        self.open()?;
        self.writes.timers.insert(id.clone(), after);
        Ok(())
    }

    async fn verify(&mut self, claim: &Claim) -> Result<(), TxError> {
        self.open()?;
        let scheduled = self.writes.timers.contains_key(&claim.id);
        let newest = !scheduled && {
            self.touched = true;
            let mut script = Script::default();
            timers::claimed(claim, &mut script);
            timers::is_newest(&self.run(script).await?)
        };
        self.verified(claim, newest)
    }

    async fn begin_idempotent(&mut self, key: &IdempotencyKey) -> Result<Idempotent, TxError> {
        self.open()?;
        let name = idempotency::name(key);
        if let Some((stored, response)) = self.writes.responses.get(&name) {
            return Ok(idempotency::replay(&stored.request_hash, response.clone(), key));
        }
        let database = self.database.clone();
        let ending = database.endings().has(&name);
        let mut answer = self.look(key).await?;
        if answer == Idempotent::InFlight && (ending || database.endings().has(&name)) {
            // It may be a unit that was dropped here: whoever failed may try again.
            let over = database.endings().over(&name);
            let _ = tokio::time::timeout(self.config().call_timeout, over).await;
            answer = self.look(key).await?;
        }
        if answer == Idempotent::Fresh {
            self.writes.begun.insert(name);
        }
        Ok(answer)
    }

    async fn record_response(
        &mut self,
        key: &IdempotencyKey,
        response: &StoredResponse,
    ) -> Result<(), TxError> {
        self.open()?;
        self.bounded("response (state_bytes_max)", response.body.len())?;
        let name = idempotency::name(key);
        if !self.writes.begun.contains(&name) || self.writes.responses.contains_key(&name) {
            let id = AggregateId::new("idempotency-key", Arc::clone(&key.key));
            return self.fail(TxError::Conflict { id });
        }
        self.writes.responses.insert(name, (key.clone(), response.clone()));
        Ok(())
    }

    async fn audit(&mut self, entry: AuditDraft) -> Result<(), TxError> {
        self.open()?;
        self.writes.audit.push(entry);
        Ok(())
    }

    async fn load_views(&mut self, names: &[ViewName]) -> Result<Vec<Option<ViewRow>>, TxError> {
        self.open()?;
        let unknown = |name: &&ViewName| {
            let known = self.writes.views.get(*name);
            known.is_none_or(|known| !known.locked && known.write.is_none())
        };
        let wanted: BTreeSet<&ViewName> = names.iter().filter(unknown).collect();
        if !wanted.is_empty() {
            self.learn_views(&wanted).await?;
        }
        let known = &self.writes.views;
        Ok(names.iter().map(|name| known.get(name)?.row(&name.1)).collect())
    }

    async fn write_view(&mut self, write: ViewWrite) -> Result<(), TxError> {
        self.open()?;
        self.bounded("view row (state_bytes_max)", write.body.as_ref().map_or(0, Bytes::len))?;
        let name = (Arc::clone(&write.view), Arc::clone(&write.key));
        self.writes.views.entry(name).or_default().write = Some(write);
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), TxError> {
        self.open()?;
        self.finish().await
    }
}

#[async_trait]
impl Outbox for PgUnit {
    async fn enqueue(&mut self, messages: &[Outgoing]) -> Result<(), TxError> {
        self.open()?;
        let outbox = PgOutbox::new(self.config());
        let rows = match outbox.encode(messages).and_then(OutboxRows::check) {
            Ok(rows) => rows,
            Err(e) => return self.fail(e),
        };
        self.enqueued.merge(outbox.touched(messages));
        self.writes.outbox.append(rows);
        if self.writes.outbox.bytes() <= self.config().kept_bytes_max {
            return Ok(());
        }
        self.touched = true;
        let rows = std::mem::take(&mut self.writes.outbox);
        self.call(|conn| Box::pin(rows.insert(conn))).await
    }
}

#[async_trait]
impl ParkingLot for PgUnit {
    async fn park(
        &mut self,
        group: &Group,
        delivery: &Delivery,
        reason: &str,
    ) -> Result<(), TxError> {
        self.open()?;
        self.touched = true;
        self.looked.forget();
        self.call(|conn| Box::pin(parking::park(conn, group, delivery, reason))).await
    }

    async fn parked_among(
        &mut self,
        group: &Group,
        topic: &Topic,
        keys: &BTreeSet<amarra_core::PartitionKey>,
    ) -> Result<BTreeSet<amarra_core::PartitionKey>, TxError> {
        self.open()?;
        if let Some(parked) = self.looked.among(group, topic, keys) {
            return Ok(parked);
        }
        self.call(|conn| Box::pin(parking::among(conn, group, topic, keys))).await
    }

    async fn first_parked(
        &mut self,
        group: &Group,
        topic: &Topic,
        key: &amarra_core::PartitionKey,
    ) -> Result<Option<Parked>, TxError> {
        self.open()?;
        self.touched = true;
        let answers = self.run(parking::look(group, topic, key)).await?;
        parking::first(&answers, topic).or_else(|e| self.fail(e))
    }

    async fn unpark(&mut self, group: &Group, ticket: u64) -> Result<(), TxError> {
        self.open()?;
        self.touched = true;
        self.looked.forget();
        self.call(|conn| Box::pin(parking::unpark(conn, group, ticket))).await
    }
}
