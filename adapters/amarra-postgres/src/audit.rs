//! The audit chain: appended under the lock of its head, read in pages.

use std::sync::Arc;

use amarra_core::{AggregateId, CorrelationId, Timestamp, Version};
use amarra_messaging::TxError;
use amarra_store::audit::Hash;
use amarra_store::{AuditDraft, AuditRow};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::database::PgDatabase;
use crate::sql::{Argument, Script};

/// The last row of the chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    number: u64,
    hash: Hash,
}

impl Head {
    /// Reads the columns `xid, number, hash`.
    pub(crate) fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let number = u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or_default();
        Ok(Self { number, hash: hash(row, 2)? })
    }
}

fn hash(row: &PgRow, column: usize) -> Result<Hash, sqlx::Error> {
    let bytes = row.try_get::<Vec<u8>, _>(column)?;
    let length = bytes.len();
    Hash::try_from(bytes)
        .map_err(|_| sqlx::Error::Decode(format!("a hash of {length} bytes, not 32").into()))
}

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Chains entries behind `head` and adds the statements that store them.
pub(crate) fn append(mut head: Head, entries: &[AuditDraft], script: &mut Script) {
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        let row = AuditRow::chain(head.number.saturating_add(1), head.hash, entry.clone());
        head = Head { number: row.number, hash: row.hash };
        rows.push(row);
    }
    let actors: Vec<String> = rows.iter().map(|row| row.entry.actor.to_string()).collect();
    let texts = |of: fn(&AuditRow) -> &str| Argument::Texts(rows.iter().map(of).collect());
    let hashes = |of: fn(&AuditRow) -> &[u8]| Argument::ByteArrays(rows.iter().map(of).collect());
    script.execute(
        "amarra_audit",
        &[
            Argument::Ints(rows.iter().map(|row| int(row.number)).collect()),
            hashes(|row| &row.previous),
            hashes(|row| &row.hash),
            Argument::Texts(actors.iter().map(String::as_str).collect()),
            texts(|row| &row.entry.action),
            texts(|row| &row.entry.aggregate.kind),
            texts(|row| &row.entry.aggregate.id),
            Argument::Ints(rows.iter().map(|row| int(row.entry.version.get())).collect()),
            Argument::Uuids(rows.iter().map(|row| row.entry.correlation.as_uuid()).collect()),
            Argument::Ints(rows.iter().map(|row| row.entry.at.as_micros()).collect()),
            hashes(|row| &row.entry.state_hash),
        ],
    );
    script.execute(
        "amarra_head_set",
        &[Argument::Int(int(head.number)), Argument::Bytes(&head.hash)],
    );
}

/// Reads rows after row `after`, ascending.
pub(crate) async fn rows(
    database: &PgDatabase,
    after: u64,
    limit: usize,
) -> Result<Vec<AuditRow>, TxError> {
    let limit = i64::try_from(limit.min(database.config().rows_max)).unwrap_or(i64::MAX);
    let rows = || {
        sqlx::query(
            "SELECT number, previous, hash, actor, action, kind, id, version, correlation, \
             at_micros, state_hash \
         FROM audit WHERE number > $1 ORDER BY number LIMIT $2",
        )
        .bind(int(after))
        .bind(limit)
        .fetch_all(database.pool())
    };
    let rows = database.bounded(rows).await?;
    let corrupt =
        |e: sqlx::Error| TxError::Corrupt { what: "audit row".to_owned(), why: e.to_string() };
    rows.iter().map(|row| read(row).map_err(corrupt)).collect()
}

fn read(row: &PgRow) -> Result<AuditRow, sqlx::Error> {
    let number = |column: usize| {
        Ok::<_, sqlx::Error>(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
    };
    let text = |column: usize| row.try_get::<&str, _>(column);
    let actor = text(3)?.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
    let entry = AuditDraft {
        actor,
        action: Arc::from(text(4)?),
        aggregate: AggregateId::new(text(5)?, text(6)?),
        version: Version::new(number(7)?),
        correlation: CorrelationId::from(row.try_get::<Uuid, _>(8)?),
        at: Timestamp::from_micros(row.try_get(9)?),
        state_hash: hash(row, 10)?,
    };
    Ok(AuditRow { number: number(0)?, previous: hash(row, 1)?, entry, hash: hash(row, 2)? })
}
