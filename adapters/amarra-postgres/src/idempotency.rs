//! Idempotency records: a lock that is only tried for while a command runs, a row once it ran.

use std::sync::Arc;

use amarra_store::{IdempotencyKey, Idempotent, StoredResponse};
use bytes::Bytes;
use sqlx::Row as _;

use crate::sql::{Answer, Argument, Script, lock_key};

/// The principal, the route and the key.
pub(crate) type KeyName = (Arc<str>, Arc<str>, Arc<str>);

/// Names a key.
pub(crate) fn name(key: &IdempotencyKey) -> KeyName {
    (Arc::clone(&key.principal), Arc::clone(&key.route), Arc::clone(&key.key))
}

/// Tries the lock, then looks for the row: by a snapshot of its own, taken after whoever held the
/// lock before ended.
pub(crate) fn look(key: &IdempotencyKey) -> Script {
    let parts = [&*key.principal, &*key.route, &*key.key];
    let mut script = Script::default();
    script.execute("amarra_try_lock", &[Argument::Int(lock_key("idempotency", &parts))]);
    script.execute("amarra_response", &parts.map(Argument::Text));
    script
}

/// Reads what [`look`] answered.
pub(crate) fn answer(answers: &[Answer], key: &IdempotencyKey) -> Result<Idempotent, sqlx::Error> {
    let first = |n: usize| answers.get(n).and_then(|answer| answer.rows.first());
    if let Some(row) = first(1) {
        let status = u16::try_from(row.try_get::<i32, _>(1)?).unwrap_or_default();
        let body = Bytes::from(row.try_get::<Vec<u8>, _>(2)?);
        let stored = row.try_get::<Vec<u8>, _>(0)?;
        return Ok(replay(&stored, StoredResponse { status, body }, key));
    }
    let locked: bool = first(0).ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
    Ok(if locked { Idempotent::Fresh } else { Idempotent::InFlight })
}

/// Answers a key whose response is known: replay it, unless the request is another one.
pub(crate) fn replay(
    stored: &[u8],
    response: StoredResponse,
    asked: &IdempotencyKey,
) -> Idempotent {
    if stored == asked.request_hash { Idempotent::Replay(response) } else { Idempotent::Mismatch }
}
