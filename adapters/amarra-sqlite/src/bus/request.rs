//! What the writer is asked for, each with the way its answer goes.

use std::sync::Arc;

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::{Epoch, Shard};
use amarra_messaging::transport::Publish;
use amarra_messaging::{ConsumerError, Group, Offset, PublishError, Topic};
use tokio::sync::oneshot;

use super::config::TopicConfig;
use super::group::MemberId;
use crate::error::OpenError;

/// Where an answer goes; nobody may be there any more.
pub(super) type Reply<T> = oneshot::Sender<T>;

/// One session: the newest of its outbox shard, or fenced.
#[derive(Debug, Clone)]
pub(super) struct SessionKey {
    pub(super) source: Arc<str>,
    pub(super) shard: Shard,
    pub(super) epoch: Epoch,
}

impl SessionKey {
    pub(super) fn fenced(&self) -> PublishError {
        PublishError::Fenced { shard: self.shard, epoch: self.epoch }
    }
}

#[derive(Debug)]
pub(super) enum Request {
    /// Opens a session; the answer is its number.
    Open { session: SessionKey, reply: Reply<Result<u64, PublishError>> },
    /// Publishes records of the session of that number.
    Publish {
        session: SessionKey,
        number: u64,
        records: Vec<Publish>,
        reply: Reply<Result<(), PublishError>>,
    },
    /// Commits offsets of a member.
    Commit {
        group: Group,
        member: Option<MemberId>,
        offsets: Vec<(TopicPartition, Offset)>,
        reply: Reply<Result<(), ConsumerError>>,
    },
    /// Keeps in mind that a group reads topics.
    Subscribe { group: Group, topics: Arc<[Topic]>, reply: Reply<Result<(), ConsumerError>> },
    /// Makes a topic.
    Declare { topic: TopicConfig, reply: Reply<Result<(), OpenError>> },
    /// Forgets a group.
    Forget { group: Group, reply: Reply<Result<(), OpenError>> },
    /// Ends the writer.
    Close,
}

impl Request {
    /// Tells whether it has a transaction of its own.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::Declare { .. } | Self::Forget { .. } | Self::Close)
    }

    /// Counts the bytes it writes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Publish { records, .. } => {
                records.iter().fold(0, |sum, p| sum.saturating_add(p.record.bytes()))
            }
            _ => 0,
        }
    }
}

/// An answer that is given once the transaction has ended.
#[derive(Debug)]
pub(super) enum Answer {
    Opened(Reply<Result<u64, PublishError>>, u64),
    Published(Reply<Result<(), PublishError>>, Result<(), PublishError>),
    Committed(Reply<Result<(), ConsumerError>>),
}

impl Answer {
    /// Answers that all of it is written.
    pub(super) fn done(self) {
        match self {
            Self::Opened(reply, number) => drop(reply.send(Ok(number))),
            Self::Published(reply, outcome) => drop(reply.send(outcome)),
            Self::Committed(reply) => drop(reply.send(Ok(()))),
        }
    }

    /// Answers that it may or may not be written.
    pub(super) fn failed(self, why: &str) {
        let why = why.to_owned();
        match self {
            Self::Opened(reply, _) => {
                drop(reply.send(Err(PublishError::Unavailable { acked: 0, why })));
            }
            Self::Published(reply, _) => {
                drop(reply.send(Err(PublishError::Unavailable { acked: 0, why })));
            }
            Self::Committed(reply) => drop(reply.send(Err(ConsumerError::Unavailable { why }))),
        }
    }
}
