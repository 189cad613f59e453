//! The begin of a unit, alone or with the first thing that it does.

use std::collections::BTreeSet;

use amarra_core::{AggregateId, Timestamp};
use amarra_messaging::TxError;
use amarra_store::Claim;
use amarra_store::unit::StoredState;
use sqlx::pool::PoolConnection;
use sqlx::{Postgres, Row as _};
use tokio::time::Instant;

use super::inbox::Looked;
use super::writes::Writes;
use super::{PgUnit, learn};
use crate::database::PgDatabase;
use crate::error::tx_error;
use crate::sql::{Answer, Script};
use crate::timers;
use crate::wake::Touched;

impl PgUnit {
    /// Begins a transaction and reads its time: one round trip. A pooled connection that turns out
    /// to be dead is put away, and another one tried.
    pub(crate) async fn begin(database: &PgDatabase) -> Result<Self, TxError> {
        let mut tries = database.config().connections_max;
        loop {
            let conn = database.pool().acquire().await.map_err(|e| tx_error(&e))?;
            match Self::begin_on(database, conn, Script::default()).await {
                Err(TxError::Connection { .. }) if tries > 0 => tries = tries.saturating_sub(1),
                begun => return begun.map(|(unit, _)| unit),
            }
        }
    }

    /// Begins a transaction with the script of what it does first, and returns what that answered:
    /// one round trip, unless the connection is lost, since then nothing is left of either.
    pub(super) async fn begin_with(
        database: &PgDatabase,
        first: Script,
    ) -> Result<(Self, Vec<Answer>), TxError> {
        let conn = database.pool().acquire().await.map_err(|e| tx_error(&e))?;
        match Self::begin_on(database, conn, first.clone()).await {
            Err(TxError::Connection { .. }) => {
                let mut unit = Self::begin(database).await?;
                let answers = unit.run(first).await?;
                Ok((unit, answers))
            }
            begun => begun,
        }
    }

    /// Begins a unit that acts on a due timer: loads what it touches, then verifies its claim.
    pub(crate) async fn begin_claimed(
        database: &PgDatabase,
        claim: &Claim,
        ids: &[AggregateId],
    ) -> Result<(Self, Vec<StoredState>), TxError> {
        let wanted: BTreeSet<_> = ids.iter().collect();
        let (locks, mut read) = learn::reading(&wanted);
        timers::claimed(claim, &mut read);
        let script = learn::locked(learn::AGGREGATES, locks, &read, database.config())?;
        let (mut unit, answers) = Self::begin_with(database, script).await?;
        unit.touched = true;
        unit.verified(claim, timers::is_newest(&answers))?;
        unit.learned(&wanted, answers.get(1..).unwrap_or_default())?;
        let states = unit.writes.states(ids);
        Ok((unit, states))
    }

    async fn begin_on(
        database: &PgDatabase,
        conn: PoolConnection<Postgres>,
        first: Script,
    ) -> Result<(Self, Vec<Answer>), TxError> {
        let mut unit = Self {
            database: database.clone(),
            conn: Some(conn),
            now: Timestamp::EPOCH,
            began: Instant::now(),
            failed: None,
            busy: false,
            xid: None,
            touched: false,
            enqueued: Touched::default(),
            writes: Writes::default(),
            looked: Looked::default(),
        };
        let mut script = Script::default();
        script
            .plain("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
            .plain("SELECT (extract(epoch FROM now()) * 1000000)::bigint")
            .append(&first);
        let mut answers = unit.run(script).await?;
        let rest = answers.split_off(answers.len().min(2));
        let micros = answers.get(1).and_then(|a| a.rows.first()).map(|row| row.try_get(0));
        let micros: i64 = unit.decoded(micros.unwrap_or(Err(sqlx::Error::RowNotFound)))?;
        unit.now = Timestamp::from_micros(micros);
        Ok((unit, rest))
    }
}
