//! The inbox port of a unit: rows, windows of positions, and offsets.

use std::sync::Arc;

use amarra_core::EventId;
use amarra_messaging::inbox::Basis;
use amarra_messaging::inbox::offset::Mark;
use amarra_messaging::inbox::window::Window;
use amarra_messaging::message::{Incoming, Pos, Position, Shard};
use amarra_messaging::{Admit, Group, Inbox, Offset, Partition, Topic, TxError};
use async_trait::async_trait;

use super::locks::LockKey;
use super::state::State;
use super::unit::MemoryUnit;
use super::writes::WriteSet;
use crate::faults::Operation;
use crate::observer::Admitted;

/// Names a window.
pub(super) type WindowKey = (Group, Topic, Partition, Arc<str>, Shard);
/// Names an offset.
pub(super) type MarkKey = (Group, Topic, Partition);

#[async_trait]
impl Inbox for MemoryUnit {
    async fn admit(&mut self, group: &Group, message: &Incoming) -> Result<Admit, TxError> {
        let verdict = self.arrive(Operation::Admit { group, message }).await?;
        let admit = match self.shared.config.inbox.of(group).basis(message) {
            Basis::Window(position) => self.admit_position(group, message, position).await?,
            Basis::Late(_, position) => self.admit_late(group, message, position).await?,
            Basis::Offset(offset) => self.admit_offset(group, message, offset).await?,
            // By its id, which is right for every message.
            _ => self.admit_id(group, message).await?,
        };
        self.answer(verdict, admit).await
    }
}

impl MemoryUnit {
    async fn admit_id(&mut self, group: &Group, message: &Incoming) -> Result<Admit, TxError> {
        let name = (group.clone(), message.envelope.id);
        let known =
            |state: &mut State, writes: &mut WriteSet| Ok(has_row(state, writes, group, name.1));
        if !self.attempt(known)? {
            self.lock(LockKey::Admission(name.0.clone(), name.1)).await?;
        }
        // Looked at again: the admission that this one waited for may have committed.
        self.attempt(|state, writes| {
            if known(state, writes)? {
                return Ok(Admit::Duplicate);
            }
            writes.admit_row(admitted(group, message));
            Ok(Admit::Fresh)
        })
    }

    async fn admit_position(
        &mut self,
        group: &Group,
        message: &Incoming,
        position: &Position,
    ) -> Result<Admit, TxError> {
        let gaps = self.shared.config.inbox.of(group).gaps;
        self.in_window(group, message, position, |window, has_row, pos| {
            let admit = window.admit(pos, gaps);
            if has_row { Admit::Duplicate } else { admit }
        })
        .await
    }

    /// Admits a message that comes out of turn: its id gets a row, since windows forget.
    async fn admit_late(
        &mut self,
        group: &Group,
        message: &Incoming,
        position: &Position,
    ) -> Result<Admit, TxError> {
        let answer = |window: &mut Window, has_row: bool, pos: Pos| {
            if has_row || window.saw(pos) == Some(true) {
                return Admit::Duplicate;
            }
            window.mark(pos);
            Admit::Fresh
        };
        let admit = self.in_window(group, message, position, answer).await?;
        if admit.applies() {
            self.attempt(|_, writes| {
                writes.add_row(group, message.envelope.id);
                Ok(())
            })?;
        }
        Ok(admit)
    }

    /// Locks a window, then lets it decide.
    async fn in_window(
        &mut self,
        group: &Group,
        message: &Incoming,
        position: &Position,
        decide: impl FnOnce(&mut Window, bool, Pos) -> Admit,
    ) -> Result<Admit, TxError> {
        let (source, shard) = (Arc::clone(&position.source), position.shard);
        let key = (group.clone(), message.topic.clone(), message.partition, source, shard);
        let bits = self.shared.config.inbox.of(group).window_bits;
        self.lock(LockKey::Window(key.clone())).await?;
        self.attempt(|state, writes| {
            let stored = || state.tables.windows.get(&key).cloned();
            let window = writes.windows.remove(&key).or_else(stored);
            let mut window = window.unwrap_or_else(|| Window::new(bits));
            let has_row = has_row(state, writes, group, message.envelope.id);
            let admit = decide(&mut window, has_row, position.pos);
            writes.windows.insert(key, window);
            if admit.applies() {
                writes.admitted.push(admitted(group, message));
            }
            Ok(admit)
        })
    }

    async fn admit_offset(
        &mut self,
        group: &Group,
        message: &Incoming,
        offset: Offset,
    ) -> Result<Admit, TxError> {
        let key = (group.clone(), message.topic.clone(), message.partition);
        let gaps = self.shared.config.inbox.of(group).gaps;
        self.lock(LockKey::Mark(key.clone())).await?;
        self.attempt(|state, writes| {
            let stored = || state.tables.marks.get(&key).copied();
            let mut mark: Mark =
                writes.marks.get(&key).copied().or_else(stored).unwrap_or_default();
            let admit = mark.admit(offset, gaps);
            writes.marks.insert(key, mark);
            if has_row(state, writes, group, message.envelope.id) || !admit.applies() {
                return Ok(Admit::Duplicate);
            }
            writes.admitted.push(admitted(group, message));
            Ok(admit)
        })
    }
}

fn has_row(state: &State, writes: &WriteSet, group: &Group, id: EventId) -> bool {
    writes.has_row(group, id) || state.tables.inbox.contains_key(&(group.clone(), id))
}

fn admitted(group: &Group, message: &Incoming) -> Admitted {
    Admitted {
        group: group.clone(),
        event: message.envelope.id,
        topic: message.topic.clone(),
        partition: message.partition,
        offset: message.offset,
        position: message.position.clone(),
    }
}
