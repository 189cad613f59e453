//! Random sequences of calls, told to two stores alike: whatever they answer must be equal.

mod relay;
mod unit;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Environment, PartitionKey};
use amarra_messaging::message::{Pos, Position, Shard, Turn};
use amarra_messaging::{Group, Incoming, Offset, OutboxLog, Topic, TxError};
use amarra_store::{
    Claim, DueQuery, IdempotencyKey, Idempotent, PageQuery, ReadModel, Store, UnitOfWork,
    audit::verify_chain,
};

use crate::backend::StoreBackend;
use crate::check::{Must, incoming, owner, thing};
use crate::harness::Harness;

/// The bound on an outbox message that every subject is configured with, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;

const KEYS: [&str; 3] = ["a", "b", "ab"];
const VIEWS: [&str; 2] = ["open", "closed"];
const GROUPS: [&str; 5] =
    ["readers", "by-position", "by-dense-position", "by-offset", "by-dense-offset"];
const LONG: Duration = Duration::from_secs(3600);
const HELD: &str = "is held";
/// How often the rollback of a dropped unit is looked for, 5 ms apart.
const LOOKS_MAX: u32 = 2000;

/// A store with its relay and its views, empty at first.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The relay's side of its outbox.
    pub log: Arc<dyn OutboxLog>,
    /// The read side.
    pub views: Arc<dyn ReadModel>,
    /// What the run waits by, where it has to.
    pub env: Environment,
}

impl Subject {
    /// Takes the ports of a backend, as one client of it.
    #[must_use]
    pub fn of(backend: &impl StoreBackend) -> Self {
        Self {
            store: backend.store("differential"),
            log: backend.outbox_log(),
            views: backend.read_model(),
            env: backend.env(),
        }
    }
}

/// Returns the [`trace`] of a fresh instance of a backend.
#[must_use]
pub fn trace_of<B: StoreBackend>(slots: usize, steps: &[u32]) -> Vec<String> {
    let mut lines = Vec::new();
    B::run(|backend: B| {
        let lines = &mut lines;
        async move { *lines = trace(&Subject::of(&backend), slots, steps).await }
    });
    lines
}

/// Tells a subject what `steps` encode, in up to `slots` units side by side, and returns what every
/// call answered and what was stored in the end: equal for any two stores that keep the laws.
///
/// Every number is a step; a smaller one is a simpler step, so that shrinking them helps. A call
/// that would wait for another unit of the run is left out. What the ports leave to an adapter is
/// not told: shards, epochs, tickets, and the time. With one slot nothing that writes is called
/// beside an open unit, which suits a store with a single writer.
///
/// # Panics
/// When a store breaks a law by itself, for example when a unit commits after it failed.
pub async fn trace(subject: &Subject, slots: usize, steps: &[u32]) -> Vec<String> {
    let mut run = Run::new(subject, slots.max(1));
    let mut lines = Vec::new();
    for (n, &step) in steps.iter().enumerate() {
        let said = run.step(Word(step)).await;
        lines.push(format!("{n}: {said}"));
    }
    run.finish(&mut lines).await;
    lines
}

/// What is left of a step's number.
struct Word(u32);

impl Word {
    fn pick(&mut self, among: usize) -> usize {
        let among = u32::try_from(among.max(1)).unwrap_or(1);
        let picked = self.0 % among;
        self.0 /= among;
        usize::try_from(picked).unwrap_or(0)
    }

    fn key(&mut self) -> &'static str {
        KEYS[self.pick(KEYS.len())]
    }
}

/// A unit under way, with what others see of its locks until it has ended.
struct Open {
    unit: Box<dyn UnitOfWork>,
    verified: Vec<Claim>,
    begun: Vec<IdempotencyKey>,
}

struct Run<'a> {
    subject: &'a Subject,
    /// Ids and times of what is written: the same in every run.
    env: Environment,
    slots: Vec<Option<Open>>,
    held: BTreeMap<String, usize>,
    claims: Vec<Claim>,
    messages: Vec<Incoming>,
}

impl<'a> Run<'a> {
    fn new(subject: &'a Subject, slots: usize) -> Self {
        let env = Harness::new(1).environment("differential");
        let slots = (0..slots).map(|_| None).collect();
        let messages = messages(&env);
        Self { subject, env, slots, held: BTreeMap::new(), claims: Vec::new(), messages }
    }

    async fn step(&mut self, mut word: Word) -> String {
        match word.pick(30) {
            op @ 0..=18 => self.call(op, word).await,
            19..=21 => self.commit(word).await,
            22 => self.abandon(word).await,
            23 | 24 => self.relay(1 + word.pick(4), None).await,
            25 => self.claim().await,
            26 => self.relay(1 + word.pick(4), Some(word.key())).await,
            27 => self.release(word.key()).await,
            28 => self.settle(1 + word.pick(3)).await,
            _ => self.look(word).await,
        }
    }

    /// Reserves a name for a unit of the run; `false` when another one would have to wait.
    fn hold(&mut self, slot: usize, name: String) -> bool {
        *self.held.entry(name).or_insert(slot) == slot
    }

    async fn open(&mut self, slot: usize) -> Open {
        match self.slots[slot].take() {
            Some(open) => open,
            None => {
                let unit = self.subject.store.begin().await.must("begin");
                Open { unit, verified: Vec::new(), begun: Vec::new() }
            }
        }
    }

    async fn call(&mut self, op: usize, mut word: Word) -> String {
        let slot = word.pick(self.slots.len());
        let mut open = self.open(slot).await;
        let said = match op {
            0..=4 => self.change(slot, &mut open, word).await,
            5 => self.load(slot, &mut open, word).await,
            6 => self.save(slot, &mut open, word).await,
            7 => self.enqueue(slot, &mut open, word).await,
            8..=10 => self.admit(slot, &mut open, word).await,
            11 | 12 => self.idempotent(op == 11, &mut open, word).await,
            13 => self.view(slot, &mut open, word).await,
            14 => self.write_view(slot, &mut open, word).await,
            15 => self.schedule(slot, &mut open, word).await,
            16 => self.verify(slot, &mut open, word).await,
            17 => self.park(slot, &mut open, word).await,
            _ => self.unpark(slot, &mut open, word).await,
        };
        match said {
            Ok(said) => {
                self.slots[slot] = Some(open);
                format!("unit {slot} {said}")
            }
            Err(e) => {
                let Open { unit, verified, begun } = open;
                let refused = unit.commit().await;
                assert!(refused.is_err(), "a unit that failed with {e} committed");
                self.ended(slot, &verified, &begun).await;
                format!("unit {slot} failed in {op}: {}", kind(&e))
            }
        }
    }

    async fn commit(&mut self, mut word: Word) -> String {
        let slot = word.pick(self.slots.len());
        let Open { unit, verified, begun } = self.open(slot).await;
        match unit.commit().await {
            Ok(()) => {
                self.held.retain(|_, holder| *holder != slot);
                format!("unit {slot} committed")
            }
            Err(e) => {
                self.ended(slot, &verified, &begun).await;
                format!("unit {slot} failed to commit: {}", kind(&e))
            }
        }
    }

    async fn abandon(&mut self, mut word: Word) -> String {
        let slot = word.pick(self.slots.len());
        let Some(Open { unit, verified, begun }) = self.slots[slot].take() else {
            return format!("unit {slot} is not there");
        };
        drop(unit);
        self.ended(slot, &verified, &begun).await;
        format!("unit {slot} dropped")
    }

    /// Waits until nobody sees the locks of a unit that was rolled back: dropping one only begins
    /// its rollback, and two kinds of locks are looked at without waiting.
    async fn ended(&mut self, slot: usize, verified: &[Claim], begun: &[IdempotencyKey]) {
        self.held.retain(|_, holder| *holder != slot);
        if self.slots.len() == 1 {
            return;
        }
        for claim in verified {
            let mut unit = self.subject.store.begin().await.must("begin");
            if unit.verify(claim).await.is_ok() {
                unit.commit().await.must("commit");
            }
        }
        let open = self.slots.iter().flatten().flat_map(|open| &open.begun);
        let open: BTreeSet<_> = open.map(|key| &key.key).collect();
        let begun: Vec<_> = begun.iter().filter(|key| !open.contains(&key.key)).collect();
        for key in begun {
            for _ in 0..LOOKS_MAX {
                let mut unit = self.subject.store.begin().await.must("begin");
                let answer = unit.begin_idempotent(key).await.must("begin a key");
                unit.commit().await.must("commit");
                if answer != Idempotent::InFlight {
                    break;
                }
                self.subject.env.sleep(Duration::from_millis(5)).await;
            }
        }
    }

    async fn claim(&mut self) -> String {
        let alone = self.slots.len() == 1 && self.slots.iter().any(Option::is_some);
        if alone || self.held.keys().any(|name| name.starts_with("timer")) {
            return "timers are held".to_owned();
        }
        let query = DueQuery {
            kind: thing("").kind,
            owner: owner("differential"),
            lease: LONG,
            limit: 100,
        };
        let claims = self.subject.store.claim_due(&query).await.must("claim_due");
        let ids: BTreeSet<_> = claims.iter().map(|claim| claim.id.to_string()).collect();
        self.claims.extend(claims);
        self.claims.sort_by(|a, b| (&a.id, a.epoch).cmp(&(&b.id, b.epoch)));
        format!("claimed {ids:?}")
    }

    async fn look(&mut self, mut word: Word) -> String {
        let (view, key) = (VIEWS[word.pick(VIEWS.len())], word.key());
        let row = self.subject.views.get(view, key).await.must("get");
        let query = PageQuery {
            view: view.into(),
            prefix: ["", "a"][word.pick(2)].into(),
            after: (word.pick(2) > 0).then(|| "a".into()),
            limit: 1 + word.pick(2),
        };
        let page = self.subject.views.page(&query).await.must("page");
        let audited = self.subject.store.audit_rows(0, 1000).await.must("audit_rows").len();
        format!("{view} {key} {row:?}, {query:?} {page:?}, {audited} audited")
    }

    /// Abandons what is open and tells everything that is stored.
    async fn finish(mut self, lines: &mut Vec<String>) {
        for slot in 0..self.slots.len() {
            if let Some(Open { unit, verified, begun }) = self.slots[slot].take() {
                drop(unit);
                self.ended(slot, &verified, &begun).await;
            }
        }
        lines.push(self.relay(100, None).await);
        lines.push(self.settle(100).await);
        for key in KEYS {
            lines.push(self.release(key).await);
        }
        lines.push(self.settle(100).await);
        lines.push(self.claim().await);
        let mut stored = String::new();
        self.read_all(&mut stored).await.must("read everything");
        lines.extend(stored.lines().map(str::to_owned));
        let rows = self.subject.store.audit_rows(0, 10_000).await.must("audit_rows");
        let (number, hash) = verify_chain(0, [0; 32], &rows).must("a whole chain");
        lines.push(format!("audit chain {number} {hash:?}"));
        for view in VIEWS {
            let (view, prefix) = (view.into(), "".into());
            let query = PageQuery { view, prefix, after: None, limit: 100 };
            let page = self.subject.views.page(&query).await.must("page");
            lines.push(format!("{} {page:?}", query.view));
        }
    }

    async fn read_all(&mut self, out: &mut String) -> Result<(), TxError> {
        let mut unit = self.subject.store.begin().await?;
        let ids: Vec<_> = KEYS.iter().map(|key| thing(key)).collect();
        let _ = writeln!(out, "things {:?}", unit.load(&ids).await?);
        for n in 0..2 {
            for hash in 0..2 {
                let answer = unit.begin_idempotent(&idempotency(n, hash)).await?;
                let _ = writeln!(out, "key {n} {hash} {answer:?}");
            }
        }
        for key in KEYS {
            loop {
                let (said, ticket) = oldest(unit.as_mut(), key).await?;
                let _ = writeln!(out, "{said}");
                let Some(ticket) = ticket else { break };
                unit.unpark(&Group::from("readers"), ticket).await?;
            }
        }
        for group in GROUPS {
            for message in &self.messages {
                let admit = unit.admit(&Group::from(group), message).await?;
                let _ = writeln!(out, "{group} {} {admit:?}", message.offset);
            }
        }
        Ok(())
    }
}

/// The messages to be admitted: neighbours, far ones, one published twice, and two out of turn.
fn messages(env: &Environment) -> Vec<Incoming> {
    let numbers = [(0, 1), (1, 2), (2, 3), (4, 5), (70, 71), (200, 300)];
    let mut messages: Vec<Incoming> = numbers
        .into_iter()
        .map(|(offset, pos)| {
            let position = Position { source: "there".into(), shard: Shard(0), pos: Pos(pos) };
            Incoming { position: Some(position), ..incoming(env, "k", offset) }
        })
        .collect();
    let again = Incoming { offset: Offset(201), ..messages[1].clone() };
    let released = Incoming { turn: Turn::Released, offset: Offset(202), ..messages[2].clone() };
    let replayed = Incoming { turn: Turn::Replayed, ..messages[3].clone() };
    let foreign = incoming(env, "k", 203);
    messages.extend([again, released, replayed, foreign]);
    messages
}

fn idempotency(key: usize, hash: usize) -> IdempotencyKey {
    IdempotencyKey {
        principal: "ada".into(),
        route: "POST /orders".into(),
        key: key.to_string().into(),
        request_hash: [u8::try_from(hash).unwrap_or(0); 32],
    }
}

/// Says what is parked first under a key, and whether the key is.
async fn oldest(unit: &mut dyn UnitOfWork, key: &str) -> Result<(String, Option<u64>), TxError> {
    let (group, topic) = (Group::from("readers"), Topic::from("things"));
    let keys = BTreeSet::from([PartitionKey::from(key)]);
    let among = unit.parked_among(&group, &topic, &keys).await?;
    let first = unit.first_parked(&group, &topic, &PartitionKey::from(key)).await?;
    let said = first.as_ref().map(|parked| (&parked.delivery, &parked.reason));
    Ok((format!("parked {among:?}: {said:?}"), first.as_ref().map(|parked| parked.ticket)))
}

/// Names an error without the words, which are an adapter's own.
fn kind(error: &TxError) -> String {
    match error {
        TxError::Conflict { id } => format!("conflict on {id}"),
        TxError::TooLarge { .. } => "too large".to_owned(),
        TxError::Fenced { what, .. } => format!("fenced: {what}"),
        other => format!("{other:?}"),
    }
}
