//! The way forward: asking for steps, and what their outcomes bring about.

use std::sync::Arc;

use amarra_core::Class;
use serde_json::Value;

use super::{Cause, End, Event, Illegal, Outcome, Phase, Stage, Turn, Work};
use crate::definition::{Kind, StepIndex};
use crate::request::{Op, SagaId};

impl Turn<'_> {
    pub(super) fn start(&mut self, id: SagaId, input: Arc<Value>) -> Result<Outcome, Illegal> {
        if !matches!(self.state.phase(), Phase::Absent) {
            return Ok(Outcome::Stale);
        }
        let steps = u16::try_from(self.definition.steps().len()).unwrap_or(u16::MAX);
        let deadline = self.definition.deadline().map(|after| self.now.plus(after));
        self.emit(Event::Started { id, input, deadline, steps });
        for at in self.definition.indexes() {
            if self.spec(at).is_some_and(|spec| spec.after.is_empty()) {
                self.send(at, Op::Action, 1);
            }
        }
        Ok(Outcome::Applied)
    }

    pub(super) fn step_completed(&mut self, at: StepIndex, out: Arc<Value>) -> Outcome {
        let abandoned = matches!(self.state.phase(), Phase::Ended(End::Abandoned));
        match self.state.stage(at) {
            _ if abandoned => Outcome::Stale,
            Stage::Active(Op::Action, _) => {
                self.complete(at, out);
                Outcome::Applied
            }
            Stage::Undone | Stage::Rejected => self.late(at, out),
            // Taken back as surely without effect, and yet it has one.
            Stage::Idle if !self.is_forward() => self.late(at, out),
            // Its compensation is under way and undoes this effect too.
            Stage::Active(Op::Compensation, _) | Stage::Unknown => Outcome::Stale,
            Stage::Idle | Stage::Completed => Outcome::Stale,
        }
    }

    fn late(&mut self, at: StepIndex, out: Arc<Value>) -> Outcome {
        if self.state.step(at).is_none_or(|step| step.late) {
            return Outcome::Stale;
        }
        self.emit(Event::Late { s: at, out });
        Outcome::LateSuccess
    }

    pub(super) fn complete(&mut self, at: StepIndex, out: Arc<Value>) {
        self.emit(Event::Completed { s: at, out });
        if !self.is_forward() {
            // A local call that was under way when undoing began.
            self.try_undo(at);
            return;
        }
        for next in self.definition.dependants(at) {
            if self.is_ready(*next) {
                self.send(*next, Op::Action, 1);
            }
        }
        if self.state.all_completed() {
            self.emit(Event::Ended { end: End::Completed });
        }
    }

    fn is_ready(&self, at: StepIndex) -> bool {
        let Some(spec) = self.spec(at) else { return false };
        let completed = |before: &StepIndex| matches!(self.state.stage(*before), Stage::Completed);
        spec.after.iter().all(completed)
    }

    pub(super) fn step_failed(&mut self, at: StepIndex, class: Class, why: Arc<str>) -> Outcome {
        if self.is_ended() {
            return Outcome::Stale;
        }
        match self.state.stage(at) {
            Stage::Active(Op::Action, Work::Parked(_)) if self.kind(at) == Kind::Retriable => {
                Outcome::Stale
            }
            // A refusal is final for the request, whichever attempt it answers.
            Stage::Active(Op::Action, _) if class == Class::Rejected => {
                self.refused(at, why);
                Outcome::Applied
            }
            Stage::Active(Op::Action, Work::Awaiting(_) | Work::Local(_)) => {
                self.attempt_failed(at, class, why);
                Outcome::Applied
            }
            _ => Outcome::Stale,
        }
    }

    /// The action was refused and had no effect.
    pub(super) fn refused(&mut self, at: StepIndex, why: Arc<str>) {
        if self.kind(at) == Kind::Retriable {
            // What follows the pivot has to succeed; only a person can say how.
            self.emit(Event::Parked { s: at, why });
            return;
        }
        self.emit(Event::Rejected { s: at, why });
        self.failed(at, Cause::Rejected(at));
    }

    /// An attempt ended without success and without a final refusal.
    pub(super) fn attempt_failed(&mut self, at: StepIndex, class: Class, why: Arc<str>) {
        let Some(spec) = self.spec(at) else { return };
        let Some(step) = self.state.step(at) else { return };
        let local = matches!(step.stage, Stage::Active(_, Work::Local(_)));
        // "Not applied" about a command speaks of one delivery of it: another may be applied yet.
        // Only a local call is made once.
        let unsure = !(local && matches!(class, Class::Transient | Class::Conflict));
        let ever_unsure = step.unsure || unsure;
        let attempt = step.attempt;
        if spec.kind != Kind::Compensatable {
            if class == Class::Fatal {
                self.emit(Event::Parked { s: at, why });
            } else {
                self.delay(at, Op::Action, unsure, why);
            }
        } else if self.is_forward() && class != Class::Fatal && attempt < spec.policy.attempts_max {
            self.delay(at, Op::Action, unsure, why);
        } else if ever_unsure {
            self.emit(Event::Unknown { s: at, why });
            self.failed(at, Cause::Unknown(at));
        } else {
            self.emit(Event::Rejected { s: at, why });
            self.failed(at, Cause::Rejected(at));
        }
    }

    /// Goes on after a step will not succeed: starts undoing, or lets it go on.
    fn failed(&mut self, at: StepIndex, cause: Cause) {
        if self.is_forward() {
            self.unwind(cause);
        } else {
            self.try_undo(at);
            self.settled(at);
        }
    }
}
