//! What one transaction of the writer writes: decided before it begins, applied once it ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_core::Monotonic;
use amarra_messaging::message::{Epoch, Shard};
use amarra_messaging::murmur2::choose;
use amarra_messaging::transport::Publish;
use amarra_messaging::{ConsumerError, Group, Offset, PublishError, Record, Topic};

use super::request::{Answer, Reply, Request, SessionKey};
use super::state::{PartitionId, State};

/// The newest session of each outbox shard.
#[derive(Debug, Default)]
pub(super) struct Fences {
    newest: BTreeMap<(Arc<str>, Shard), Fence>,
    next_number: u64,
}

/// Who may publish for one outbox shard.
#[derive(Debug, Clone, Copy)]
struct Fence {
    epoch: Epoch,
    number: u64,
    /// Whether the file knows the epoch.
    saved: bool,
}

impl Fences {
    /// Notes an epoch that the file knows; no session of it is open.
    pub(super) fn restore(&mut self, source: &str, shard: Shard, epoch: Epoch) {
        self.newest.insert((source.into(), shard), Fence { epoch, number: 0, saved: true });
    }

    /// Opens a session: every earlier one of its shard is fenced. None when a newer epoch is known;
    /// otherwise its number, and whether the file has to learn of the epoch.
    fn open(&mut self, session: &SessionKey) -> Option<(u64, bool)> {
        let key = (Arc::clone(&session.source), session.shard);
        let before = self.newest.get(&key);
        if before.is_some_and(|fence| fence.epoch > session.epoch) {
            return None;
        }
        let saved = before.is_some_and(|fence| fence.epoch == session.epoch && fence.saved);
        self.next_number = self.next_number.saturating_add(1);
        let number = self.next_number;
        self.newest.insert(key, Fence { epoch: session.epoch, number, saved });
        Some((number, !saved))
    }

    fn is_newest(&self, session: &SessionKey, number: u64) -> bool {
        let key = (Arc::clone(&session.source), session.shard);
        self.newest.get(&key).is_some_and(|fence| fence.number == number)
    }

    fn saved(&mut self, session: &SessionKey) {
        let key = (Arc::clone(&session.source), session.shard);
        let fence = self.newest.get_mut(&key).filter(|fence| fence.epoch == session.epoch);
        if let Some(fence) = fence {
            fence.saved = true;
        }
    }
}

/// What bounds a record, and whether any may be published at all.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) record_bytes_max: usize,
    /// Why nothing can be published now.
    pub(super) full: Option<String>,
    pub(super) now: Monotonic,
}

/// One transaction.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// New records, and the offset of the first of each partition's.
    pub(super) records: BTreeMap<PartitionId, (u64, Vec<Record>)>,
    pub(super) fences: Vec<SessionKey>,
    pub(super) offsets: BTreeMap<(Group, PartitionId), Offset>,
    pub(super) subscriptions: Vec<(Group, Arc<[Topic]>)>,
    answers: Vec<Answer>,
}

impl Plan {
    /// Tells whether anything is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.is_of_groups() && self.offsets.is_empty() && self.subscriptions.is_empty()
    }

    /// Tells whether it writes nothing but what a group has read.
    pub(super) fn is_of_groups(&self) -> bool {
        self.records.is_empty() && self.fences.is_empty()
    }

    /// Adds a request, or answers it when there is nothing to write for it.
    pub(super) fn add(
        &mut self,
        request: Request,
        state: &mut State,
        fences: &mut Fences,
        limits: &Limits,
    ) {
        match request {
            Request::Open { session, reply } => match fences.open(&session) {
                Some((number, unsaved)) => {
                    self.fences.extend(unsaved.then_some(session));
                    self.answers.push(Answer::Opened(reply, number));
                }
                None => drop(reply.send(Err(session.fenced()))),
            },
            Request::Publish { session, number, records, reply } => {
                let stop = if !fences.is_newest(&session, number) {
                    Some(session.fenced())
                } else {
                    let full = limits.full.clone().filter(|_| !records.is_empty());
                    full.map(|why| PublishError::Unavailable { acked: 0, why })
                };
                match stop {
                    Some(stop) => drop(reply.send(Err(stop))),
                    None => self.publish(records, reply, state, limits),
                }
            }
            Request::Commit { group, member, offsets, reply } => {
                state.expire(&group, limits.now);
                let known = state.groups.get_mut(&group);
                if !known.is_some_and(|known| known.commit(member, &offsets)) {
                    return drop(reply.send(Err(ConsumerError::Fenced)));
                }
                for (partition, offset) in offsets {
                    if let Some(id) = state.id(&partition) {
                        self.offsets.insert((group.clone(), id), offset);
                    }
                }
                self.answers.push(Answer::Committed(reply));
            }
            Request::Subscribe { group, topics, reply } => {
                self.subscriptions.push((group, topics));
                self.answers.push(Answer::Committed(reply));
            }
            Request::Declare { .. } | Request::Forget { .. } | Request::Close => {}
        }
    }

    fn publish(
        &mut self,
        records: Vec<Publish>,
        reply: Reply<Result<(), PublishError>>,
        state: &State,
        limits: &Limits,
    ) {
        let mut outcome = Ok(());
        for (acked, Publish { topic, record }) in records.into_iter().enumerate() {
            match place(state, &topic, &record, limits.record_bytes_max) {
                Ok((id, end)) => {
                    let (_, new) = self.records.entry(id).or_insert_with(|| (end, Vec::new()));
                    new.push(record);
                }
                Err(why) => {
                    outcome = Err(PublishError::Refused { acked, why });
                    break;
                }
            }
        }
        self.answers.push(Answer::Published(reply, outcome));
    }

    /// Makes what was written known, and answers.
    pub(super) fn done(self, state: &mut State, fences: &mut Fences) {
        self.fences.iter().for_each(|session| fences.saved(session));
        for (id, (_, records)) in self.records {
            state.append(id, records);
        }
        self.answers.into_iter().for_each(Answer::done);
    }

    /// Answers that nothing is known.
    pub(super) fn failed(self, why: &str) {
        self.answers.into_iter().for_each(|answer| answer.failed(why));
    }
}

/// Finds where a record goes: its partition and that one's end, or why it is refused.
fn place(
    state: &State,
    topic: &Topic,
    record: &Record,
    bytes_max: usize,
) -> Result<(PartitionId, u64), String> {
    if record.bytes() > bytes_max {
        return Err(format!("it is larger than record_bytes_max, {bytes_max}"));
    }
    if record.key.is_empty() {
        return Err("its key is empty: it would go to any partition".to_owned());
    }
    let partitions = state.topics.get(topic).map(Vec::as_slice).unwrap_or_default();
    let count = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
    let id = { choose(&record.key, count) }
        .and_then(|number| partitions.get(usize::try_from(number).ok()?))
        .ok_or_else(|| format!("there is no topic {topic}: add it to the topics of the bus"))?;
    Ok((*id, state.logs.get(id).map_or(0, |log| log.end)))
}
