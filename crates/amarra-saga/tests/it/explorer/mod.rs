//! Visits every reachable state of small sagas under every fault, and checks the saga's laws in
//! each.
//!
//! Covered: every outcome of every step, replies that are duplicated, late or reordered, timers at
//! any time, cancellation at any time, a crash before every commit, and two executors that decide
//! on the same version or hold one claim after another.

mod check;
mod world;

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use amarra_saga::definition::Kind;
use amarra_saga::engine::{self, Input};
use amarra_saga::{Definition, Op};

use self::world::{Answer, Begin, Budget, Choice, Executor, Message, Turn, World, reply};
use crate::specs::{diamond, diamond_reversible, saga3, saga3_pivot};

struct Explorer {
    definition: Definition,
    local: Vec<u16>,
    seen: BTreeSet<u64>,
    stack: Vec<World>,
    ends: BTreeSet<&'static str>,
}

impl Explorer {
    fn run(definition: Definition, local: &[u16], budget: Budget) -> Self {
        let start = World::start(&definition, local, budget);
        let mut explorer = Self {
            definition,
            local: local.to_vec(),
            seen: BTreeSet::new(),
            stack: Vec::new(),
            ends: BTreeSet::new(),
        };
        explorer.visit(start);
        while let Some(world) = explorer.stack.pop() {
            for choice in explorer.choices(&world) {
                let next = explorer.step(&world, choice);
                explorer.visit(next);
            }
        }
        explorer
    }

    fn visit(&mut self, world: World) {
        let digest = digest(&world);
        if !self.seen.insert(digest) {
            return;
        }
        check::safety(&self.definition, &world);
        // Driving every state to its end would visit each suffix over and over: a sample suffices.
        if digest.is_multiple_of(32) {
            self.ends.insert(check::liveness(&self.definition, &self.local, world.clone()));
        }
        self.stack.push(world);
    }

    fn choices(&self, world: &World) -> Vec<Choice> {
        let mut choices = Vec::new();
        let duplicable = world.budget.duplicates > 0;
        for message in world.network.keys().copied() {
            match message {
                Message::Command { step, op } => {
                    for (answer, effect) in self.answers(world, step, op) {
                        choices.push(Choice::Handle { message, answer, effect, keep: false });
                        if duplicable {
                            choices.push(Choice::Handle { message, answer, effect, keep: true });
                        }
                    }
                }
                Message::Reply { .. } => {
                    begin(world, &mut choices, Begin::Reply { message, keep: false });
                    if duplicable {
                        begin(world, &mut choices, Begin::Reply { message, keep: true });
                    }
                }
            }
        }
        if world.budget.timers > 0 && engine::next_due(&self.definition, &world.state).is_some() {
            begin(world, &mut choices, Begin::Timer);
        }
        if world.budget.cancels > 0 && !world.is_ended() {
            begin(world, &mut choices, Begin::Cancel);
        }
        if world.budget.claims > 0 && !engine::queued(&world.state).is_empty() {
            begin(world, &mut choices, Begin::Claim);
        }
        for (executor, doing) in world.executors.iter().enumerate() {
            match doing {
                Executor::Free => continue,
                Executor::Deciding(_) | Executor::Returned { .. } => {
                    choices.push(Choice::Commit { executor });
                }
                Executor::Calling { step, op, .. } => {
                    for (answer, effect) in self.answers(world, *step, *op) {
                        choices.push(Choice::Call { executor, answer, effect });
                    }
                }
            }
            choices.push(Choice::Crash { executor });
        }
        choices
    }

    /// Every way an operation can end, with and without its effect.
    fn answers(&self, world: &World, step: u16, op: Op) -> Vec<(Answer, bool)> {
        let mut answers = vec![(Answer::Ok, true)];
        if world.budget.failures == 0 {
            return answers;
        }
        answers.extend([
            (Answer::Transient, false),
            (Answer::Unknown, true),
            (Answer::Unknown, false),
        ]);
        let kind = self.definition.steps()[usize::from(step)].kind;
        if op == Op::Compensation || kind != Kind::Retriable {
            answers.push((Answer::Rejected, false));
        }
        answers
    }

    fn step(&self, world: &World, choice: Choice) -> World {
        let mut next = world.clone();
        match choice {
            Choice::Handle { message, answer, effect, keep } => {
                let Message::Command { step, op } = message else { panic!("{message:?}") };
                spend_message(&mut next, message, keep);
                spend_failure(&mut next, answer);
                if let Some(answer) = next.perform(step, op, answer, effect) {
                    let reply = Message::Reply { step, op, answer };
                    let count = next.network.entry(reply).or_default();
                    *count = (*count + 1).min(2);
                }
            }
            Choice::Begin { executor, what } => self.begin(&mut next, executor, what),
            Choice::Commit { executor } => self.commit(&mut next, executor),
            Choice::Crash { executor } => next.executors[executor] = Executor::Free,
            Choice::Call { executor, answer, effect } => {
                let Executor::Calling { epoch, step, op } = next.executors[executor] else {
                    panic!("nobody calls")
                };
                spend_failure(&mut next, answer);
                let answer = next.perform(step, op, answer, effect).unwrap_or(Answer::Rejected);
                next.executors[executor] = Executor::Returned { epoch, step, op, answer };
            }
        }
        next
    }

    fn begin(&self, world: &mut World, executor: usize, what: Begin) {
        let mut turn = match what {
            Begin::Reply { message, keep } => {
                let input = world.reply(&self.definition, message);
                let mut turn = world.decide(&self.definition, &self.local, vec![input]);
                if keep {
                    world.budget.duplicates -= 1;
                } else {
                    turn.message = Some(message);
                }
                turn
            }
            Begin::Timer => {
                world.budget.timers -= 1;
                // A claim: whoever held the one before is fenced.
                world.epoch += 1;
                let due = engine::next_due(&self.definition, &world.state).unwrap();
                world.now = world.now.max(due);
                world.decide(&self.definition, &self.local, vec![Input::TimerFired])
            }
            Begin::Cancel => {
                world.budget.cancels -= 1;
                let cancel = Input::Cancel { reason: "changed my mind".into() };
                world.decide(&self.definition, &self.local, vec![cancel])
            }
            Begin::Claim => {
                world.budget.claims -= 1;
                world.epoch += 1;
                let call = engine::queued(&world.state)[0];
                let step = Arc::clone(&self.definition.step(call.step).unwrap().name);
                let started = Input::LocalStarted { step, op: call.op };
                let mut turn = world.decide(&self.definition, &self.local, vec![started]);
                turn.calls.push((call.step.0, call.op));
                turn
            }
        };
        if matches!(what, Begin::Timer | Begin::Claim) {
            turn.epoch = Some(world.epoch);
        }
        check::turn(&self.definition, world, &turn);
        world.executors[executor] = Executor::Deciding(Box::new(turn));
    }

    fn commit(&self, world: &mut World, executor: usize) {
        let turn = match std::mem::take(&mut world.executors[executor]) {
            Executor::Deciding(turn) => *turn,
            Executor::Returned { epoch, step, op, answer } => {
                let input = reply(&self.definition, step, op, answer);
                let turn = world.decide(&self.definition, &self.local, vec![input]);
                let turn = Turn { epoch: Some(epoch), ..turn };
                if epoch == world.epoch {
                    check::turn(&self.definition, world, &turn);
                }
                turn
            }
            other => panic!("nothing to commit: {other:?}"),
        };
        let Turn { message, epoch, .. } = turn;
        let calls = turn.calls.clone();
        if world.commit(turn, &self.local) {
            if let Some(message) = message {
                world.take(message);
            }
            if let (Some((step, op)), Some(epoch)) = (calls.first().copied(), epoch) {
                world.executors[executor] = Executor::Calling { epoch, step, op };
            }
        }
    }
}

fn begin(world: &World, choices: &mut Vec<Choice>, what: Begin) {
    // The two executors are alike: a free first one stands for both.
    let limit = usize::from(world.budget.executors);
    let free = world.executors.iter().take(limit).position(|e| matches!(e, Executor::Free));
    choices.extend(free.map(|executor| Choice::Begin { executor, what }));
}

fn spend_message(world: &mut World, message: Message, keep: bool) {
    if keep {
        world.budget.duplicates -= 1;
    } else {
        world.take(message);
    }
}

fn spend_failure(world: &mut World, answer: Answer) {
    if answer != Answer::Ok {
        world.budget.failures -= 1;
    }
}

/// Hashes what can make a difference: versions and epochs count only as current or superseded, and
/// an executor whose commit must fail is as good as free.
fn digest(world: &World) -> u64 {
    let mut hasher = Words(0x9e37_79b9_7f4a_7c15);
    let World { state, now, network, participants, budget, .. } = world;
    (state, now, network, participants, budget).hash(&mut hasher);
    for executor in &world.executors {
        match executor {
            Executor::Free => 0.hash(&mut hasher),
            Executor::Deciding(turn) if !world.is_current(turn) => 0.hash(&mut hasher),
            Executor::Deciding(turn) => {
                (1, &turn.state, turn.message, &turn.calls, turn.epoch.is_some()).hash(&mut hasher);
            }
            Executor::Calling { epoch, step, op } => {
                (2, *epoch == world.epoch, step, op).hash(&mut hasher);
            }
            Executor::Returned { epoch, .. } if *epoch != world.epoch => 0.hash(&mut hasher),
            Executor::Returned { step, op, answer, .. } => (3, step, op, answer).hash(&mut hasher),
        }
    }
    hasher.finish()
}

/// Hashes whole words: unoptimized, the standard hasher took half of the exploration's time.
struct Words(u64);

impl Words {
    fn word(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        self.0 = mixed ^ (mixed >> 32);
    }
}

impl Hasher for Words {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.word(n.into());
    }

    fn write_u16(&mut self, n: u16) {
        self.word(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.word(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        self.word(n);
    }

    fn write_i64(&mut self, n: i64) {
        self.word(u64::from_le_bytes(n.to_le_bytes()));
    }

    fn write_isize(&mut self, n: isize) {
        self.write_i64(n.try_into().unwrap());
    }

    fn write_usize(&mut self, n: usize) {
        self.word(n.try_into().unwrap());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

const BUDGET: Budget =
    Budget { duplicates: 1, timers: 2, failures: 1, cancels: 1, claims: 2, executors: 2 };

fn explore(definition: Definition, local: &[u16], budget: Budget, states_min: usize) {
    let explorer = Explorer::run(definition, local, budget);
    let reached: Vec<_> = explorer.ends.iter().copied().collect();
    assert_eq!(reached, ALL, "of {} states", explorer.seen.len());
    assert!(explorer.seen.len() >= states_min, "only {} states", explorer.seen.len());
}

const ALL: [&str; 3] = ["compensated", "completed", "needs operator"];

#[test]
fn saga3_keeps_its_laws_in_every_state() {
    let budget = Budget { executors: 1, ..BUDGET };
    explore(saga3(), &[], budget, 290_000);
}

#[test]
fn saga3_with_a_pivot_keeps_its_laws_in_every_state() {
    explore(saga3_pivot(), &[], BUDGET, 100_000);
}

#[test]
fn saga3_of_local_calls_keeps_its_laws_in_every_state() {
    let budget = Budget { timers: 3, failures: 2, claims: 5, ..BUDGET };
    explore(saga3(), &[0, 1, 2], budget, 10_000);
}

#[test]
fn the_diamond_keeps_its_laws_in_every_state() {
    let budget = Budget { timers: 1, executors: 1, ..BUDGET };
    explore(diamond(), &[], budget, 450_000);
}

#[test]
fn the_diamond_with_a_local_arm_keeps_its_laws_in_every_state() {
    let budget = Budget { duplicates: 0, timers: 1, ..BUDGET };
    explore(diamond_reversible(), &[2], budget, 100_000);
}
