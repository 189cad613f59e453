//! Durable timers: claimed by lease and epoch, by the server's clock.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use amarra_core::AggregateId;
use amarra_messaging::TxError;
use amarra_messaging::message::Epoch;
use amarra_messaging::signal::Signal;
use amarra_store::{Claim, Due, DueQuery};
use sqlx::Row as _;
use tokio::time::Instant;

use crate::database::PgDatabase;
use crate::sql::{Answer, Argument, Script};

/// Tells workers of this process of timers they do not know of.
///
/// Whoever asks when the next timer of a kind is due looks again then. So a commit that set a later
/// one need not wake it, and most timers are deadlines that are later.
///
/// # State
/// The time before which nothing of a kind is due, as the last answer said. There is none while
/// somebody asks, and until somebody has asked: then every timer is told of.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    known: Mutex<BTreeMap<Box<str>, Known>>,
    pub(crate) changed: Signal,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// How many ask right now, and may not see what is committed meanwhile.
    asking: u32,
    /// When the next timer is due; none when it is not known.
    next: Option<Instant>,
}

impl Alarm {
    /// Tells of timers that were committed, with how long after `since` each is due.
    pub(crate) fn set<'a>(
        &self,
        since: Instant,
        timers: impl Iterator<Item = (&'a str, Duration)>,
    ) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = |(kind, after): (&str, Duration)| {
            let known = known.get(kind).filter(|known| known.asking == 0);
            let next = known.and_then(|known| known.next);
            // A time too far to be told is later than any.
            next.is_none_or(|next| since.checked_add(after).is_some_and(|due| due < next))
        };
        let mut timers = timers;
        let news = timers.any(is_news);
        drop(known);
        if news {
            self.changed.raise();
        }
    }

    fn ask(&self, kind: &str) -> Asking<'_> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(kind.into()).or_insert(Known { asking: 0, next: None });
        entry.asking = entry.asking.saturating_add(1);
        entry.next = None;
        Asking { alarm: self, kind: kind.into(), next: None }
    }
}

/// Somebody who asks when the next timer of a kind is due.
struct Asking<'a> {
    alarm: &'a Alarm,
    kind: Box<str>,
    next: Option<Instant>,
}

impl Asking<'_> {
    fn answered(&mut self, wait: Duration) {
        self.next = Instant::now().checked_add(wait);
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut known = self.alarm.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get_mut(&self.kind) {
            entry.asking = entry.asking.saturating_sub(1);
            entry.next = self.next;
        }
    }
}

fn micros(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

/// Claims what is due and in nobody's hands, the longest due first: one round trip.
pub(crate) async fn claim(database: &PgDatabase, query: &DueQuery) -> Result<Vec<Claim>, TxError> {
    claims(ask(database, &claiming(database, query)).await?.first(), query)
}

/// Claims, and tells how long it takes until the next timer is due: one round trip.
pub(crate) async fn claim_or_wait(database: &PgDatabase, query: &DueQuery) -> Result<Due, TxError> {
    let mut asking = database.wake().timers.ask(&query.kind);
    let mut script = claiming(database, query);
    script.execute("amarra_next_due", &[Argument::Text(&query.kind)]);
    let answers = ask(database, &script).await?;
    let claims = claims(answers.first(), query)?;
    let wait = if claims.len() < query.limit { wait(answers.get(1))? } else { None };
    if let Some(wait) = wait {
        asking.answered(wait);
    }
    Ok(Due { claims, wait })
}

/// Returns how long it takes until a timer of `kind` may be claimed.
pub(crate) async fn next_due(
    database: &PgDatabase,
    kind: &str,
) -> Result<Option<Duration>, TxError> {
    let mut script = Script::default();
    script.execute("amarra_next_due", &[Argument::Text(kind)]);
    wait(ask(database, &script).await?.first())
}

fn claiming(database: &PgDatabase, query: &DueQuery) -> Script {
    let limit = query.limit.min(database.config().rows_max);
    let lease = query.lease.min(database.config().lease_max);
    let mut script = Script::default();
    script.execute(
        "amarra_claim",
        &[
            Argument::Text(&query.kind),
            Argument::Int(i64::try_from(limit).unwrap_or(i64::MAX)),
            Argument::Int(micros(lease)),
            Argument::Text(query.owner.as_str()),
        ],
    );
    script
}

/// Runs a script outside of any unit: its statements are one transaction.
async fn ask(database: &PgDatabase, script: &Script) -> Result<Vec<Answer>, TxError> {
    script.check()?;
    let pool = database.pool();
    let run = || async { script.clone().run(&mut *pool.acquire().await?).await };
    database.bounded(run).await
}

fn corrupt(error: &sqlx::Error) -> TxError {
    TxError::Corrupt { what: "timer".to_owned(), why: error.to_string() }
}

fn claims(answer: Option<&Answer>, query: &DueQuery) -> Result<Vec<Claim>, TxError> {
    let rows = answer.map(|answer| answer.rows.as_slice()).unwrap_or_default();
    let read = |row: &sqlx::postgres::PgRow| {
        Ok((row.try_get(0)?, row.try_get::<i64, _>(1)?, row.try_get::<i64, _>(2)?))
    };
    let rows: Result<Vec<(String, i64, i64)>, sqlx::Error> = rows.iter().map(read).collect();
    let mut rows = rows.map_err(|e| corrupt(&e))?;
    rows.sort_by_key(|(_, _, due)| *due);
    let claim = |(id, epoch, _): (String, i64, i64)| Claim {
        id: AggregateId::new(query.kind.clone(), id),
        epoch: Epoch(u64::try_from(epoch).unwrap_or_default()),
        owner: query.owner.clone(),
    };
    Ok(rows.into_iter().map(claim).collect())
}

fn wait(answer: Option<&Answer>) -> Result<Option<Duration>, TxError> {
    let row = answer.and_then(|answer| answer.rows.first());
    let row = row.ok_or_else(|| corrupt(&sqlx::Error::RowNotFound))?;
    let micros: Option<i64> = row.try_get(0).map_err(|e| corrupt(&e))?;
    Ok(micros.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))))
}

/// Adds the statement that locks a claim's timer if the claim is the newest on it: it answers a row
/// then, and none otherwise.
pub(crate) fn claimed(claim: &Claim, script: &mut Script) {
    let epoch = i64::try_from(claim.epoch.0).unwrap_or(i64::MAX);
    let (kind, id) = (Argument::Text(&claim.id.kind), Argument::Text(&claim.id.id));
    script.execute("amarra_claimed", &[kind, id, Argument::Int(epoch)]);
}

/// Tells whether a claim is the newest, of the answers to a script that [`claimed`] ended.
pub(crate) fn is_newest(answers: &[Answer]) -> bool {
    answers.last().is_some_and(|answer| !answer.rows.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    const KIND: &str = "order";

    fn told(alarm: &Alarm, seen: &AtomicU64, after: u64) -> bool {
        let after = Duration::from_secs(after);
        alarm.set(Instant::now(), [(KIND, after)].into_iter());
        seen.swap(alarm.changed.count(), std::sync::atomic::Ordering::Relaxed)
            != alarm.changed.count()
    }

    #[test]
    fn a_timer_is_told_unless_an_earlier_one_is_known() {
        let (alarm, seen) = (Alarm::default(), AtomicU64::new(0));
        assert!(told(&alarm, &seen, 60), "nobody has asked yet");
        alarm.ask(KIND).answered(Duration::from_secs(10));
        assert!(!told(&alarm, &seen, 60));
        assert!(told(&alarm, &seen, 5));
        assert!(told(&alarm, &seen, 0));
        alarm.ask("parcel").answered(Duration::ZERO);
        assert!(told(&alarm, &seen, 5), "another kind's");
    }

    #[test]
    fn every_timer_is_told_while_somebody_asks_and_when_there_was_none() {
        let (alarm, seen) = (Alarm::default(), AtomicU64::new(0));
        let mut asking = alarm.ask(KIND);
        let other = alarm.ask(KIND);
        asking.answered(Duration::from_secs(10));
        drop(asking);
        assert!(told(&alarm, &seen, 60), "the other one still asks");
        drop(other);
        assert!(told(&alarm, &seen, 60), "there was no timer");
    }
}
