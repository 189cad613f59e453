//! Random definitions and random inputs against a naive model of what may stand at the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Actor, Class, Timestamp};
use amarra_saga::definition::{Kind, StepIndex, StepSpec};
use amarra_saga::engine::{self, End, Event, Phase, State};
use amarra_saga::{Definition, Input, Op, Outcome, Resolution, SagaId, Status, Verb};
use proptest::prelude::*;

use crate::specs::{policy, spec};

/// Compensatable steps with random edges, then a pivot after all of them, then retriable steps.
fn definitions() -> impl Strategy<Value = Definition> {
    let edges = |n: usize| prop::collection::vec(any::<u16>(), n);
    (1usize..6, 0usize..4, any::<bool>(), edges(10)).prop_map(|(before, after, pivot, bits)| {
        let mut steps: Vec<StepSpec> = Vec::new();
        let choose = |from: u16, to: u16, bits: u16| -> Vec<u16> {
            (from..to).filter(|at| bits >> (at % 16) & 1 == 1).collect()
        };
        for at in 0..u16::try_from(before).unwrap() {
            let after = choose(0, at, bits[usize::from(at)]);
            steps.push(spec(&format!("c{at}"), Kind::Compensatable, &after, policy()));
        }
        if pivot {
            let before = u16::try_from(before).unwrap();
            let all: Vec<u16> = (0..before).collect();
            steps.push(spec("p", Kind::Pivot, &all, policy()));
            for at in 0..u16::try_from(after).unwrap() {
                let mut after = choose(before + 1, before + 1 + at, bits[usize::from(at) + 6]);
                after.push(before);
                steps.push(spec(&format!("r{at}"), Kind::Retriable, &after, policy()));
            }
        }
        Definition::new("random", 1, Some(Duration::from_secs(25)), steps).unwrap()
    })
}

#[derive(Debug, Clone)]
enum Move {
    Complete(usize),
    Fail(usize, Class),
    Undone(usize),
    UndoFails(usize, Class),
    Wait(u64),
    Cancel,
    LocalQueue(usize, Op),
    LocalStart(usize, Op),
    Operator(usize, u8),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = 0usize..10;
    let class = prop::sample::select(vec![
        Class::Rejected,
        Class::Transient,
        Class::Unknown,
        Class::Conflict,
        Class::Fatal,
    ]);
    let op = prop::sample::select(vec![Op::Action, Op::Compensation]);
    let one = prop_oneof![
        8 => step.clone().prop_map(Move::Complete),
        2 => (step.clone(), class.clone()).prop_map(|(s, c)| Move::Fail(s, c)),
        6 => step.clone().prop_map(Move::Undone),
        2 => (step.clone(), class).prop_map(|(s, c)| Move::UndoFails(s, c)),
        3 => (0u64..12).prop_map(Move::Wait),
        1 => Just(Move::Cancel),
        1 => (step.clone(), op.clone()).prop_map(|(s, o)| Move::LocalQueue(s, o)),
        2 => (step.clone(), op).prop_map(|(s, o)| Move::LocalStart(s, o)),
        1 => (step, 0u8..6).prop_map(|(s, v)| Move::Operator(s, v)),
    ];
    prop::collection::vec(one, 0..120)
}

struct Model {
    definition: Definition,
    state: State,
    log: Vec<Event>,
    now: Timestamp,
}

impl Model {
    fn name(&self, step: usize) -> Arc<str> {
        let steps = self.definition.steps();
        Arc::clone(&steps[step % steps.len()].name)
    }

    fn input(&mut self, one: &Move) -> Input {
        let why: Arc<str> = "because".into();
        match one {
            Move::Complete(s) => Input::StepCompleted { step: self.name(*s), out: Arc::default() },
            Move::Fail(s, class) => Input::StepFailed { step: self.name(*s), class: *class, why },
            Move::Undone(s) => Input::CompensationDone { step: self.name(*s) },
            Move::UndoFails(s, class) => {
                Input::CompensationFailed { step: self.name(*s), class: *class, why }
            }
            Move::Wait(seconds) => {
                self.now = self.now.plus(Duration::from_secs(*seconds));
                Input::TimerFired
            }
            Move::Cancel => Input::Cancel { reason: why },
            Move::LocalQueue(s, op) => Input::LocalQueued { step: self.name(*s), op: *op },
            Move::LocalStart(s, op) => Input::LocalStarted { step: self.name(*s), op: *op },
            Move::Operator(s, verb) => {
                let step = self.name(*s);
                let verb = match verb {
                    0 => Verb::Retry { step },
                    1 => Verb::Skip { step, output: Arc::default() },
                    2 => Verb::CompensateNow,
                    3 => Verb::Resolve { step, as_: Resolution::NotDone },
                    4 => Verb::Resolve { step, as_: Resolution::NotDone },
                    _ => Verb::Resolve { step, as_: Resolution::Done(Arc::default()) },
                };
                Input::Operator { by: Actor::Admin("root".into()), reason: why, verb }
            }
        }
    }

    fn give(&mut self, input: Input) {
        let before = self.state.clone();
        let decided = engine::handle(&self.definition, &mut self.state, input.clone(), self.now);
        let Ok(decision) = decided else {
            assert_eq!(self.state, before);
            return;
        };
        let nothing = matches!(decision.outcome, Outcome::Stale | Outcome::TooLate);
        assert_eq!(nothing, decision.events.is_empty(), "{input:?}: {decision:?}");
        for event in &decision.events {
            self.check(event);
            self.log.push(event.clone());
        }
        self.check_state();
    }

    /// What the events so far say of a step, read naively from the log.
    fn last(&self, step: StepIndex) -> Option<&Event> {
        self.log.iter().rev().find(|event| match event {
            Event::Sent { s, .. }
            | Event::Completed { s, .. }
            | Event::Rejected { s, .. }
            | Event::Unknown { s, .. }
            | Event::Withdrawn { s }
            | Event::Undone { s } => *s == step,
            _ => false,
        })
    }

    fn is_free(&self, step: StepIndex) -> bool {
        let last = self.last(step);
        matches!(
            last,
            None | Some(Event::Rejected { .. } | Event::Withdrawn { .. } | Event::Undone { .. })
        )
    }

    fn check(&self, event: &Event) {
        let unwinding = self.log.iter().any(|event| matches!(event, Event::Unwinding { .. }));
        match event {
            Event::Sent { s, op: Op::Action, .. } => {
                assert!(!unwinding, "begins while undoing");
                let before = &self.definition.step(*s).unwrap().after;
                let done = |b: &StepIndex| matches!(self.last(*b), Some(Event::Completed { .. }));
                assert!(before.iter().all(done), "{s:?} begins too soon");
            }
            Event::Sent { s, op: Op::Compensation, .. } => {
                assert!(unwinding, "undone without undoing");
                let dependants = self.definition.dependants(*s);
                assert!(dependants.iter().all(|d| self.is_free(*d)), "{s:?} undone too soon");
            }
            Event::Unwinding { .. } => {
                assert!(!unwinding, "undoing begins once");
                if let Some(pivot) = self.definition.pivot() {
                    assert!(self.is_free(pivot), "undone after the pivot");
                }
            }
            Event::Ended { end: End::Completed } => {
                let done = |s| matches!(self.last(s), Some(Event::Completed { .. }));
                assert!(self.definition.indexes().all(done), "completed with steps missing");
            }
            Event::Ended { end: End::Compensated } => {
                let free = |s| self.is_free(s);
                assert!(self.definition.indexes().all(free), "compensated with effects standing");
            }
            _ => {}
        }
        let ended = self.log.iter().any(|event| matches!(event, Event::Ended { .. }));
        assert!(!ended || matches!(event, Event::Late { .. }), "{event:?} after the end");
    }

    fn check_state(&self) {
        assert_eq!(State::replay(&self.log), self.state);
        let ended = matches!(self.state.phase(), Phase::Ended(_));
        let due = engine::next_due(&self.definition, &self.state);
        if ended || self.state.status() == Status::NeedsOperator {
            assert!(!ended || due.is_none());
        } else {
            assert!(due.is_some(), "nothing brings it on: {:#?}", self.state);
        }
    }

    /// Answers everything with success until the saga ends.
    fn finish(&mut self) {
        for _ in 0..500 {
            if matches!(self.state.phase(), Phase::Ended(_)) {
                return;
            }
            let names: Vec<_> =
                self.definition.steps().iter().map(|step| Arc::clone(&step.name)).collect();
            for step in names {
                self.give(Input::StepCompleted { step: Arc::clone(&step), out: Arc::default() });
                self.give(Input::CompensationDone { step });
            }
            self.now = self.now.plus(Duration::from_secs(4));
            self.give(Input::TimerFired);
        }
        panic!("it does not end: {:#?}", self.state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// SGA-1, SGA-3, SGA-4, SGA-6 and SGA-8.
    #[test]
    fn any_inputs_keep_the_laws_and_any_saga_can_end(
        definition in definitions(),
        moves in moves(),
    ) {
        let mut model = Model {
            definition,
            state: State::default(),
            log: Vec::new(),
            now: Timestamp::from_micros(1_000_000),
        };
        model.give(Input::Start { id: SagaId::from("s"), input: Arc::default() });
        for one in &moves {
            let input = model.input(one);
            model.give(input);
        }
        model.finish();
    }

    #[test]
    fn a_log_survives_being_stored(definition in definitions(), moves in moves()) {
        let mut model = Model {
            definition,
            state: State::default(),
            log: Vec::new(),
            now: Timestamp::from_micros(1_000_000),
        };
        model.give(Input::Start { id: SagaId::from("s"), input: Arc::default() });
        for one in &moves {
            let input = model.input(one);
            model.give(input);
        }
        let text = serde_json::to_string(&model.log).unwrap();
        let log: Vec<Event> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&log, &model.log);
        let text = serde_json::to_string(&model.state).unwrap();
        let state: State = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(state, model.state);
    }

    #[test]
    fn a_request_survives_being_text(
        saga in "[a-z:0-9-]{1,12}",
        step in "[a-z]{1,6}",
        undo in any::<bool>(),
    ) {
        let op = if undo { Op::Compensation } else { Op::Action };
        let request = amarra_saga::Request::new(SagaId::from(saga.as_str()), step, op);
        prop_assert_eq!(request.to_string().parse::<amarra_saga::Request>().unwrap(), request);
    }
}

#[test]
fn random_definitions_are_not_all_alike() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let prints: BTreeSet<_> = (0..50)
        .map(|_| definitions().new_tree(&mut runner).unwrap().current().fingerprint())
        .collect();
    assert!(prints.len() > 25, "{} of 50 differ", prints.len());
}
