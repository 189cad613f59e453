//! How a group remembers what it applied: the three modes, and what each decides a message by.

use std::collections::BTreeMap;

use amarra_core::EventId;
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::message::{Group, Incoming, Offset, Position, Turn};

/// What an inbox tells two messages apart by, and so what it stores.
///
/// | mode | one message is | stored | right for |
/// |---|---|---|---|
/// | `Rows` | one id | a row a message | any producer, any broker |
/// | `Window` | a position in a partition | a bitmap a source shard | our outboxes, at least once |
/// | `Offset` | one offset of one partition | a number per partition | our outboxes, exactly once |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mode {
    /// By id. Nothing is demanded of the messages; rows are kept as long as the topic keeps its
    /// records, since an older delivery can come back that long.
    #[default]
    Rows,
    /// By the position that the relay gave it. Demands that a re-publish goes to the partition of
    /// the first publish (so the partitions of a topic are never changed under a lagging relay) and
    /// comes at most `window_bits` positions after what it overtook; both hold for the relay and
    /// a fenced or idempotent transport. Messages without a position are kept as rows.
    Window,
    /// By the place in the partition. Demands that the topic holds no message twice: a
    /// transactional transport, and readers of committed records only.
    Offset,
}

/// Whether numbers that were passed over mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Gaps {
    /// They are normal: other messages of the shard go to other partitions and topics, and
    /// transaction markers and compaction leave holes in offsets.
    #[default]
    Normal,
    /// They are dense, so a gap is a lost message: every message of the source goes to this
    /// partition (positions), or the broker neither compacts nor marks (offsets).
    Reported,
}

/// How one group's inbox works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupInbox {
    /// What it decides by.
    pub mode: Mode,
    /// Positions one window remembers, a multiple of 64 from 64 to 65,536 (8 KiB): at least what
    /// a relay has in flight, since what comes later than that is taken for a duplicate. 8,192
    /// (1 KiB) is twice the default chunk of a relay. Only [`Mode::Window`] reads it.
    pub window_bits: u32,
    /// What a gap in the numbers means.
    pub gaps: Gaps,
}

impl Default for GroupInbox {
    fn default() -> Self {
        Self { mode: Mode::default(), window_bits: 8192, gaps: Gaps::default() }
    }
}

/// The inboxes of one database, by group.
///
/// A group may be changed from `Rows` to another mode while no member runs that has the old one:
/// the rows go on to count (law INB-8). It may be changed back, or between the others, only once
/// its lag is zero: rows do not know what a window or an offset has seen.
///
/// # Example
/// ```
/// use amarra_messaging::inbox::{GroupInbox, InboxConfig, Mode};
///
/// let window = GroupInbox { mode: Mode::Window, ..GroupInbox::default() };
/// let config = InboxConfig {
///     groups: [("inventory".into(), window)].into(),
///     ..InboxConfig::default()
/// };
/// assert!(config.validate().is_ok());
/// assert_eq!(config.of(&"inventory".into()).mode, Mode::Window);
/// assert_eq!(config.of(&"payments".into()).mode, Mode::Rows);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InboxConfig {
    /// The inbox of a group that is not named: `Rows`, which is always right.
    pub default: GroupInbox,
    /// The inboxes of groups by name.
    pub groups: BTreeMap<Group, GroupInbox>,
}

impl InboxConfig {
    /// Returns the inbox of a group.
    #[must_use]
    pub fn of(&self, group: &Group) -> &GroupInbox {
        self.groups.get(group).unwrap_or(&self.default)
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ConfigError`] names the field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let sound = |inbox: &GroupInbox| {
            inbox.window_bits.is_multiple_of(64) && (64..=65_536).contains(&inbox.window_bits)
        };
        ConfigError::unless(
            self.groups.values().chain([&self.default]).all(sound),
            "window_bits",
            "a multiple of 64 from 64 to 65536",
        )
    }
}

/// What one message is decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Basis<'m> {
    /// Whether its id was admitted for the group before.
    Row(EventId),
    /// Its bit in the [`Window`](super::window::Window) of the group, topic, partition, source and
    /// shard.
    Window(&'m Position),
    /// It comes out of turn in a group that has windows. A duplicate when the window remembers its
    /// position as seen, or its id was admitted before; otherwise its id is admitted, and its
    /// position marked where the window reaches it.
    Late(EventId, &'m Position),
    /// Its offset against the [`Mark`](super::offset::Mark) of the group, topic and partition.
    Offset(Offset),
}

impl GroupInbox {
    /// Tells what a message is decided by.
    #[must_use]
    pub fn basis<'m>(&self, message: &'m Incoming) -> Basis<'m> {
        let id = message.envelope.id;
        match (self.mode, &message.position, message.turn) {
            (Mode::Window, Some(position), Turn::InOrder) => Basis::Window(position),
            (Mode::Window, Some(position), _) => Basis::Late(id, position),
            (Mode::Offset, _, Turn::InOrder | Turn::Released) => Basis::Offset(message.offset),
            _ => Basis::Row(id),
        }
    }
}
