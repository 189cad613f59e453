//! The end of a unit: its writes in one round trip, the audit chain and the commit in another; or
//! all in one, where there is nothing to chain and no version to check.

use std::collections::BTreeSet;

use amarra_core::{AggregateId, Version};
use amarra_messaging::TxError;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::PgUnit;
use crate::audit;
use crate::error::{sqlstate, tx_error};
use crate::sql::{Answer, Script};

impl PgUnit {
    /// Writes what was kept, then commits.
    ///
    /// The chain's head is locked by the last statement before the commit: from there it is held
    /// for one round trip and one flush of the log.
    pub(super) async fn finish(&mut self) -> Result<(), TxError> {
        let mut last = self.flush().await?;
        last.plain("COMMIT");
        if let Err(e) = last.check() {
            return self.fail(e);
        }
        let sent = match self.conn.as_mut() {
            None => return Err(TxError::Connection { why: "the unit has ended".to_owned() }),
            Some(conn) => {
                let timeout = self.database.config().call_timeout;
                self.busy = true;
                tokio::time::timeout(timeout, last.run(conn)).await
            }
        };
        match sent {
            Ok(Ok(_)) => {
                self.busy = false;
                self.ended();
                Ok(())
            }
            // The server said no, and still talks: it has not committed.
            Ok(Err(e)) if sqlstate(&e).is_some_and(|state| !state.starts_with("57P")) => {
                self.busy = false;
                self.fail(tx_error(&e))
            }
            Ok(Err(_)) | Err(_) => self.lost().await,
        }
    }

    /// Sends the writes, and returns what is to be sent with the commit: the rows of the audit
    /// chain, whose head is locked, or the writes where nothing of what they answer is needed.
    async fn flush(&mut self) -> Result<Script, TxError> {
        let mut script = Script::default();
        let written = self.writes.script(self.database.config(), &mut script);
        let chained = !self.writes.audit.is_empty();
        let unchecked = written.created.is_none() && written.updated.is_none();
        if !chained && unchecked && self.xid.is_some() {
            return Ok(script);
        }
        if chained {
            script.execute("amarra_head", &[]);
        } else if !script.is_empty() || (self.touched && self.xid.is_none()) {
            script.plain("SELECT pg_current_xact_id_if_assigned()::text::bigint");
        }
        if script.is_empty() {
            return Ok(script);
        }
        let answers = self.run(script).await?;
        let short = |(at, rows): (usize, usize)| {
            answers.get(at).filter(|a| Some(a.affected) != u64::try_from(rows).ok())
        };
        if let Some(answer) = written.created.and_then(short) {
            let id = self.decoded(self.first_there(answer))?;
            return self.fail(TxError::Conflict { id });
        }
        if written.updated.and_then(short).is_some() {
            return self.fail(TxError::Conflict { id: self.first_changed() });
        }
        let xid = answers.last().and_then(|a| a.rows.first()).map(|row| row.try_get(0));
        self.xid = self.decoded(xid.unwrap_or(Err(sqlx::Error::RowNotFound)))?;
        let mut last = Script::default();
        if chained {
            let head = answers.last().ok_or(sqlx::Error::RowNotFound).and_then(head);
            audit::append(self.decoded(head)?, &self.writes.audit, &mut last);
        }
        Ok(last)
    }

    /// Names an aggregate that somebody changed past the locks, as far as can be told.
    fn first_changed(&self) -> AggregateId {
        let changed = self.writes.aggregates.iter().find(|(_, k)| k.state.version != k.stored);
        changed.map_or_else(|| AggregateId::new("", ""), |(id, _)| id.clone())
    }

    /// Names the first aggregate that was to be created and was there.
    fn first_there(&self, created: &Answer) -> Result<AggregateId, sqlx::Error> {
        let id = |row: &PgRow| {
            Ok(AggregateId::new(row.try_get::<&str, _>(0)?, row.try_get::<&str, _>(1)?))
        };
        let made = created.rows.iter().map(id).collect::<Result<BTreeSet<_>, sqlx::Error>>()?;
        let mut wanted = self.writes.aggregates.iter().filter(|(id, known)| {
            known.stored == Version::ABSENT
                && known.state.version != known.stored
                && !made.contains(id)
        });
        Ok(wanted.next().map_or_else(|| AggregateId::new("", ""), |(id, _)| id.clone()))
    }

    /// The connection was lost with the commit on its way: asks what became of it.
    async fn lost(&mut self) -> Result<(), TxError> {
        // Closed first, so that the server need not wait for us to end the transaction.
        if let Some(conn) = self.conn.take() {
            drop(conn.detach());
        }
        let outcome = match self.xid {
            // Nothing was written: there is nothing that could have been applied.
            None => Err(TxError::Connection { why: "lost in the commit of no change".to_owned() }),
            Some(xid) => self.database.resolve(xid).await,
        };
        match outcome {
            Ok(()) => {
                self.ended();
                Ok(())
            }
            Err(e) => {
                // What may have been committed is worth a look.
                self.tell();
                self.fail(e)
            }
        }
    }

    fn ended(&mut self) {
        self.conn = None;
        self.tell();
    }

    /// Wakes this process's readers of what was written.
    fn tell(&self) {
        let set = self.writes.timers.iter();
        let set = set.filter_map(|(id, after)| Some((&*id.kind, (*after)?)));
        self.database.wake().timers.set(self.began, set);
        if !self.enqueued.is_empty() {
            self.database.wake().outbox_committed_to(self.enqueued);
        }
    }
}

fn head(answer: &Answer) -> Result<audit::Head, sqlx::Error> {
    let row = answer.rows.first().ok_or(sqlx::Error::RowNotFound)?;
    audit::Head::read(row)
}
