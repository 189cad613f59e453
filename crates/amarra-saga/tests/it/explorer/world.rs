//! The world around the engine: messages, participants behind barriers, and two executors.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_core::{Class, Timestamp};
use amarra_saga::definition::StepIndex;
use amarra_saga::engine::{self, Decision, Event, Input, Phase, State};
use amarra_saga::{Definition, Op, SagaId};

/// What a participant answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    Ok,
    Rejected,
    Transient,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    Command { step: u16, op: Op },
    Reply { step: u16, op: Op, answer: Answer },
}

/// A participant's step: the barrier's record and the ledger of effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Participant {
    pub action: bool,
    pub refused: bool,
    pub compensation: bool,
    pub applied: u8,
    pub undone: u8,
}

impl Participant {
    pub fn net(self) -> i16 {
        i16::from(self.applied) - i16::from(self.undone)
    }
}

/// What an executor is about to commit, decided on what it loaded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Turn {
    pub loaded: u16,
    pub epoch: Option<u8>,
    pub state: State,
    pub events: Vec<Event>,
    pub message: Option<Message>,
    pub calls: Vec<(u16, Op)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Executor {
    #[default]
    Free,
    /// Between load and commit.
    Deciding(Box<Turn>),
    /// Makes a local call under a claim.
    Calling { epoch: u8, step: u16, op: Op },
    /// Has its outcome, not yet appended.
    Returned { epoch: u8, step: u16, op: Op, answer: Answer },
}

/// How much may still go wrong on this path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    pub duplicates: u8,
    pub timers: u8,
    pub failures: u8,
    pub cancels: u8,
    pub claims: u8,
    pub executors: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub state: State,
    pub version: u16,
    pub epoch: u8,
    pub now: Timestamp,
    pub network: BTreeMap<Message, u8>,
    pub participants: Vec<Participant>,
    pub executors: [Executor; 2],
    pub budget: Budget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// A participant handles a command; `keep` leaves a duplicate of it behind.
    Handle {
        message: Message,
        answer: Answer,
        effect: bool,
        keep: bool,
    },
    /// An executor loads the saga for a reply, the timer, a cancellation, or to begin local calls.
    Begin {
        executor: usize,
        what: Begin,
    },
    Commit {
        executor: usize,
    },
    Crash {
        executor: usize,
    },
    /// The local call happens.
    Call {
        executor: usize,
        answer: Answer,
        effect: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    Reply { message: Message, keep: bool },
    Timer,
    Cancel,
    Claim,
}

impl World {
    pub fn start(definition: &Definition, local: &[u16], budget: Budget) -> Self {
        let mut world = Self {
            state: State::default(),
            version: 0,
            epoch: 0,
            now: Timestamp::from_micros(0),
            network: BTreeMap::new(),
            participants: vec![Participant::default(); definition.steps().len()],
            executors: [Executor::Free, Executor::Free],
            budget,
        };
        let start = Input::Start { id: SagaId::from("s"), input: Arc::default() };
        let turn = world.decide(definition, local, vec![start]);
        world.commit(turn, local);
        world
    }

    /// Decides inputs on a copy, as an executor does between load and commit. Local attempts are
    /// queued in the same turn, as the shell does.
    pub fn decide(&self, definition: &Definition, local: &[u16], inputs: Vec<Input>) -> Turn {
        let mut state = self.state.clone();
        let mut events = Vec::new();
        let mut pending: Vec<Input> = inputs.into_iter().rev().collect();
        while let Some(input) = pending.pop() {
            let before = state.clone();
            let Decision { events: new, .. } =
                engine::handle(definition, &mut state, input.clone(), self.now).unwrap();
            let mut replayed = before.clone();
            new.iter().for_each(|event| engine::apply(&mut replayed, event));
            assert_eq!(replayed, state, "I7: replay differs from the live state");
            for event in new.iter().rev() {
                if let Event::Sent { s, op, .. } = event
                    && local.contains(&s.0)
                {
                    let step = Arc::clone(&definition.step(*s).unwrap().name);
                    pending.push(Input::LocalQueued { step, op: *op });
                }
            }
            events.extend(new);
        }
        Turn { loaded: self.version, epoch: None, state, events, message: None, calls: Vec::new() }
    }

    /// Tells whether a turn can still be committed.
    pub fn is_current(&self, turn: &Turn) -> bool {
        turn.loaded == self.version && turn.epoch.is_none_or(|epoch| epoch == self.epoch)
    }

    /// Applies a turn, unless somebody saved since it loaded or took over its claim.
    pub fn commit(&mut self, turn: Turn, local: &[u16]) -> bool {
        if !self.is_current(&turn) {
            return false;
        }
        if turn.events.is_empty() {
            return true;
        }
        self.version += 1;
        self.state = turn.state;
        for event in &turn.events {
            if let Event::Sent { s, op, .. } = event
                && !local.contains(&s.0)
            {
                let count =
                    self.network.entry(Message::Command { step: s.0, op: *op }).or_default();
                *count = count.saturating_add(1).min(2);
            }
        }
        true
    }

    pub fn take(&mut self, message: Message) {
        if let Some(count) = self.network.get_mut(&message) {
            *count -= 1;
            if *count == 0 {
                self.network.remove(&message);
            }
        }
    }

    /// A participant does an operation behind its barrier; returns what it answers, if anything.
    pub fn perform(&mut self, step: u16, op: Op, answer: Answer, effect: bool) -> Option<Answer> {
        let participant = &mut self.participants[usize::from(step)];
        match op {
            Op::Action if participant.action && participant.refused => Some(Answer::Rejected),
            Op::Action if participant.action => Some(Answer::Ok),
            Op::Action if participant.compensation => None,
            Op::Action => {
                if effect {
                    participant.action = true;
                    participant.applied += 1;
                }
                if answer == Answer::Rejected {
                    participant.action = true;
                    participant.refused = true;
                }
                Some(answer)
            }
            Op::Compensation if participant.compensation => Some(Answer::Ok),
            Op::Compensation => {
                if answer == Answer::Ok || effect {
                    participant.compensation = true;
                    if participant.action && !participant.refused {
                        participant.undone += 1;
                    }
                }
                Some(answer)
            }
        }
    }

    pub fn reply(&self, definition: &Definition, message: Message) -> Input {
        let Message::Reply { step, op, answer } = message else { panic!("no reply: {message:?}") };
        reply(definition, step, op, answer)
    }

    pub fn is_ended(&self) -> bool {
        matches!(self.state.phase(), Phase::Ended(_))
    }
}

pub fn reply(definition: &Definition, step: u16, op: Op, answer: Answer) -> Input {
    let name = &definition.step(StepIndex(step)).unwrap().name;
    let request = amarra_saga::Request::new(SagaId::from("s"), Arc::clone(name), op);
    let result = match answer {
        Answer::Ok => Ok(serde_json::Value::Null),
        Answer::Rejected => Err((Class::Rejected, "no".into())),
        Answer::Transient => Err((Class::Transient, "busy".into())),
        Answer::Unknown => Err((Class::Unknown, "lost".into())),
    };
    Input::reply(&request, result)
}
