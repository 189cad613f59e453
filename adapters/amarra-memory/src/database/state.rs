//! The state behind a database's mutex, and the life of a unit in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_core::Timestamp;
use amarra_messaging::TxError;
use amarra_messaging::signal::Signal;
use tokio::sync::Notify;

use super::locks::{LockTable, UnitId};
use super::tables::Tables;
use super::transactions::Transactions;
use super::writes::WriteSet;
use crate::client::{ClientId, Fence};
use crate::observer::CommittedTx;

/// Everything a database knows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) running: bool,
    pub(super) fence: Fence,
    pub(super) locks: LockTable,
    pub(super) transactions: Transactions,
    pub(super) tables: Tables,
    pub(super) next_ticket: u64,
    next_unit: u64,
    units: BTreeMap<UnitId, Unit>,
    /// Commit records written and not yet visible, in the order they were written.
    wal: Vec<WalRecord>,
    /// What the observer is to be told once the lock is released, kept only if there is one.
    pub(super) events: Option<Vec<CommittedTx>>,
    signals: Arc<Signals>,
    database: Arc<str>,
}

/// Wakes those who wait for a change.
#[derive(Debug, Default)]
pub(super) struct Signals {
    pub(super) outbox: Signal,
    pub(super) timers: Signal,
}

#[derive(Debug)]
struct Unit {
    client: ClientId,
    xid: Option<u64>,
    phase: Phase,
    wakeup: Arc<Notify>,
}

#[derive(Debug)]
enum Phase {
    Active,
    /// Its commit record is written.
    Committing,
    /// Over; every further call in it is answered with this.
    Ended(TxError),
}

/// A commit as the write-ahead log holds it.
#[derive(Debug)]
struct WalRecord {
    unit: UnitId,
    client: ClientId,
    xid: u64,
    now: Timestamp,
    writes: WriteSet,
}

impl State {
    pub(super) fn new(
        database: Arc<str>,
        shards: u16,
        observing: bool,
        signals: Arc<Signals>,
    ) -> Self {
        Self {
            running: true,
            fence: Fence::default(),
            locks: LockTable::default(),
            transactions: Transactions::default(),
            tables: Tables::new(shards),
            next_ticket: 1,
            next_unit: 1,
            units: BTreeMap::new(),
            wal: Vec::new(),
            events: observing.then(Vec::new),
            signals,
            database,
        }
    }

    /// Tells why a client is not served, if it is not.
    pub(super) fn refusal(&self, client: &ClientId) -> Option<&'static str> {
        if !self.running {
            Some("the database is down")
        } else if !self.fence.serves(client) {
            Some("this incarnation of the client was disconnected")
        } else {
            None
        }
    }

    /// Begins a unit.
    pub(super) fn begin(&mut self, client: &ClientId) -> Result<(UnitId, Arc<Notify>), TxError> {
        if let Some(why) = self.refusal(client) {
            return Err(lost(why));
        }
        let id = UnitId(self.next_unit);
        self.next_unit = self.next_unit.saturating_add(1);
        let wakeup = Arc::new(Notify::new());
        let unit = Unit {
            client: client.clone(),
            xid: None,
            phase: Phase::Active,
            wakeup: Arc::clone(&wakeup),
        };
        self.units.insert(id, unit);
        Ok((id, wakeup))
    }

    /// Checks that a unit is open.
    pub(super) fn check(&self, id: UnitId) -> Result<(), TxError> {
        match self.units.get(&id).map(|unit| &unit.phase) {
            Some(Phase::Active) => Ok(()),
            Some(Phase::Ended(error)) => Err(error.clone()),
            Some(Phase::Committing) | None => Err(lost("the unit has ended")),
        }
    }

    /// Returns the unit's transaction id, drawn at its first lock or write.
    pub(super) fn xid(&mut self, id: UnitId) -> Result<u64, TxError> {
        let unit = self.units.get_mut(&id).ok_or_else(|| lost("the unit has ended"))?;
        Ok(*unit.xid.get_or_insert_with(|| self.transactions.start()))
    }

    /// Rolls an open unit back; every further call in it answers `error`.
    pub(super) fn roll_back(&mut self, id: UnitId, error: TxError) {
        let Some(unit) = self.units.get_mut(&id) else { return };
        if !matches!(unit.phase, Phase::Active) {
            return;
        }
        unit.phase = Phase::Ended(error);
        unit.wakeup.notify_one();
        if let Some(xid) = unit.xid {
            self.transactions.end(xid);
        }
        self.release(id);
    }

    /// Writes a unit's commit record; the unit stays locked until [`State::complete`].
    pub(super) fn write_ahead(
        &mut self,
        id: UnitId,
        now: Timestamp,
        writes: WriteSet,
    ) -> Result<(), TxError> {
        self.check(id)?;
        let xid = self.xid(id)?;
        let Some(unit) = self.units.get_mut(&id) else { return Ok(()) };
        unit.phase = Phase::Committing;
        let client = unit.client.clone();
        self.wal.push(WalRecord { unit: id, client, xid, now, writes });
        Ok(())
    }

    /// Makes a commit visible whose record is on disk, unless a crash came first.
    pub(super) fn complete(&mut self, id: UnitId) -> Result<(), TxError> {
        let Some(unit) = self.units.get_mut(&id) else { return Err(TxError::OutcomeUnknown) };
        match &unit.phase {
            Phase::Active => return Err(lost("the commit record was not written")),
            Phase::Ended(error) => return Err(error.clone()),
            Phase::Committing => unit.phase = Phase::Ended(TxError::OutcomeUnknown),
        }
        if let Some(at) = self.wal.iter().position(|record| record.unit == id) {
            let record = self.wal.remove(at);
            self.make_visible(record);
        }
        self.release(id);
        Ok(())
    }

    /// Ends a unit whose client let go of it: an open one is rolled back, a commit already sent is
    /// finished, since nobody can call it back.
    pub(super) fn let_go(&mut self, id: UnitId) {
        self.roll_back(id, lost("the unit was dropped"));
        drop(self.complete(id));
        self.units.remove(&id);
    }

    /// Ends every unit of a node.
    pub(super) fn disconnect(&mut self, node: &str) {
        for id in self.units_where(|unit| *unit.client.node == *node) {
            self.roll_back(id, lost("the client was disconnected"));
            drop(self.complete(id));
        }
    }

    /// Stops the server: open units are gone, commits in flight are redone at the restart unless
    /// the power went before their records were flushed.
    pub(super) fn crash(&mut self, power_loss: bool, sequence_gap: u64) {
        self.running = false;
        self.tables.outbox.skip(sequence_gap);
        for id in self.units_where(|_| true) {
            self.roll_back(id, lost("the database crashed"));
            if let Some(unit) = self.units.get_mut(&id)
                && matches!(unit.phase, Phase::Committing)
            {
                unit.phase = Phase::Ended(TxError::OutcomeUnknown);
                self.release(id);
            }
        }
        if power_loss {
            for record in self.wal.drain(..) {
                self.transactions.end(record.xid);
            }
        }
    }

    /// Starts the server: redoes the commit records that are left.
    pub(super) fn restart(&mut self) {
        self.running = true;
        for record in std::mem::take(&mut self.wal) {
            self.make_visible(record);
        }
    }

    fn make_visible(&mut self, record: WalRecord) {
        let WalRecord { client, xid, now, writes, .. } = record;
        let audited = self.tables.apply(xid, &writes);
        self.transactions.end(xid);
        if !writes.messages.is_empty() {
            self.signals.outbox.raise();
        }
        if !writes.timers.is_empty() {
            self.signals.timers.raise();
        }
        if let Some(events) = &mut self.events {
            events.push(CommittedTx {
                database: Arc::clone(&self.database),
                client,
                xid,
                now,
                saved: writes.saved,
                messages: writes.messages,
                admitted: writes.admitted,
                parked: writes.parked,
                unparked: writes.unparked.into_iter().collect(),
                audited,
                views: writes.views.into_values().collect(),
                scheduled: writes.timers.into_iter().collect(),
                responses: writes.responses,
            });
        }
    }

    fn release(&mut self, id: UnitId) {
        for granted in self.locks.release_all(id) {
            if let Some(unit) = self.units.get(&granted) {
                unit.wakeup.notify_one();
            }
        }
    }

    fn units_where(&self, chosen: impl Fn(&Unit) -> bool) -> Vec<UnitId> {
        self.units.iter().filter(|(_, unit)| chosen(unit)).map(|(&id, _)| id).collect()
    }
}

/// The connection broke before the commit was sent.
pub(super) fn lost(why: &str) -> TxError {
    TxError::Connection { why: why.to_owned() }
}
