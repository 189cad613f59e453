//! The inbox port of a unit: windows and offsets are locked and read once, and written at its end.

use std::collections::{BTreeMap, BTreeSet};

use amarra_core::{EventId, PartitionKey};
use amarra_messaging::inbox::offset::Mark;
use amarra_messaging::inbox::window::Window;
use amarra_messaging::inbox::{Basis, GroupInbox};
use amarra_messaging::message::Position;
use amarra_messaging::{Admit, Group, Inbox, Incoming, Offset, Topic, TxError};
use async_trait::async_trait;
use sqlx::Row as _;

use super::PgUnit;
use crate::database::PgDatabase;
use crate::inbox::{self, Locked, MarkName, PgInbox, WindowName, number};
use crate::parking;
use crate::sql::{Argument, Script};

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

/// Which keys are parked, for those looked at with the admissions of this unit.
#[derive(Debug, Default)]
pub(super) struct Looked(BTreeMap<(Group, Topic, PartitionKey), bool>);

impl Looked {
    /// Takes note of `keys`, of which those at `parked` are parked, counted from one.
    fn note(&mut self, group: &Group, keys: &[(&Topic, &PartitionKey)], parked: &BTreeSet<i64>) {
        for (n, (topic, key)) in (1..).zip(keys) {
            let name = (group.clone(), Topic::clone(topic), PartitionKey::clone(key));
            self.0.insert(name, parked.contains(&n));
        }
    }

    /// Returns the parked ones among `keys`, none when one of them was not looked at.
    pub(super) fn among(
        &self,
        group: &Group,
        topic: &Topic,
        keys: &BTreeSet<PartitionKey>,
    ) -> Option<BTreeSet<PartitionKey>> {
        let mut parked = BTreeSet::new();
        for key in keys {
            if *self.0.get(&(group.clone(), topic.clone(), key.clone()))? {
                parked.insert(key.clone());
            }
        }
        Some(parked)
    }

    /// Forgets everything: this unit parks, or takes out.
    pub(super) fn forget(&mut self) {
        self.0.clear();
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
    /// Begins a unit that admits messages; where all are known by their ids in one round trip, in
    /// which it also looks which keys are parked: whoever admits asks for that next.
    pub(crate) async fn begin_admitting(
        database: &PgDatabase,
        group: &Group,
        messages: &[Incoming],
    ) -> Result<(Self, Vec<Admit>), TxError> {
        let inbox = *database.config().inbox.of(group);
        let is_by_other = |message: &Incoming| {
            matches!(inbox.basis(message), Basis::Window(_) | Basis::Late(..) | Basis::Offset(_))
        };
        if messages.is_empty() || messages.iter().any(is_by_other) {
            let mut unit = Self::begin(database).await?;
            let mut answers = Vec::with_capacity(messages.len());
            for message in messages {
                answers.push(unit.admit(group, message).await?);
            }
            return Ok((unit, answers));
        }
        let keys = messages.iter().map(|m| (&m.topic, &m.envelope.partition_key));
        let keys: Vec<_> = keys.collect::<BTreeSet<_>>().into_iter().collect();
        let mut script = Script::default();
        inbox::admit(group, messages, &mut script);
        parking::look_among(group, &keys, &mut script);
        let (mut unit, answers) = Self::begin_with(database, script).await?;
        unit.touched = true;
        let mut admitted = BTreeSet::new();
        for row in answers.first().map(|answer| answer.rows.as_slice()).unwrap_or_default() {
            let row = row.try_get(0).and_then(|id| Ok((id, row.try_get(1)?)));
            let (id, xid): (uuid::Uuid, i64) = unit.decoded(row)?;
            admitted.insert(EventId::from(id));
            unit.xid = Some(xid);
        }
        if !admitted.is_empty() {
            unit.writes.admissions.rows.insert(group.clone(), true);
        }
        let parked = unit.decoded(parking::found_among(answers.get(1)))?;
        unit.looked.note(group, &keys, &parked);
        let answer = |message: &Incoming| {
            if admitted.remove(&message.envelope.id) { Admit::Fresh } else { Admit::Duplicate }
        };
        Ok((unit, messages.iter().map(answer).collect()))
    }

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
