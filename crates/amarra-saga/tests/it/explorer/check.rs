//! The laws, checked against the participants' ledgers rather than the engine's own opinion.

use amarra_saga::definition::{Kind, StepIndex};
use amarra_saga::engine::{self, End, Event, Input, Phase, Stage, Status};
use amarra_saga::{Definition, Op};

use super::world::{Answer, Message, Turn, World};

/// What must hold in every state.
pub fn safety(definition: &Definition, world: &World) {
    let net: Vec<i16> = world.participants.iter().map(|p| p.net()).collect();
    for (step, participant) in definition.steps().iter().zip(&world.participants) {
        assert!(participant.applied <= 1, "{} done twice: {world:#?}", step.name);
        assert!(participant.undone <= participant.applied, "{} undone twice", step.name);
    }
    match world.state.phase() {
        Phase::Ended(End::Compensated) => {
            assert!(net.iter().all(|net| *net == 0), "I2: effects stand: {world:#?}");
        }
        Phase::Ended(End::Completed) => {
            assert!(net.iter().all(|net| *net == 1), "I3: effects missing: {world:#?}");
        }
        Phase::Ended(End::Abandoned) | Phase::Absent => panic!("nobody abandons"),
        Phase::Forward | Phase::Unwinding(_) => {
            let due = engine::next_due(definition, &world.state);
            let stuck = world.state.status() == Status::NeedsOperator;
            assert!(due.is_some() || stuck, "SGA-8: nothing brings it on: {world:#?}");
        }
    }
    if let (Phase::Unwinding(_), Some(pivot)) = (world.state.phase(), definition.pivot()) {
        assert_eq!(net[pivot.get()], 0, "I5: undone though the pivot is done: {world:#?}");
    }
    for (at, step) in world.state.steps().iter().enumerate() {
        if step.stage == Stage::Rejected {
            assert_eq!(net[at], 0, "a rejected step has an effect: {world:#?}");
        }
    }
}

/// What must hold of everything an executor decides on the newest version.
pub fn turn(definition: &Definition, world: &World, turn: &Turn) {
    let mut unwinding = matches!(world.state.phase(), Phase::Unwinding(_));
    for event in &turn.events {
        match event {
            Event::Unwinding { .. } => unwinding = true,
            Event::Sent { s, op: Op::Action, .. } => {
                assert!(!unwinding, "I5: a step begins while undoing: {turn:#?}");
                let before = &definition.step(*s).unwrap().after;
                let done = before.iter().all(|b| world.participants[b.get()].net() == 1);
                assert!(done, "SGA-3: {s:?} begins before what it depends on: {turn:#?}");
            }
            Event::Sent { s, op: Op::Compensation, .. } => {
                assert!(unwinding, "undone without undoing: {turn:#?}");
                assert_eq!(definition.step(*s).unwrap().kind, Kind::Compensatable);
                let free = |d: &StepIndex| world.participants[d.get()].net() == 0;
                let dependants = definition.dependants(*s);
                assert!(dependants.iter().all(free), "I4: {s:?} is undone too soon: {world:#?}");
            }
            _ => {}
        }
    }
}

/// Stops all faults and lets messages, calls and timers run: the saga must end.
pub fn liveness(definition: &Definition, local: &[u16], mut world: World) -> &'static str {
    world.executors = Default::default();
    for _ in 0..200 {
        match world.state.status() {
            Status::Completed if world.network.is_empty() => return "completed",
            Status::Compensated if world.network.is_empty() => return "compensated",
            Status::NeedsOperator if world.network.is_empty() => return "needs operator",
            _ => {}
        }
        let input = if let Some(message) = world.network.keys().next().copied() {
            world.take(message);
            match message {
                Message::Command { step, op } => {
                    if let Some(answer) = world.perform(step, op, Answer::Ok, true) {
                        *world.network.entry(Message::Reply { step, op, answer }).or_default() += 1;
                    }
                    continue;
                }
                Message::Reply { .. } => world.reply(definition, message),
            }
        } else if let Some(call) = engine::queued(&world.state).first().copied() {
            let name = definition.step(call.step).unwrap().name.clone();
            advance(definition, local, &mut world, Input::LocalStarted { step: name, op: call.op });
            let answer = world.perform(call.step.0, call.op, Answer::Ok, true);
            super::reply(definition, call.step.0, call.op, answer.unwrap_or(Answer::Rejected))
        } else {
            let due = engine::next_due(definition, &world.state).expect("I1: stuck");
            world.now = world.now.max(due);
            Input::TimerFired
        };
        advance(definition, local, &mut world, input);
        safety(definition, &world);
    }
    panic!("I1: it does not end: {world:#?}");
}

fn advance(definition: &Definition, local: &[u16], world: &mut World, input: Input) {
    let decided = world.decide(definition, local, vec![input]);
    turn(definition, world, &decided);
    assert!(world.commit(decided, local));
}
