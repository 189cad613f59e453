//! The store ports: `Store` begins local transactions, `UnitOfWork` is one.

use std::fmt;
use std::time::Duration;

use amarra_core::{AggregateId, Timestamp, Version};
use amarra_messaging::{Admit, Group, Inbox, Incoming, Outbox, ParkingLot, TxError};
use async_trait::async_trait;
use bytes::Bytes;

use crate::audit::{AuditDraft, AuditRow};
use crate::idempotency::{IdempotencyKey, Idempotent, StoredResponse};
use crate::read_model::{ViewName, ViewRow, ViewWrite};
use crate::timer::{Claim, Due, DueQuery};

/// One aggregate as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredState {
    /// Its version, [`Version::ABSENT`] when it was never saved.
    pub version: Version,
    /// Its state, empty when it was never saved.
    pub body: Bytes,
}

/// One service's database.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Begins a transaction.
    ///
    /// # Errors
    /// [`TxError::Connection`].
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, TxError>;

    /// Begins the transaction that applies messages: admits them for `group` in their order, and
    /// answers for each.
    ///
    /// An adapter whose server is a round trip away does it all in one.
    ///
    /// # Laws
    /// - INB-9 the answers are those of `admit` for one message after the other.
    ///
    /// # Errors
    /// Any [`TxError`], for the first message that has one; nothing is left of the transaction.
    async fn begin_admitting(
        &self,
        group: &Group,
        messages: &[Incoming],
    ) -> Result<(Box<dyn UnitOfWork>, Vec<Admit>), TxError> {
        let mut unit = self.begin().await?;
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            answers.push(unit.admit(group, message).await?);
        }
        Ok((unit, answers))
    }

    /// Begins the transaction that acts on a due timer: loads what it touches, then verifies its
    /// claim. Aggregates are locked before their timers everywhere, since whoever schedules holds
    /// the aggregate.
    ///
    /// An adapter whose server is a round trip away does it all in one.
    ///
    /// # Laws
    /// - UOW-12 it is `load` and then `verify`.
    ///
    /// # Errors
    /// [`TxError::Fenced`] and any other [`TxError`]; nothing is left of the transaction.
    async fn begin_claimed(
        &self,
        claim: &Claim,
        ids: &[AggregateId],
    ) -> Result<(Box<dyn UnitOfWork>, Vec<StoredState>), TxError> {
        let mut unit = self.begin().await?;
        let states = unit.load(ids).await?;
        unit.verify(claim).await?;
        Ok((unit, states))
    }

    /// Claims aggregates whose timer is due: see [`DueQuery`].
    ///
    /// # Laws
    /// - TIM-1 a due timer is claimed by one owner at a time, until its lease ends by the
    ///   database's clock.
    /// - TIM-2 a claim after a lease ended has a higher epoch; the earlier claim is then fenced.
    /// - TIM-3 a timer survives restarts until it is unscheduled or scheduled again.
    ///
    /// # Errors
    /// [`TxError::Connection`]; what may have been claimed is claimable again after its lease.
    async fn claim_due(&self, query: &DueQuery) -> Result<Vec<Claim>, TxError>;

    /// Returns how long it takes until a timer of `kind` is due and not claimed, zero when one is
    /// now, none when there is no timer.
    ///
    /// # Laws
    /// - TIM-4 a timer can be claimed once the time has passed that `next_due` answered, unless it
    ///   was set anew or claimed meanwhile.
    ///
    /// # Errors
    /// [`TxError::Connection`].
    async fn next_due(&self, kind: &str) -> Result<Option<Duration>, TxError>;

    /// Claims as [`claim_due`](Self::claim_due) does and, when fewer than asked for were due, tells
    /// how long it takes until the next is; an adapter whose server is a round trip away does both
    /// in one.
    ///
    /// # Laws
    /// - TIM-6 the claims are those of `claim_due`, and the wait that of `next_due` after it.
    ///
    /// # Errors
    /// [`TxError::Connection`] of the claim. A wait that cannot be told is none: it must not lose
    /// the claims, and is polled for.
    async fn claim_or_wait(&self, query: &DueQuery) -> Result<Due, TxError> {
        let claims = self.claim_due(query).await?;
        let wait = if claims.len() < query.limit {
            self.next_due(&query.kind).await.unwrap_or_default()
        } else {
            None
        };
        Ok(Due { claims, wait })
    }

    /// Returns audit rows after row `after`, ascending, at most `limit`.
    ///
    /// # Errors
    /// [`TxError::Connection`].
    async fn audit_rows(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, TxError>;

    /// Returns once a timer may have become due sooner than known at the last call, or never when
    /// the adapter cannot tell.
    ///
    /// # Laws
    /// - TIM-5 an adapter that tells of one timer that was set tells of every later one.
    async fn timers_changed(&self);
}

/// One local transaction: everything in it becomes visible at commit, together or not at all.
///
/// # Laws
/// - UOW-1 `load` locks in id order, what was never saved too, and returns the state last
///   committed, or saved earlier in this transaction; two units never deadlock by `load` alone when
///   each calls it once.
/// - UOW-2 a locked aggregate is changed by nobody else until this unit ends.
/// - UOW-3 `save` with a version other than the stored one answers [`TxError::Conflict`]; with
///   [`Version::ABSENT`] it creates, and of two units that create one id one gets `Conflict`. That
///   there is an aggregate which was to be created, and was not loaded, `commit` may be the first
///   to answer.
/// - UOW-4 nothing is visible to anybody else before `commit` answers, and all of it after `Ok`.
/// - UOW-5 dropping a unit, or a failed call in it, leaves no trace but burnt sequence values.
/// - UOW-6 `commit` answers [`TxError::OutcomeUnknown`] exactly when the effect may or may not
///   have been applied; every other error means it was not.
/// - UOW-7 `Ok` of `commit` survives a crash of the database.
/// - UOW-8 audit rows are chained in commit order: see [`crate::audit`].
/// - UOW-9 of two units that begin one idempotency key, one is `Fresh`; the other is `InFlight`
///   until it ends and `Replay` after it committed.
/// - UOW-10 `verify` answers [`TxError::Fenced`] when the claim was superseded, and no other unit
///   can supersede it before this one ends.
/// - UOW-11 `load_views` locks in the order of the names, and two units never deadlock by it alone
///   when each calls it once.
///
/// # Cancellation
/// A dropped future of any method but `commit` leaves the unit to be dropped: it is rolled back. A
/// dropped `commit` future has an unknown outcome.
#[async_trait]
pub trait UnitOfWork: Outbox + Inbox + ParkingLot + Send {
    /// Returns the transaction's time by the database's clock: constant within the unit. Decisions
    /// about expiry use it, so that clock skew between services cannot matter.
    fn now(&self) -> Timestamp;

    /// Locks and returns aggregates, in the order asked for.
    ///
    /// # Errors
    /// Any [`TxError`].
    async fn load(&mut self, ids: &[AggregateId]) -> Result<Vec<StoredState>, TxError>;

    /// Saves an aggregate whose stored version is `expected`; its version becomes the next one.
    ///
    /// # Errors
    /// [`TxError::Conflict`] and any other [`TxError`].
    async fn save(
        &mut self,
        id: &AggregateId,
        expected: Version,
        body: Bytes,
    ) -> Result<(), TxError>;

    /// Sets the aggregate's timer to `after` from now, ends any claim on it; `None` removes it.
    ///
    /// # Errors
    /// Any [`TxError`].
    async fn schedule(&mut self, id: &AggregateId, after: Option<Duration>) -> Result<(), TxError>;

    /// Checks that a claim is still the newest on its aggregate, and keeps it so until the end.
    ///
    /// # Errors
    /// [`TxError::Fenced`] and any other [`TxError`].
    async fn verify(&mut self, claim: &Claim) -> Result<(), TxError>;

    /// Begins the command of an idempotency key.
    ///
    /// # Errors
    /// Any [`TxError`].
    async fn begin_idempotent(&mut self, key: &IdempotencyKey) -> Result<Idempotent, TxError>;

    /// Stores the response of a command begun in this unit, to be replayed for ever after.
    ///
    /// # Errors
    /// Any [`TxError`].
    async fn record_response(
        &mut self,
        key: &IdempotencyKey,
        response: &StoredResponse,
    ) -> Result<(), TxError>;

    /// Appends to the audit chain.
    ///
    /// # Errors
    /// Any [`TxError`].
    async fn audit(&mut self, entry: AuditDraft) -> Result<(), TxError>;

    /// Returns view rows as this unit sees them, in the order asked for, locked until it ends.
    ///
    /// # Errors
    /// Any [`TxError`].
    async fn load_views(&mut self, names: &[ViewName]) -> Result<Vec<Option<ViewRow>>, TxError>;

    /// Returns a view row as this unit sees it, locked until it ends.
    ///
    /// # Errors
    /// Any [`TxError`].
    async fn load_view(&mut self, view: &str, key: &str) -> Result<Option<ViewRow>, TxError> {
        let rows = self.load_views(&[(view.into(), key.into())]).await?;
        Ok(rows.into_iter().next().flatten())
    }

    /// Writes a row of a read model.
    ///
    /// # Errors
    /// Any [`TxError`].
    async fn write_view(&mut self, write: ViewWrite) -> Result<(), TxError>;

    /// Commits.
    ///
    /// # Errors
    /// [`TxError::OutcomeUnknown`], or any other [`TxError`] when surely nothing was applied.
    async fn commit(self: Box<Self>) -> Result<(), TxError>;
}
