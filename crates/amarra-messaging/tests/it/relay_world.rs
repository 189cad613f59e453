//! A naive database and broker around relay engines, with every way a call can fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{
    Actor, AggregateId, Envelope, Monotonic, PartitionKey, SeededEntropy, Timestamp, TraceParent,
    Version,
};
use amarra_messaging::message::{Delivery, Epoch, Offset, Pos, Seq, Shard};
use amarra_messaging::outbox::{Chunk, Cursor, LogError, ParkedRow, Resumed, Row, Snapshot};
use amarra_messaging::relay::{Action, Engine, Event, RelayConfig, StopReason};
use amarra_messaging::transport::{Publish, PublishError};
use amarra_messaging::{Outgoing, Partition, Topic, wire};

use crate::tape::Tape;

pub(crate) const SHARD: Shard = Shard(3);
pub(crate) const KEYS: usize = 3;

/// The message with sequence value `seq`: its id is the value too.
pub(crate) fn message(seq: u64, key: &str) -> Outgoing {
    let id = uuid::Uuid::from_u128(u128::from(seq));
    Outgoing {
        topic: Topic::from("orders"),
        envelope: Envelope {
            id: id.into(),
            source: "/amarra/orders".into(),
            kind: "OrderCreated".into(),
            schema_version: 1,
            subject: AggregateId::new("order", key),
            subject_version: Version::new(seq),
            partition_key: PartitionKey::new(key),
            correlation: id.into(),
            causation: None,
            actor: Actor::Service("orders".into()),
            traceparent: TraceParent::root(&SeededEntropy::new(seq, "trace")),
            time: Timestamp::from_micros(7),
            data: bytes::Bytes::from_static(b"{}"),
        },
    }
}

/// The outbox row of [`message`].
pub(crate) fn row(seq: u64, key: &str) -> Row {
    let Outgoing { topic, envelope } = message(seq, key);
    let record = wire::encode(&envelope, None);
    Row { seq: Seq(seq), topic, record, at: envelope.time }
}

/// A relay at work, or a zombie that does not know yet.
#[derive(Debug)]
pub(crate) struct RelaySim {
    pub(crate) engine: Engine,
    pub(crate) epoch: u64,
    pub(crate) action: Option<Action>,
    pub(crate) stopped: Option<StopReason>,
    /// Where the next publish has to begin: at the records of the last one, from the index on.
    resume_at: Option<(Arc<[Publish]>, usize)>,
    checkpointed: bool,
}

/// One shard's outbox, one topic, and the relays that fight over the shard.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) config: RelayConfig,
    pub(crate) now: Monotonic,
    next_xid: u64,
    next_seq: u64,
    active: BTreeMap<u64, Vec<Row>>,
    locks: BTreeMap<String, u64>,
    pub(crate) committed: Vec<(u64, Row)>,
    pub(crate) saved: Cursor,
    pub(crate) saves: usize,
    pub(crate) epoch: u64,
    pub(crate) parked: Vec<(ParkedRow, bool)>,
    broker_epoch: u64,
    /// What the broker stores, in order: sequence value, key and position.
    pub(crate) stored: Vec<(u64, String, u64)>,
    pub(crate) poison: BTreeSet<u64>,
    pub(crate) relays: Vec<RelaySim>,
}

impl World {
    pub(crate) fn new(chunk_rows_max: usize) -> Self {
        Self {
            config: RelayConfig { chunk_rows_max, ..RelayConfig::default() },
            now: Monotonic::from_nanos(1_000_000),
            next_xid: 10,
            next_seq: 1,
            active: BTreeMap::new(),
            locks: BTreeMap::new(),
            committed: Vec::new(),
            saved: Cursor::default(),
            saves: 0,
            epoch: 0,
            parked: Vec::new(),
            broker_epoch: 0,
            stored: Vec::new(),
            poison: BTreeSet::new(),
            relays: Vec::new(),
        }
    }

    pub(crate) fn begin(&mut self) -> u64 {
        self.next_xid += 1;
        self.active.insert(self.next_xid, Vec::new());
        self.next_xid
    }

    /// Appends a message, if the transaction has or gets the lock of the key.
    pub(crate) fn append(&mut self, xid: u64, key: &str) -> Option<u64> {
        if *self.locks.entry(key.to_owned()).or_insert(xid) != xid {
            return None;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        let row = row(seq, key);
        self.active.get_mut(&xid)?.push(row);
        Some(seq)
    }

    pub(crate) fn end(&mut self, xid: u64, commit: bool) {
        let rows = self.active.remove(&xid).unwrap_or_default();
        self.locks.retain(|_, holder| *holder != xid);
        if commit {
            self.committed.extend(rows.into_iter().map(|row| (xid, row)));
        }
    }

    /// Commits a transaction with one message of each key given; returns their sequence values.
    pub(crate) fn commit(&mut self, keys: &[&str]) -> Vec<u64> {
        let xid = self.begin();
        let seqs = keys.iter().map(|key| self.append(xid, key).unwrap()).collect();
        self.end(xid, true);
        seqs
    }

    /// Commits one message of a key in a transaction of its own, unless another holds the key.
    pub(crate) fn commit_free(&mut self, key: &str) -> Option<u64> {
        let xid = self.begin();
        let seq = self.append(xid, key);
        self.end(xid, true);
        seq
    }

    pub(crate) fn active(&self) -> Vec<u64> {
        self.active.keys().copied().collect()
    }

    fn snapshot(&self) -> Snapshot {
        let xmax = self.next_xid + 1;
        let xip: Vec<_> = self.active.keys().copied().collect();
        Snapshot { xmin: xip.first().copied().unwrap_or(xmax), xmax, xip }
    }

    fn batch(&self, cursor: &Cursor, cur: &Snapshot) -> Vec<Row> {
        let mut rows: Vec<_> = self
            .committed
            .iter()
            .filter(|(xid, row)| {
                cur.sees(*xid) && !cursor.prev.sees(*xid) && row.seq > cursor.last_seq
            })
            .map(|(_, row)| row.clone())
            .collect();
        rows.sort_by_key(|row| row.seq);
        rows
    }

    /// Starts a relay under a new lease; whoever held the last one becomes a zombie.
    pub(crate) fn take_over(&mut self) -> usize {
        self.epoch += 1;
        let until = self.now.plus(Duration::from_secs(3600));
        let engine = Engine::new(self.config, "db-1".into(), SHARD, until, self.epoch);
        self.relays.push(RelaySim {
            engine,
            epoch: self.epoch,
            action: None,
            stopped: None,
            resume_at: None,
            checkpointed: false,
        });
        let index = self.relays.len() - 1;
        self.tell(index, Event::Tick);
        index
    }

    /// Gives an event to a relay and takes the action it answers.
    pub(crate) fn tell(&mut self, index: usize, event: Event) {
        let relay = &mut self.relays[index];
        let Some(action) = relay.engine.step(self.now, event) else { return };
        assert!(relay.action.is_none(), "two actions out at once");
        assert!(relay.stopped.is_none(), "RLY-5: {action:?} asked for after the stop");
        match action {
            Action::Stop(reason) => relay.stopped = Some(reason),
            action => {
                if let Action::Publish { records, from, deadline } = &action {
                    assert!(*deadline > self.now, "a publish that cannot succeed");
                    if let Some((same, at)) = relay.resume_at.take() {
                        assert!(Arc::ptr_eq(&same, records) && *from == at, "RLY-4");
                    }
                }
                relay.action = Some(action);
            }
        }
    }

    /// Performs the action of a relay, badly where the tape says so, and tells it the result.
    pub(crate) fn perform(&mut self, index: usize, tape: &mut Tape) {
        let Some(action) = self.relays[index].action.take() else { return };
        // 0: it works. 1: lost before it was done. 2: done, but the answer is lost.
        let fate = tape.pick(3);
        let epoch = self.relays[index].epoch;
        let lost = || LogError::Unavailable { why: "lost".to_owned() };
        let fenced = LogError::Fenced { shard: SHARD, epoch: Epoch(epoch) };
        let superseded = epoch < self.epoch;
        let event = match action {
            Action::Open => Event::Opened(self.open(epoch, fate)),
            Action::Publish { records, from, .. } => {
                let result = self.publish((index, epoch), (&records, from), fate, tape);
                Event::Published(result)
            }
            Action::Read { cursor, limit } => {
                // A read is not fenced: the worst a log may do.
                Event::Read(if fate == 1 { Err(lost()) } else { Ok(self.read(&cursor, limit)) })
            }
            other => {
                let result = match fate {
                    1 => Err(lost()),
                    _ if superseded => Err(fenced),
                    _ => Ok(()),
                };
                let answer = |done: Result<(), LogError>| match fate {
                    2 if done.is_ok() => Err(lost()),
                    _ => done,
                };
                self.log_call((index, other), result, answer)
            }
        };
        self.tell(index, event);
    }

    fn log_call(
        &mut self,
        (index, action): (usize, Action),
        result: Result<(), LogError>,
        answer: impl Fn(Result<(), LogError>) -> Result<(), LogError>,
    ) -> Event {
        let applied = result.is_ok();
        match action {
            Action::Resume => Event::Resumed(
                result.map(|()| Resumed { cursor: self.saved.clone(), parked: self.parked_keys() }),
            ),
            Action::Released(limit) => Event::Released(result.map(|()| {
                let released = self.parked.iter().filter(|(_, released)| *released);
                released.map(|(row, _)| row.clone()).take(limit).collect()
            })),
            Action::Checkpoint(cursor) => {
                if applied {
                    assert!(cursor.pos >= self.saved.pos, "the cursor went back");
                    self.saved = cursor;
                    self.saves += 1;
                    self.relays[index].checkpointed = true;
                }
                Event::Checkpointed(answer(result))
            }
            Action::Park(rows) => {
                if applied {
                    self.park(rows);
                }
                Event::Parked(answer(result))
            }
            Action::Settle(rows) => {
                if applied {
                    let ids: BTreeSet<_> = rows.iter().map(|row| row.seq).collect();
                    for seq in &ids {
                        assert!(self.is_stored(seq.0), "RLY-6: settled before it was stored");
                    }
                    self.parked.retain(|(row, _)| !ids.contains(&row.seq));
                }
                Event::Settled(answer(result))
            }
            other => panic!("{other:?} is no call of the log"),
        }
    }

    fn open(&mut self, epoch: u64, fate: usize) -> Result<(), PublishError> {
        if epoch < self.broker_epoch {
            return Err(PublishError::Fenced { shard: SHARD, epoch: Epoch(epoch) });
        }
        if fate != 1 {
            self.broker_epoch = epoch;
        }
        if fate == 0 { Ok(()) } else { Err(unavailable(0)) }
    }

    fn read(&self, cursor: &Cursor, limit: usize) -> Chunk {
        let cur = cursor.cur.clone().unwrap_or_else(|| self.snapshot());
        let mut rows = self.batch(cursor, &cur);
        let last = rows.len() <= limit;
        rows.truncate(limit);
        Chunk { cur, rows, last }
    }

    fn park(&mut self, rows: Vec<ParkedRow>) {
        for row in rows {
            match self.parked.iter_mut().find(|(parked, _)| parked.seq == row.seq) {
                Some((parked, released)) => {
                    assert_eq!(parked.pos, row.pos, "RLY-2: parked again at another position");
                    *released = false;
                }
                None => self.parked.push((row, false)),
            }
        }
        self.parked.sort_by_key(|(row, _)| row.seq);
    }

    fn publish(
        &mut self,
        (index, epoch): (usize, u64),
        (records, from): (&Arc<[Publish]>, usize),
        fate: usize,
        tape: &mut Tape,
    ) -> Result<(), PublishError> {
        if epoch < self.broker_epoch {
            return Err(PublishError::Fenced { shard: SHARD, epoch: Epoch(epoch) });
        }
        let out = &records[from..];
        let good = out.iter().take_while(|p| !self.poison.contains(&seq_of(p))).count();
        let (acked, stored) = match fate {
            0 => (good, good),
            _ => {
                let acked = tape.pick(good + 1);
                (acked, acked + tape.pick(good - acked + 1))
            }
        };
        for publish in &out[..stored] {
            self.store(publish);
        }
        if fate != 0 {
            self.relays[index].resume_at =
                (from + acked < records.len()).then(|| (Arc::clone(records), from + acked));
            return Err(unavailable(acked));
        }
        if good < out.len() {
            return Err(PublishError::Refused { acked, why: "poison".to_owned() });
        }
        Ok(())
    }

    fn store(&mut self, publish: &Publish) {
        let delivery = Delivery {
            topic: publish.topic.clone(),
            partition: Partition(0),
            offset: Offset(0),
            record: publish.record.clone(),
        };
        let incoming = wire::decode(&delivery).unwrap();
        let position = incoming.position.unwrap();
        assert_eq!((position.source.as_ref(), position.shard), ("db-1", SHARD));
        let (seq, pos) = (seq_of(publish), position.pos);
        let key = incoming.envelope.partition_key.as_str().to_owned();
        self.check_determined(seq, pos);
        for (earlier, _, at) in &self.stored {
            assert_eq!(*earlier == seq, *at == pos.0, "RLY-2: {seq} at {pos}, {earlier} at {at}");
        }
        let mut before = self.committed.iter().map(|(_, row)| row);
        let overtaken = before.find(|row| {
            row.seq.0 < seq
                && row.record.partition_key().as_str() == key
                && !self.is_stored(row.seq.0)
        });
        assert_eq!(overtaken, None, "order of key {key} broken by {seq}");
        self.stored.push((seq, key, pos.0));
    }

    /// Asserts that what is saved says where `seq` belongs.
    fn check_determined(&self, seq: u64, pos: Pos) {
        let of_parked = self.parked.iter().find(|(row, _)| row.seq.0 == seq);
        if let Some((row, true)) = of_parked {
            return assert_eq!(row.pos, pos, "RLY-2: released at another position");
        }
        let cur = self.saved.cur.as_ref().expect("RLY-1: published without a closing snapshot");
        let batch = self.batch(&self.saved, cur);
        let index = batch.iter().position(|row| row.seq.0 == seq);
        let index = u64::try_from(index.expect("RLY-1: the saved cursor excludes it")).unwrap();
        assert_eq!(pos.0, self.saved.pos.0 + index + 1, "RLY-1: another position than saved");
    }

    pub(crate) fn is_stored(&self, seq: u64) -> bool {
        self.stored.iter().any(|(stored, _, _)| *stored == seq)
    }

    fn parked_keys(&self) -> BTreeSet<PartitionKey> {
        self.parked.iter().map(|(row, _)| row.record.partition_key()).collect()
    }

    pub(crate) fn release_all(&mut self) {
        self.poison.clear();
        self.parked.iter_mut().for_each(|(_, released)| *released = true);
    }

    pub(crate) fn pass(&mut self, d: Duration) {
        self.now = self.now.plus(d);
    }

    /// Lets one relay run without faults until it is idle, or has stopped.
    pub(crate) fn settle(&mut self, index: usize) {
        for _ in 0..2_000 {
            if self.relays[index].stopped.is_some() {
                return;
            }
            if self.relays[index].action.is_some() {
                self.perform(index, &mut Tape::default());
            } else if self.relays[index].engine.wake_at().is_some_and(|at| at <= self.now) {
                self.tell(index, Event::Tick);
            } else {
                return;
            }
        }
        panic!("the relay does not come to rest");
    }
}

fn seq_of(publish: &Publish) -> u64 {
    let id = publish.record.headers.get("ce_id").unwrap();
    let id: uuid::Uuid = std::str::from_utf8(id).unwrap().parse().unwrap();
    u64::try_from(id.as_u128()).unwrap()
}

fn unavailable(acked: usize) -> PublishError {
    PublishError::Unavailable { acked, why: "lost".to_owned() }
}
