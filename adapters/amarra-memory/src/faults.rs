//! The fault hook: asked at every operation of both servers what shall go wrong.

use std::fmt;
use std::time::Duration;

use amarra_core::{AggregateId, Version};
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::{Epoch, Shard};
use amarra_messaging::transport::Publish;
use amarra_messaging::{Group, Incoming, Offset, Outgoing, Topic};
use amarra_store::ViewName;
use bytes::Bytes;

use crate::client::ClientId;
use crate::observer::Admitted;

/// Decides what goes wrong, where.
///
/// It is asked synchronously and must not call back into the server it is asked by.
pub trait Faults: Send + Sync + fmt::Debug {
    /// Decides about one operation.
    fn at(&self, site: &Site<'_>) -> Verdict {
        let _ = site;
        Verdict::PROCEED
    }
}

/// One operation about to happen.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Site<'a> {
    /// The database's or broker's name.
    pub server: &'a str,
    /// Who calls.
    pub client: &'a ClientId,
    /// What it asks for.
    pub operation: Operation<'a>,
}

macro_rules! operations {
    ($(
        $(#[$meta:meta])*
        $name:ident $({ $($(#[$fmeta:meta])* $field:ident: $type:ty),+ $(,)? })? = $text:literal
    ),+ $(,)?) => {
        /// What a client asks a server for.
        #[derive(Debug, Clone, Copy)]
        #[non_exhaustive]
        pub enum Operation<'a> {
            $($(#[$meta])* $name $({ $($(#[$fmeta])* $field: $type),+ })?,)+
        }

        impl Operation<'_> {
            /// The name of every operation, as a fault plan writes it.
            pub const NAMES: &'static [&'static str] = &[$($text),+];

            /// Returns the operation's name, as a fault plan writes it.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name { .. } => $text,)+ }
            }
        }
    };
}

operations! {
    /// Begins a unit of work.
    Begin = "begin",
    /// Loads and locks aggregates.
    Load {
        /// Which.
        ids: &'a [AggregateId],
    } = "load",
    /// Saves an aggregate.
    Save {
        /// Which.
        id: &'a AggregateId,
    } = "save",
    /// Appends to the outbox.
    Enqueue {
        /// What.
        messages: &'a [Outgoing],
    } = "enqueue",
    /// Admits a message.
    Admit {
        /// For which group.
        group: &'a Group,
        /// Which message.
        message: &'a Incoming,
    } = "admit",
    /// Sets a message aside, or reads or removes one that was.
    Park {
        /// Of which group.
        group: &'a Group,
    } = "park",
    /// Begins an idempotency key or records its response.
    Idempotency {
        /// Which operation of the service.
        route: &'a str,
    } = "idempotency",
    /// Appends to the audit chain.
    Audit {
        /// About which aggregate.
        id: &'a AggregateId,
    } = "audit",
    /// Sets a timer.
    Schedule {
        /// Of which aggregate.
        id: &'a AggregateId,
    } = "schedule",
    /// Checks a timer claim.
    Verify {
        /// Of which aggregate.
        id: &'a AggregateId,
    } = "verify",
    /// Loads view rows in a unit.
    LoadView {
        /// Views and keys.
        names: &'a [ViewName],
    } = "load_view",
    /// Writes a view row.
    WriteView {
        /// Of which view.
        view: &'a str,
    } = "write_view",
    /// Commits.
    Commit {
        /// The messages it admits.
        admitted: &'a [Admitted],
        /// What it saves: the aggregate, its version after it, its state.
        saved: &'a [(AggregateId, Version, Bytes)],
    } = "commit",
    /// Writes a commit record to disk; only delays are heeded.
    Flush = "flush",
    /// Claims due timers.
    ClaimDue {
        /// Of which kind.
        kind: &'a str,
    } = "claim_due",
    /// Asks when the next timer is due.
    NextDue {
        /// Of which kind.
        kind: &'a str,
    } = "next_due",
    /// Reads the audit chain.
    AuditRows = "audit_rows",
    /// Reads a view outside of a unit.
    ReadView {
        /// Which view.
        view: &'a str,
    } = "read_view",
    /// Takes, renews or gives back outbox leases.
    LogLease = "log_lease",
    /// Reads a saved outbox cursor.
    LogResume {
        /// Of which shard.
        shard: Shard,
    } = "log_resume",
    /// Reads outbox rows.
    LogRead {
        /// Of which shard.
        shard: Shard,
    } = "log_read",
    /// Saves an outbox cursor.
    LogCheckpoint {
        /// Of which shard.
        shard: Shard,
    } = "log_checkpoint",
    /// Parks, lists, releases or settles outbox rows.
    LogPark = "log_park",
    /// Opens a publishing session.
    OpenSession {
        /// Of which shard.
        shard: Shard,
        /// At which epoch.
        epoch: Epoch,
    } = "open_session",
    /// Publishes records.
    Publish {
        /// Of which outbox.
        source: &'a str,
        /// Of which shard of it.
        shard: Shard,
        /// Which records.
        records: &'a [Publish],
    } = "publish",
    /// Copies appended records to the replicas; only delays are heeded.
    Replicate = "replicate",
    /// Polls for records.
    Poll {
        /// As a member of which group.
        group: &'a Group,
        /// Subscribed to which topics.
        topics: &'a [Topic],
    } = "poll",
    /// Commits offsets.
    CommitOffsets {
        /// Of which group.
        group: &'a Group,
        /// Which.
        offsets: &'a [(TopicPartition, Offset)],
    } = "commit_offsets",
}

/// What happens at one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How long the request takes to the server.
    pub delay_before: Duration,
    /// What the server and the connection make of it.
    pub effect: Effect,
    /// How long the answer takes back; a poll takes both delays before it looks.
    pub delay_after: Duration,
}

impl Verdict {
    /// Nothing goes wrong.
    pub const PROCEED: Self = Self::of(Effect::Proceed);

    /// Makes a verdict without delays.
    #[must_use]
    pub const fn of(effect: Effect) -> Self {
        Self { delay_before: Duration::ZERO, effect, delay_after: Duration::ZERO }
    }

    /// Makes a verdict of nothing but a slow request and answer.
    #[must_use]
    pub const fn delayed(delay_before: Duration, delay_after: Duration) -> Self {
        Self { delay_before, effect: Effect::Proceed, delay_after }
    }
}

/// What goes wrong at one operation. An effect that an operation does not name is no effect there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Nothing.
    Proceed,
    /// The connection is refused: surely not applied, and the caller knows.
    Fail,
    /// A unit's operation or commit is the victim of a serialization failure.
    Serialization,
    /// The connection breaks before the request arrives: not applied, and the caller of a commit,
    /// publish or offset commit cannot know.
    LoseRequest,
    /// The connection breaks after the request was served: applied, and the caller cannot know.
    LoseReply,
    /// Of a publish, only the first so many records are stored; the caller is told so.
    FailPartway(usize),
    /// A publish is stored twice, as a retry of a producer without sequence numbers would; a poll
    /// hands out the batch before once more.
    Duplicate,
    /// A poll or offset commit meets a rebalance of its group.
    Rebalance,
    /// An offset commit is lost: not applied, and the caller cannot know.
    LoseOffsetCommit,
}
