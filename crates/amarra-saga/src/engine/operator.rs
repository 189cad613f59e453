//! What operators do, each with a name and a reason in the log.

use std::sync::Arc;

use amarra_core::Actor;

use super::{Cause, End, Event, Illegal, Outcome, Resolution, Stage, Turn, Verb, Work};
use crate::definition::{Kind, StepIndex};
use crate::request::Op;

impl Turn<'_> {
    pub(super) fn operator(
        &mut self,
        by: Actor,
        reason: Arc<str>,
        verb: Verb,
    ) -> Result<Outcome, Illegal> {
        if self.is_ended() {
            return Err(Illegal::Ended);
        }
        let note = Event::Operator { by, reason, verb: verb.clone(), at: self.now };
        match verb {
            Verb::Retry { step } => {
                let at = self.find(&step)?;
                let (op, n) = self.retry(at, &step)?;
                self.emit(note);
                self.send(at, op, n);
            }
            Verb::Skip { step, output } => {
                let at = self.find(&step)?;
                if !matches!(self.state.stage(at), Stage::Active(Op::Action, _)) {
                    return Err(refuse("skip", step, "its action is not under way"));
                }
                self.emit(note);
                self.complete(at, output);
            }
            Verb::CompensateNow => {
                if !self.is_forward() {
                    return Ok(Outcome::Stale);
                }
                if !self.can_unwind() {
                    return Ok(Outcome::TooLate);
                }
                self.emit(note);
                self.unwind(Cause::Operator);
            }
            Verb::Abandon => {
                self.emit(note);
                self.emit(Event::Ended { end: End::Abandoned });
            }
            Verb::Resolve { step, as_ } => {
                let at = self.find(&step)?;
                self.resolve(at, step, as_, note)?;
            }
        }
        Ok(Outcome::Applied)
    }

    fn find(&self, step: &Arc<str>) -> Result<StepIndex, Illegal> {
        self.definition.find(step).ok_or_else(|| Illegal::NoSuchStep(Arc::clone(step)))
    }

    fn retry(&self, at: StepIndex, step: &Arc<str>) -> Result<(Op, u32), Illegal> {
        let attempt = self.state.step(at).map_or(1, |step| step.attempt);
        match self.state.stage(at) {
            Stage::Active(op, Work::Parked(_)) => Ok((*op, 1)),
            Stage::Active(op, Work::Backoff(_)) => Ok((*op, attempt.saturating_add(1))),
            Stage::Active(..) => Err(refuse("retry", Arc::clone(step), "an attempt is under way")),
            _ => Err(refuse("retry", Arc::clone(step), "nothing of it is under way")),
        }
    }

    fn resolve(
        &mut self,
        at: StepIndex,
        step: Arc<str>,
        as_: Resolution,
        note: Event,
    ) -> Result<(), Illegal> {
        let Stage::Active(op, _) = *self.state.stage(at) else {
            return Err(refuse("resolve", step, "nothing of it is under way"));
        };
        match (op, as_) {
            (Op::Action, Resolution::Done(out)) => {
                self.emit(note);
                self.complete(at, out);
            }
            (Op::Action, Resolution::NotDone) => {
                self.emit(note);
                if self.kind(at) == Kind::Retriable {
                    self.send(at, op, 1);
                } else {
                    self.refused(at, "resolved as not done by an operator".into());
                }
            }
            (Op::Compensation, Resolution::Done(_)) => {
                self.emit(note);
                self.emit(Event::Undone { s: at });
                self.settled(at);
            }
            (Op::Compensation, Resolution::NotDone) => {
                self.emit(note);
                self.send(at, op, 1);
            }
        }
        Ok(())
    }
}

fn refuse(verb: &'static str, step: Arc<str>, why: &'static str) -> Illegal {
    Illegal::Verb { verb, step, why }
}
