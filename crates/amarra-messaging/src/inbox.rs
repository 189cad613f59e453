//! The inbox port: admits each message once per group, inside the effect's own transaction.

mod mode;
pub mod offset;
pub mod window;

use async_trait::async_trait;

pub use self::mode::{Basis, Gaps, GroupInbox, InboxConfig, Mode};
use crate::error::TxError;
use crate::message::{Group, Incoming};

/// Whether a message may be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admit {
    /// The first time for this group: apply it.
    Fresh,
    /// A committed transaction of this group applied it: skip it.
    Duplicate,
    /// The first time for this group, and numbers from `expected` up to its own were passed over:
    /// apply it, and report that messages are missing. Answered only where a group's configuration
    /// says that its numbers are dense, see [`Gaps::Reported`].
    Gap {
        /// The first number that was passed over: a position in [`Mode::Window`], an offset in
        /// [`Mode::Offset`].
        expected: u64,
    },
}

impl Admit {
    /// Tells whether the message is to be applied.
    #[must_use]
    pub const fn applies(self) -> bool {
        matches!(self, Self::Fresh | Self::Gap { .. })
    }
}

/// Remembers, in the caller's transaction, which messages a group has applied.
///
/// How it remembers is the group's [`Mode`], chosen in the adapter's [`InboxConfig`]; no caller
/// can tell the modes apart but by what they demand of the messages.
///
/// # Laws
/// - INB-1 of all transactions that admit one message for one group, exactly one that commits was
///   answered `Fresh` or `Gap`. [`Mode`] says what makes two deliveries one message.
/// - INB-2 an admission that is rolled back leaves no trace.
/// - INB-3 groups do not see each other's admissions.
/// - INB-4 a transaction that meets an admission in progress waits for its end, or fails with a
///   [`TxError`] of class `Transient` or `Conflict`.
/// - INB-5 in [`Mode::Window`] a position below the window is a duplicate, unless the message is
///   out of turn ([`Turn`](crate::message::Turn)) or has no position: those are decided by id.
/// - INB-6 in [`Mode::Offset`] everything below the highest offset admitted is a duplicate, and
///   everything above it is not, but for INB-8; a replayed message is decided by its id.
/// - INB-7 a number that was passed over is answered with `Gap` where gaps are reported, with
///   `Fresh` elsewhere, and never with `Duplicate`.
/// - INB-8 what a group admitted by id is a duplicate in each of its modes.
#[async_trait]
pub trait Inbox: Send {
    /// Admits a message for a group.
    ///
    /// # Errors
    /// Any [`TxError`]; the transaction must then be rolled back.
    async fn admit(&mut self, group: &Group, message: &Incoming) -> Result<Admit, TxError>;
}
