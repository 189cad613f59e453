//! Random schedules of many units against a naive model that knows nothing of locks and snapshots.

use std::collections::{BTreeMap, BTreeSet};

use amarra_memory::{BrokerConfig, ClientId, DatabaseConfig};
use amarra_messaging::message::Owner;
use amarra_messaging::outbox::Cursor;
use amarra_messaging::{Admit, OutboxLog, TxError};
use amarra_store::UnitOfWork;
use proptest::prelude::*;

use crate::world::{Begun, World, body, group, incoming, outgoing, secs, thing, version};

const KEYS: [&str; 3] = ["a", "b", "c"];
const SLOTS: usize = 4;

/// What a unit does, in one of a few slots that are open side by side.
#[derive(Debug, Clone)]
enum Step {
    /// Runs a whole change: load, save at the version loaded, append its message.
    Change {
        slot: usize,
        key: usize,
    },
    /// Admits one of a few messages.
    Admit {
        slot: usize,
        event: u128,
    },
    Commit {
        slot: usize,
    },
    Drop {
        slot: usize,
    },
    /// Reads everything the outbox has for the relay.
    Relay {
        limit: usize,
    },
    /// Stops and starts the server.
    Crash {
        power_loss: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0..SLOTS;
    prop_oneof![
        6 => (slot.clone(), 0..KEYS.len()).prop_map(|(slot, key)| Step::Change { slot, key }),
        2 => (slot.clone(), 0_u128..4).prop_map(|(slot, event)| Step::Admit { slot, event }),
        4 => slot.clone().prop_map(|slot| Step::Commit { slot }),
        1 => slot.prop_map(|slot| Step::Drop { slot }),
        2 => (1_usize..4).prop_map(|limit| Step::Relay { limit }),
        1 => any::<bool>().prop_map(|power_loss| Step::Crash { power_loss }),
    ]
}

type Call = Begun<(Box<dyn UnitOfWork>, Result<Effect, TxError>)>;

/// What a call did, for the model to apply at the commit.
#[derive(Debug, Clone)]
enum Effect {
    Changed { key: usize, version: u64, message: u128 },
    Admitted(u128, Admit),
}

/// A unit as the test sees it: at rest, or in a call that waits.
enum Slot {
    Free,
    Open(Box<dyn UnitOfWork>, Vec<Effect>),
    Waiting(Call, Vec<Effect>),
}

/// The naive model: what is committed, in commit order.
#[derive(Debug, Default)]
struct Model {
    versions: BTreeMap<usize, u64>,
    admitted: BTreeSet<u128>,
    /// The messages of each key, in commit order.
    committed: BTreeMap<usize, Vec<u128>>,
}

impl Model {
    /// Applies a committed unit; every check is of one effect against what was committed before.
    fn commit(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Changed { key, version, message } => {
                    let current = self.versions.entry(key).or_default();
                    assert_eq!(version, *current + 1, "an update of {} was lost", KEYS[key]);
                    *current = version;
                    self.committed.entry(key).or_default().push(message);
                }
                Effect::Admitted(event, Admit::Fresh) => {
                    assert!(self.admitted.insert(event), "event {event} was applied twice");
                }
                Effect::Admitted(event, _) => {
                    // Fresh for this very unit before, or for one that committed.
                    self.admitted.get(&event).expect("a duplicate of nothing committed");
                }
            }
        }
    }
}

struct Run {
    world: World,
    slots: Vec<Slot>,
    model: Model,
    cursor: Cursor,
    relayed: Vec<u128>,
    next_message: u128,
}

impl Run {
    fn new() -> Self {
        let config = DatabaseConfig { shards: 1, ..DatabaseConfig::default() };
        Self {
            world: World::with(config, BrokerConfig::default()),
            slots: (0..SLOTS).map(|_| Slot::Free).collect(),
            model: Model::default(),
            cursor: Cursor::default(),
            relayed: Vec::new(),
            next_message: 1,
        }
    }

    fn take(&mut self, slot: usize) -> Slot {
        std::mem::replace(&mut self.slots[slot], Slot::Free)
    }

    async fn open(&mut self, slot: usize) -> Option<(Box<dyn UnitOfWork>, Vec<Effect>)> {
        match self.take(slot) {
            Slot::Free => {
                let unit = self.world.store(&format!("node-{slot}")).begin().await.unwrap();
                Some((unit, Vec::new()))
            }
            Slot::Open(unit, effects) => Some((unit, effects)),
            waiting @ Slot::Waiting(..) => {
                self.slots[slot] = waiting;
                None
            }
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Change { slot, key } => {
                let Some((mut unit, effects)) = self.open(slot).await else { return };
                let message = self.next_message;
                self.next_message += 1;
                let call = async move {
                    let changed = change(unit.as_mut(), key, message).await;
                    (unit, changed)
                };
                self.slots[slot] = Slot::Waiting(Begun::new(call), effects);
            }
            Step::Admit { slot, event } => {
                let Some((mut unit, effects)) = self.open(slot).await else { return };
                let call = async move {
                    let admit = unit.admit(&group(), &incoming(event)).await;
                    (unit, admit.map(|admit| Effect::Admitted(event, admit)))
                };
                self.slots[slot] = Slot::Waiting(Begun::new(call), effects);
            }
            Step::Commit { slot } => match self.take(slot) {
                Slot::Open(unit, effects) => {
                    assert_eq!(unit.commit().await, Ok(()));
                    self.model.commit(effects);
                }
                other => self.slots[slot] = other,
            },
            Step::Drop { slot } => drop(self.take(slot)),
            Step::Relay { limit } => self.relay(limit).await,
            Step::Crash { power_loss } => {
                self.world.database.crash(power_loss);
                self.world.database.restart();
                for slot in 0..SLOTS {
                    if let Slot::Open(unit, _) = self.take(slot) {
                        let lost = unit.commit().await;
                        assert!(matches!(lost, Err(TxError::Connection { .. })), "{lost:?}");
                    }
                }
            }
        }
        self.settle();
    }

    /// Polls every waiting call until none goes on.
    fn settle(&mut self) {
        let mut progress = true;
        while progress {
            progress = false;
            for slot in 0..SLOTS {
                let Slot::Waiting(mut call, mut effects) = self.take(slot) else { continue };
                match call.poll() {
                    None => self.slots[slot] = Slot::Waiting(call, effects),
                    Some((_, Err(_))) => progress = true,
                    Some((unit, Ok(effect))) => {
                        progress = true;
                        effects.push(effect);
                        self.slots[slot] = Slot::Open(unit, effects);
                    }
                }
            }
        }
    }

    async fn relay(&mut self, limit: usize) {
        let log = self.world.database.outbox_log(ClientId::new("relay", 1));
        let lease = log.lease(&Owner::from("relay"), 1, secs(9)).await.unwrap().pop().unwrap();
        loop {
            let chunk = log.next_chunk(&lease, &self.cursor, limit).await.unwrap();
            assert!(chunk.rows.len() <= limit);
            for row in &chunk.rows {
                self.cursor.last_seq = row.seq;
                self.relayed.push(
                    amarra_messaging::wire::envelope(&row.record).unwrap().id.as_uuid().as_u128(),
                );
            }
            if chunk.last {
                self.cursor = Cursor { prev: chunk.cur, ..Cursor::default() };
                return;
            }
            self.cursor.cur = Some(chunk.cur);
        }
    }

    async fn finish(mut self) {
        for slot in 0..SLOTS {
            drop(self.take(slot));
            self.settle();
        }
        (0..SLOTS).for_each(|slot| drop(self.take(slot)));
        self.relay(2).await;
        for (key, name) in KEYS.iter().enumerate() {
            let expect = self.model.versions.get(&key).copied().unwrap_or(0);
            assert_eq!(version(&self.world, name), expect);
            let messages = self.model.committed.remove(&key).unwrap_or_default();
            let relayed: Vec<_> =
                self.relayed.iter().copied().filter(|m| messages.contains(m)).collect();
            assert_eq!(relayed, messages, "the messages of {name} were lost, doubled or reordered");
        }
        let inbox = self.world.database.inspect(|i| i.inbox().count());
        assert_eq!(inbox, self.model.admitted.len());
        let total: u64 = self.model.versions.values().sum();
        assert_eq!(u64::try_from(self.relayed.len()).unwrap(), total);
    }
}

async fn change(unit: &mut dyn UnitOfWork, key: usize, message: u128) -> Result<Effect, TxError> {
    let id = thing(KEYS[key]);
    let from = unit.load(std::slice::from_ref(&id)).await?[0].version;
    unit.save(&id, from, body("x")).await?;
    unit.enqueue(&[outgoing(KEYS[key], message)]).await?;
    Ok(Effect::Changed { key, version: from.next().get(), message })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// No update lost, no message lost, doubled or reordered within its key, none applied twice.
    #[test]
    fn any_schedule_equals_some_serial_one(steps in prop::collection::vec(step(), 1..60)) {
        let mut run = Run::new();
        let harness = run.world.harness.clone();
        harness.block_on(async {
            for step in steps {
                run.step(step).await;
            }
            run.finish().await;
        });
    }
}
