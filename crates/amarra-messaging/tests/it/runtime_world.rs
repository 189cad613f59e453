//! A naive broker, database and group around consumer engines, with every way a call can fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Class, Monotonic};
use amarra_messaging::config::Backoff;
use amarra_messaging::consumer::{ConsumerError, TopicPartition};
use amarra_messaging::message::{Delivery, Offset, Partition, Record};
use amarra_messaging::runtime::{Action, Engine, Event, ProcessError, RuntimeConfig, Token};
use amarra_messaging::{Headers, Polled, Topic};
use bytes::Bytes;

use crate::tape::Tape;

/// Small bounds, so that short runs reach every one of them.
pub(crate) fn config() -> RuntimeConfig {
    RuntimeConfig {
        batch_rows_max: 3,
        partition_rows_max: 5,
        total_rows_max: 8,
        poll_rows_max: 4,
        backoff: Backoff { min: Duration::from_millis(10), max: Duration::from_millis(80) },
        poison_attempts_max: 2,
        ..RuntimeConfig::default()
    }
}

pub(crate) fn place(partition: u32) -> TopicPartition {
    TopicPartition { topic: Topic::from("orders"), partition: Partition(partition) }
}

pub(crate) fn delivery(partition: u32, offset: u64, key: &str) -> Delivery {
    let record = Record {
        key: Bytes::copy_from_slice(key.as_bytes()),
        headers: Headers::new(),
        value: Bytes::new(),
    };
    Delivery {
        topic: Topic::from("orders"),
        partition: Partition(partition),
        offset: Offset(offset),
        record,
    }
}

pub(crate) fn error(class: Class, culprit: Option<usize>) -> ProcessError {
    ProcessError { class, culprit, why: class.to_string() }
}

#[derive(Debug, Clone)]
pub(crate) struct Rec {
    pub(crate) key: &'static str,
    pub(crate) poison: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Applied,
    Parked,
}

#[derive(Debug)]
struct Call {
    partition: u32,
    token: Token,
    rows: Vec<u64>,
    park: bool,
}

/// A process: its engine, and the consumer beside it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) engine: Engine,
    /// The partitions the group gave it, with the place it reads at.
    owned: BTreeMap<u32, u64>,
    pending: VecDeque<Polled>,
    paused: BTreeSet<u32>,
    /// What the engine was told it has.
    believed: BTreeSet<u32>,
    calls: Vec<Call>,
    commit: Option<Vec<(TopicPartition, Offset)>>,
    /// How often a row failed alone, with a class that makes it poison.
    failed_alone: BTreeMap<(Token, u64), u32>,
}

impl Member {
    fn new() -> Self {
        Self {
            engine: Engine::new(config()),
            owned: BTreeMap::new(),
            pending: VecDeque::new(),
            paused: BTreeSet::new(),
            believed: BTreeSet::new(),
            calls: Vec::new(),
            commit: None,
            failed_alone: BTreeMap::new(),
        }
    }
}

/// One topic, one group, one database.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Monotonic,
    pub(crate) logs: Vec<Vec<Rec>>,
    pub(crate) committed: Vec<u64>,
    pub(crate) effects: BTreeMap<(u32, u64), Effect>,
    parked_keys: BTreeSet<(u32, &'static str)>,
    pub(crate) members: Vec<Member>,
}

impl World {
    pub(crate) fn new(partitions: usize, members: usize) -> Self {
        Self {
            now: Monotonic::from_nanos(1),
            logs: vec![Vec::new(); partitions],
            committed: vec![0; partitions],
            effects: BTreeMap::new(),
            parked_keys: BTreeSet::new(),
            members: (0..members).map(|_| Member::new()).collect(),
        }
    }

    /// Gives a partition to a member; the old one learns of it when it polls.
    pub(crate) fn assign(&mut self, partition: u32, to: usize) {
        for member in &mut self.members {
            if member.owned.remove(&partition).is_some() {
                member.pending.push_back(Polled::Revoked(vec![place(partition)]));
            }
        }
        let at = self.committed[usize::try_from(partition).unwrap()];
        self.members[to].owned.insert(partition, at);
        self.members[to].pending.push_back(Polled::Assigned(vec![place(partition)]));
    }

    /// Kills a member; its calls had their effect or not. It comes back with an empty memory.
    pub(crate) fn crash(&mut self, index: usize, tape: &mut Tape) {
        let dead = std::mem::replace(&mut self.members[index], Member::new());
        for call in dead.calls {
            if tape.pick(2) == 1 {
                let _ = self.effect(&call);
            }
        }
        for partition in dead.owned.into_keys() {
            self.assign(partition, index);
        }
    }

    pub(crate) fn tell(&mut self, index: usize, event: Event) {
        let actions = self.members[index].engine.step(self.now, event);
        for action in actions {
            self.act(index, action);
        }
        assert!(self.members[index].engine.rows() <= config().total_rows_max, "RTM-5");
    }

    fn act(&mut self, index: usize, action: Action) {
        match action {
            Action::Apply { partition, token, batch } => self.call(index, partition, token, &batch),
            Action::Park { partition, token, delivery, .. } => {
                let failed = self.members[index].failed_alone.get(&(token, delivery.offset.0));
                let enough = failed.is_some_and(|&n| n >= config().poison_attempts_max);
                assert!(enough, "RTM-4: {delivery:?} parked after {failed:?} failures alone");
                self.call(index, partition, token, &[delivery].into());
                self.members[index].calls.last_mut().unwrap().park = true;
            }
            Action::Commit(offsets) => {
                let member = &mut self.members[index];
                assert!(member.commit.is_none(), "two commits out");
                for (partition, offset) in &offsets {
                    let p = partition.partition.0;
                    assert!(member.believed.contains(&p), "RTM-3: {p} is not assigned");
                    for below in 0..offset.0 {
                        let effect = self.effects.get(&(p, below));
                        assert!(effect.is_some(), "RTM-2: {offset} committed before {below}");
                    }
                }
                member.commit = Some(offsets);
            }
            Action::Pause(partition) => {
                self.members[index].paused.insert(partition.partition.0);
            }
            Action::Resume(partition) => {
                self.members[index].paused.remove(&partition.partition.0);
            }
            Action::Seek(partition, offset) => {
                if let Some(at) = self.members[index].owned.get_mut(&partition.partition.0) {
                    *at = offset.0;
                }
            }
        }
    }

    fn call(
        &mut self,
        index: usize,
        partition: TopicPartition,
        token: Token,
        batch: &Arc<[Delivery]>,
    ) {
        let partition = partition.partition.0;
        let rows: Vec<_> = batch.iter().map(|d| d.offset.0).collect();
        assert!(rows.len() <= config().batch_rows_max && !rows.is_empty());
        assert!(rows.windows(2).all(|w| w[1] == w[0] + 1), "RTM-1: {rows:?}");
        for below in 0..rows[0] {
            let effect = self.effects.get(&(partition, below));
            assert!(effect.is_some(), "RTM-1: {rows:?} of {partition} before {below}");
        }
        let member = &mut self.members[index];
        assert!(member.calls.iter().all(|c| c.token != token), "RTM-1: two calls in one lane");
        member.calls.push(Call { partition, token, rows, park: false });
    }

    /// Applies or parks in the database, each row once, a batch entirely or not at all.
    fn effect(&mut self, call: &Call) -> Result<(), ProcessError> {
        let log = self.logs[usize::try_from(call.partition).unwrap()].clone();
        let at = |offset: &u64| &log[usize::try_from(*offset).unwrap()];
        let fresh: Vec<_> = call
            .rows
            .iter()
            .copied()
            .filter(|&offset| !self.effects.contains_key(&(call.partition, offset)))
            .collect();
        let is_parked = |key| self.parked_keys.contains(&(call.partition, key));
        let culprit = fresh.iter().find(|o| at(o).poison && !is_parked(at(o).key));
        if let Some(culprit) = culprit.filter(|_| !call.park) {
            let index = call.rows.iter().position(|o| o == culprit);
            return Err(error(Class::Rejected, index));
        }
        for offset in fresh {
            let key = at(&offset).key;
            for below in (0..offset).filter(|below| at(below).key == key) {
                let effect = self.effects.get(&(call.partition, below));
                assert!(effect.is_some(), "order of {key}: {offset} before {below}");
            }
            let parked = call.park || self.parked_keys.contains(&(call.partition, key));
            if call.park {
                assert!(at(&offset).poison, "RTM-4: {offset} is sound and was parked");
                self.parked_keys.insert((call.partition, key));
            }
            let effect = if parked { Effect::Parked } else { Effect::Applied };
            self.effects.insert((call.partition, offset), effect);
        }
        Ok(())
    }

    /// Lets the member poll: a rebalance it has not heard of, or some records.
    pub(crate) fn poll(&mut self, index: usize, tape: &mut Tape) {
        let member = &mut self.members[index];
        let event = match member.pending.pop_front() {
            Some(Polled::Assigned(partitions)) => {
                member.believed.extend(partitions.iter().map(|p| p.partition.0));
                Event::Assigned(partitions)
            }
            Some(Polled::Revoked(partitions)) => {
                for partition in &partitions {
                    member.believed.remove(&partition.partition.0);
                }
                Event::Revoked(partitions)
            }
            _ => {
                let limit = config().poll_rows_max - tape.pick(config().poll_rows_max);
                let mut records = Vec::new();
                for (&partition, at) in &mut member.owned {
                    let log = &self.logs[usize::try_from(partition).unwrap()];
                    while !member.paused.contains(&partition)
                        && records.len() < limit
                        && let Some(rec) = log.get(usize::try_from(*at).unwrap())
                    {
                        records.push(delivery(partition, *at, rec.key));
                        *at += 1;
                    }
                }
                Event::Records(records)
            }
        };
        self.tell(index, event);
    }

    /// Ends one call of a member, badly where the tape says so.
    pub(crate) fn finish_call(&mut self, index: usize, tape: &mut Tape) {
        if self.members[index].calls.is_empty() {
            return;
        }
        let which = tape.pick(self.members[index].calls.len());
        let call = self.members[index].calls.remove(which);
        let blur = |e: ProcessError, tape: &mut Tape| {
            let culprit = e.culprit.filter(|_| tape.pick(2) == 0);
            ProcessError { culprit, ..e }
        };
        let result = match tape.pick(6) {
            0 | 1 => self.effect(&call).map_err(|e| blur(e, tape)),
            2 => Err(error(Class::Transient, None)),
            3 => Err(error(Class::Conflict, Some(0))),
            4 => self.effect(&call).and_then(|()| Err(error(Class::Unknown, None))),
            _ => Err(error(Class::Unknown, None)),
        };
        if let Err(ProcessError { class: Class::Rejected | Class::Fatal, .. }) = &result
            && let [alone] = call.rows[..]
        {
            *self.members[index].failed_alone.entry((call.token, alone)).or_default() += 1;
        }
        let (partition, token) = (place(call.partition), call.token);
        self.tell(index, Event::Done { partition, token, result, draw: 0 });
    }

    /// Ends the commit of a member, badly where the tape says so.
    pub(crate) fn finish_commit(&mut self, index: usize, tape: &mut Tape) {
        let Some(offsets) = self.members[index].commit.take() else { return };
        let owned = &self.members[index].owned;
        let is_owned = |p: &TopicPartition| owned.contains_key(&p.partition.0);
        let result = if offsets.iter().all(|(p, _)| is_owned(p)) {
            let fate = tape.pick(3);
            if fate != 1 {
                for (partition, offset) in &offsets {
                    let at = usize::try_from(partition.partition.0).unwrap();
                    self.committed[at] = offset.0;
                }
            }
            if fate == 0 { Ok(()) } else { Err(ConsumerError::Unavailable { why: String::new() }) }
        } else {
            Err(ConsumerError::Fenced)
        };
        self.tell(index, Event::Committed { result, draw: 0 });
    }

    pub(crate) fn pass(&mut self, d: Duration) {
        self.now = self.now.plus(d);
        for index in 0..self.members.len() {
            self.tell(index, Event::Tick);
        }
    }

    /// Lets everything go well until nothing happens any more.
    pub(crate) fn heal(&mut self) {
        let clean = &mut Tape::default();
        for _ in 0..400 {
            for index in 0..self.members.len() {
                self.poll(index, clean);
                self.finish_call(index, clean);
                self.finish_commit(index, clean);
            }
            self.pass(Duration::from_millis(50));
        }
    }
}
