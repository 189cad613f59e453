//! The engine by example, with events written in shorthand.

mod back;
mod forward;
mod operator;

use std::sync::Arc;
use std::time::Duration;

use amarra_core::Timestamp;
use amarra_saga::definition::StepIndex;
use amarra_saga::engine::{self, Decision, Event, Illegal, State};
use amarra_saga::{Definition, Input, Op, Outcome, SagaId, Status};
use serde_json::Value;

/// One instance under test.
pub struct Run {
    pub definition: Definition,
    pub state: State,
    pub log: Vec<Event>,
    pub now: Timestamp,
}

impl Run {
    /// Starts an instance; returns it with the events in shorthand.
    pub fn start(definition: Definition) -> (Self, String) {
        let now = Timestamp::from_micros(1_000_000);
        let mut run = Self { definition, state: State::default(), log: Vec::new(), now };
        let events = run.ok(Input::Start { id: SagaId::from("s-1"), input: Arc::default() });
        (run, events)
    }

    pub fn started(definition: Definition) -> Self {
        Self::start(definition).0
    }

    pub fn give(&mut self, input: Input) -> Result<Decision, Illegal> {
        let before = self.state.clone();
        let decided = engine::decide(&self.definition, &self.state, input.clone(), self.now);
        let handled = engine::handle(&self.definition, &mut self.state, input, self.now);
        assert_eq!(decided, handled, "a decision does not depend on who folds it");
        match &handled {
            Ok(decision) => {
                let nothing = matches!(decision.outcome, Outcome::Stale | Outcome::TooLate);
                assert_eq!(nothing, decision.events.is_empty(), "{decision:?}");
                self.log.extend(decision.events.clone());
                assert_eq!(State::replay(&self.log), self.state);
            }
            Err(_) => assert_eq!(self.state, before, "a refused input changes nothing"),
        }
        handled
    }

    /// Gives an input that must be applied; returns its events in shorthand.
    pub fn ok(&mut self, input: Input) -> String {
        let decision = self.give(input).unwrap();
        assert_eq!(decision.outcome, Outcome::Applied);
        self.shorthand(&decision.events)
    }

    pub fn outcome(&mut self, input: Input) -> Outcome {
        self.give(input).unwrap().outcome
    }

    pub fn done(&mut self, step: &str) -> String {
        self.ok(Input::completed(step, Value::Null))
    }

    pub fn undone(&mut self, step: &str) -> String {
        self.ok(Input::undone(step))
    }

    /// Moves time and fires the timer.
    pub fn after(&mut self, seconds: u64) -> String {
        self.now = self.now.plus(Duration::from_secs(seconds));
        let decision = self.give(Input::TimerFired).unwrap();
        self.shorthand(&decision.events)
    }

    pub fn status(&self) -> Status {
        self.state.status()
    }

    /// Returns how long until the saga has to be looked at.
    pub fn due(&self) -> Option<Duration> {
        engine::next_due(&self.definition, &self.state).map(|at| at.since(self.now))
    }

    /// `a!1` action sent, `a~1` compensation sent, `a+` completed, `a-` rejected, `a?` unknown,
    /// `a0` withdrawn, `a.` delayed, `a^` undone, `a#` parked, `a*` late, `a@` queued, `a%` begun.
    fn shorthand(&self, events: &[Event]) -> String {
        let name = |s: &StepIndex| self.definition.step(*s).unwrap().name.to_string();
        let words: Vec<String> = events
            .iter()
            .map(|event| match event {
                Event::Started { .. } => "start".into(),
                Event::Sent { s, op: Op::Action, n, .. } => format!("{}!{n}", name(s)),
                Event::Sent { s, op: Op::Compensation, n, .. } => format!("{}~{n}", name(s)),
                Event::Completed { s, .. } => name(s) + "+",
                Event::Rejected { s, .. } => name(s) + "-",
                Event::Unknown { s, .. } => name(s) + "?",
                Event::Withdrawn { s } => name(s) + "0",
                Event::Delayed { s, .. } => name(s) + ".",
                Event::Undone { s } => name(s) + "^",
                Event::Parked { s, .. } => name(s) + "#",
                Event::Late { s, .. } => name(s) + "*",
                Event::Queued { s } => name(s) + "@",
                Event::LocalStarted { s, .. } => name(s) + "%",
                Event::Unwinding { .. } => "unwind".into(),
                Event::Operator { .. } => "operator".into(),
                Event::Ended { end } => format!("{end:?}").to_lowercase(),
                other => panic!("no shorthand for {other:?}"),
            })
            .collect();
        words.join(" ")
    }
}
