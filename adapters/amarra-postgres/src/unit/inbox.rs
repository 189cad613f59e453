//! The inbox port of a unit: windows and offsets are locked and read once, and written at its end.

use std::collections::BTreeMap;

use amarra_core::EventId;
use amarra_messaging::inbox::offset::Mark;
use amarra_messaging::inbox::window::Window;
use amarra_messaging::inbox::{Basis, GroupInbox};
use amarra_messaging::message::Position;
use amarra_messaging::{Admit, Group, Inbox, Incoming, Offset, TxError};
use async_trait::async_trait;

use super::PgUnit;
use crate::inbox::{self, Locked, MarkName, PgInbox, WindowName, number};
use crate::sql::Argument;

/// A window or offset that is locked.
#[derive(Debug)]
struct Held<T> {
    value: T,
    changed: bool,
}

impl<T> Held<T> {
    fn new(value: T) -> Self {
        Self { value, changed: false }
    }
}

/// What a unit has admitted other than by rows, in the order in which it is written.
#[derive(Debug, Default)]
pub(super) struct Admissions {
    windows: BTreeMap<WindowName, Held<Window>>,
    marks: BTreeMap<MarkName, Held<Mark>>,
    /// Whether a group has rows, for those asked about.
    rows: BTreeMap<Group, bool>,
}

impl Admissions {
    /// Adds the statements that write what has changed.
    pub(super) fn script(&self, execute: &mut impl FnMut(&str, &[Argument<'_>]) -> usize) {
        let windows: Vec<_> = self.windows.iter().filter(|(_, held)| held.changed).collect();
        if !windows.is_empty() {
            let bits: Vec<_> = windows.iter().map(|(_, held)| held.value.to_bytes()).collect();
            let partition = |n: &WindowName| i64::from(n.partition.0);
            let rows = [
                Argument::Texts(windows.iter().map(|(name, _)| name.group.as_str()).collect()),
                Argument::Texts(windows.iter().map(|(name, _)| name.topic.as_str()).collect()),
                Argument::Ints(windows.iter().map(|(name, _)| partition(name)).collect()),
                Argument::Texts(windows.iter().map(|(name, _)| &*name.source).collect()),
                Argument::Ints(windows.iter().map(|(n, _)| i64::from(n.shard.0)).collect()),
                Argument::ByteArrays(bits.iter().map(Vec::as_slice).collect()),
            ];
            execute("amarra_windows", &rows);
        }
        let marks: Vec<_> = self.marks.iter().filter(|(_, held)| held.changed).collect();
        if !marks.is_empty() {
            let next = |mark: &Mark| mark.next.map_or(0, |offset| number(offset.0));
            let rows = [
                Argument::Texts(marks.iter().map(|(name, _)| name.group.as_str()).collect()),
                Argument::Texts(marks.iter().map(|(name, _)| name.topic.as_str()).collect()),
                Argument::Ints(marks.iter().map(|(n, _)| i64::from(n.partition.0)).collect()),
                Argument::Ints(marks.iter().map(|(_, held)| next(&held.value)).collect()),
            ];
            execute("amarra_offsets", &rows);
        }
    }
}

#[async_trait]
impl Inbox for PgUnit {
    async fn admit(&mut self, group: &Group, message: &Incoming) -> Result<Admit, TxError> {
        self.open()?;
        self.touched = true;
        let inbox = *self.config().inbox.of(group);
        match inbox.basis(message) {
            Basis::Window(position) => self.by_position(&inbox, (group, message), position).await,
            Basis::Late(_, position) => self.late(&inbox, (group, message), position).await,
            Basis::Offset(offset) => self.by_offset(&inbox, (group, message), offset).await,
            // By its id, which is right for every message.
            _ => self.by_id(group, message).await,
        }
    }
}

impl PgUnit {
    async fn by_id(&mut self, group: &Group, message: &Incoming) -> Result<Admit, TxError> {
        let admitted = self.call(|conn| Box::pin(PgInbox::rows(conn, group, message))).await?;
        let Some(xid) = admitted else { return Ok(Admit::Duplicate) };
        self.xid = Some(xid);
        self.writes.admissions.rows.insert(group.clone(), true);
        Ok(Admit::Fresh)
    }

    async fn by_position(
        &mut self,
        inbox: &GroupInbox,
        (group, message): (&Group, &Incoming),
        position: &Position,
    ) -> Result<Admit, TxError> {
        let gaps = inbox.gaps;
        let admit = self
            .in_window(inbox, (group, message), position, |window| window.admit(position.pos, gaps))
            .await?;
        let known = admit.applies() && self.has_row(group, message.envelope.id).await?;
        Ok(if known { Admit::Duplicate } else { admit })
    }

    /// Admits a message that comes out of turn: its id gets a row, since windows forget.
    async fn late(
        &mut self,
        inbox: &GroupInbox,
        (group, message): (&Group, &Incoming),
        position: &Position,
    ) -> Result<Admit, TxError> {
        let decide = |window: &mut Window| inbox::decide_late(window, position);
        match self.in_window(inbox, (group, message), position, decide).await? {
            Admit::Duplicate => Ok(Admit::Duplicate),
            _ => self.by_id(group, message).await,
        }
    }

    /// Locks and reads a window unless it is held already, then lets it decide.
    async fn in_window(
        &mut self,
        inbox: &GroupInbox,
        (group, message): (&Group, &Incoming),
        position: &Position,
        decide: impl FnOnce(&mut Window) -> Admit,
    ) -> Result<Admit, TxError> {
        let name = WindowName::of(group, message, position);
        let held = match self.writes.admissions.windows.remove(&name) {
            Some(held) => held,
            None => {
                let (bits, key) = (inbox.window_bits, &name);
                let locked =
                    self.call(|conn| Box::pin(inbox::lock_window(conn, key, bits))).await?;
                Held::new(self.locked(group, locked))
            }
        };
        let held = self.writes.admissions.windows.entry(name).or_insert(held);
        let admit = decide(&mut held.value);
        held.changed |= admit.applies();
        Ok(admit)
    }

    async fn by_offset(
        &mut self,
        inbox: &GroupInbox,
        (group, message): (&Group, &Incoming),
        offset: Offset,
    ) -> Result<Admit, TxError> {
        let name = MarkName::of(group, message);
        let held = match self.writes.admissions.marks.remove(&name) {
            Some(held) => held,
            None => {
                let key = &name;
                let locked = self.call(|conn| Box::pin(inbox::lock_mark(conn, key))).await?;
                Held::new(self.locked(group, locked))
            }
        };
        let held = self.writes.admissions.marks.entry(name).or_insert(held);
        let admit = held.value.admit(offset, inbox.gaps);
        held.changed |= admit.applies();
        let known = admit.applies() && self.has_row(group, message.envelope.id).await?;
        Ok(if known { Admit::Duplicate } else { admit })
    }

    fn locked<T>(&mut self, group: &Group, locked: Locked<T>) -> T {
        *self.writes.admissions.rows.entry(group.clone()).or_default() |= locked.rows;
        locked.value
    }

    /// Looks for the row of an id, where the group has any.
    async fn has_row(&mut self, group: &Group, id: EventId) -> Result<bool, TxError> {
        if self.writes.admissions.rows.get(group) == Some(&false) {
            return Ok(false);
        }
        self.call(|conn| Box::pin(inbox::has_row(conn, group, id))).await
    }
}
