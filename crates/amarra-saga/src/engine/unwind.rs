//! The way back: undoing steps in reverse order of their dependencies.

use std::sync::Arc;

use amarra_core::Class;

use super::state::is_settled;
use super::{Cause, End, Event, Outcome, Phase, Stage, Turn, Work};
use crate::definition::StepIndex;
use crate::request::Op;

impl Turn<'_> {
    /// Tells whether the saga goes forward and may still turn back.
    pub(super) fn can_unwind(&self) -> bool {
        let pivot_idle =
            self.definition.pivot().is_none_or(|at| matches!(self.state.stage(at), Stage::Idle));
        self.is_forward() && pivot_idle && !self.definition.is_forward_only()
    }

    pub(super) fn cancel(&mut self, reason: Arc<str>) -> Outcome {
        match self.state.phase() {
            Phase::Forward if self.can_unwind() => {
                self.unwind(Cause::Cancelled(reason));
                Outcome::Applied
            }
            Phase::Forward | Phase::Ended(End::Completed) => Outcome::TooLate,
            _ => Outcome::Stale,
        }
    }

    /// Starts undoing.
    ///
    /// What was asked for by message is undone at once: the barrier at the participant stops an
    /// action that arrives after its compensation. A local call has no barrier and is waited for.
    pub(super) fn unwind(&mut self, cause: Cause) {
        self.emit(Event::Unwinding { cause });
        for at in self.definition.indexes() {
            let Stage::Active(Op::Action, work) = self.state.stage(at) else { continue };
            let unsure = self.state.step(at).is_some_and(|step| step.unsure);
            match work {
                Work::Local(_) => {}
                Work::Queued | Work::Backoff(_) if !unsure => self.emit(Event::Withdrawn { s: at }),
                _ => self.emit(Event::Unknown { s: at, why: "undone while under way".into() }),
            }
        }
        for at in self.definition.indexes() {
            self.try_undo(at);
        }
        self.finish();
    }

    /// Undoes a step if it has an effect and nothing that depends on it has one any more.
    pub(super) fn try_undo(&mut self, at: StepIndex) {
        if !matches!(self.state.stage(at), Stage::Completed | Stage::Unknown) {
            return;
        }
        let settled = |next: &StepIndex| is_settled(self.state.stage(*next));
        if self.definition.dependants(at).iter().all(settled) {
            self.send(at, Op::Compensation, 1);
        }
    }

    /// Goes on after a step may have become free of effects.
    pub(super) fn settled(&mut self, at: StepIndex) {
        let before = self.spec(at).map_or(&[][..], |spec| spec.after.as_slice());
        for before in before {
            self.try_undo(*before);
        }
        self.finish();
    }

    fn finish(&mut self) {
        if self.state.all_settled() {
            self.emit(Event::Ended { end: End::Compensated });
        }
    }

    pub(super) fn compensation_done(&mut self, at: StepIndex) -> Outcome {
        match self.state.stage(at) {
            Stage::Active(Op::Compensation, _) if !self.is_ended() => {
                self.emit(Event::Undone { s: at });
                self.settled(at);
                Outcome::Applied
            }
            _ => Outcome::Stale,
        }
    }

    pub(super) fn compensation_failed(
        &mut self,
        at: StepIndex,
        class: Class,
        why: Arc<str>,
    ) -> Outcome {
        match self.state.stage(at) {
            Stage::Active(Op::Compensation, Work::Awaiting(_) | Work::Local(_))
                if !self.is_ended() =>
            {
                self.undo_failed(at, class, why);
                Outcome::Applied
            }
            _ => Outcome::Stale,
        }
    }

    pub(super) fn undo_failed(&mut self, at: StepIndex, class: Class, why: Arc<str>) {
        let attempts_max = self.spec(at).map_or(1, |spec| spec.policy.compensation_attempts_max);
        let attempt = self.state.step(at).map_or(1, |step| step.attempt);
        if matches!(class, Class::Rejected | Class::Fatal) || attempt >= attempts_max {
            self.emit(Event::Parked { s: at, why });
        } else {
            self.delay(at, Op::Compensation, false, why);
        }
    }
}
