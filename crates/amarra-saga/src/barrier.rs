//! The sub-transaction barrier: keeps duplicate, empty and late operations from a participant.

use amarra_store::{Aggregate, Loaded, Session, TxError};
use serde::{Deserialize, Serialize};

use crate::request::{Op, Request};

/// What a participant does with an operation it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Barrier {
    /// The first time: do it in this unit of work.
    Proceed,
    /// It was done before: change nothing, answer as then.
    Duplicate,
    /// A compensation whose action never took effect: change nothing, answer that it is undone.
    NullCompensation,
    /// An action whose compensation was here first: change nothing, and answer nothing or that it
    /// is refused. Doing it would leave an effect nobody undoes.
    Late,
}

impl Barrier {
    /// Tells whether the operation is to be done.
    #[must_use]
    pub fn is_proceed(self) -> bool {
        self == Self::Proceed
    }
}

/// What is recorded of one step of one saga at a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Passed {
    /// Its action was let through.
    action: bool,
    /// Its action was let through and refused, so it has no effect.
    refused: bool,
    /// Its compensation was here.
    compensation: bool,
}

impl Aggregate for Passed {
    const KIND: &'static str = "barrier";
}

/// Passes an operation through the barrier, in the participant's own unit of work.
///
/// # Laws
/// - BAR-1 of all units that ask for one operation of one step, exactly one that commits is told to
///   proceed.
/// - BAR-2 a compensation whose action did not pass is null, and its action is late ever after.
/// - BAR-3 a unit that is rolled back leaves the barrier as it was.
///
/// # Errors
/// Any [`TxError`]; the unit must then be rolled back.
///
/// # Source
/// The sub-transaction barrier of dtm: one record of the action and one of the compensation, the
/// latter taking the action's place when it comes first.
pub async fn guard(session: &mut Session<'_>, request: &Request) -> Result<Barrier, TxError> {
    let mut loaded: Loaded<Passed> = session.load(&key(request)).await?;
    let mut passed = loaded.state.unwrap_or_default();
    let (barrier, changed) = match request.op {
        Op::Action if passed.action => (Barrier::Duplicate, false),
        Op::Action if passed.compensation => (Barrier::Late, false),
        Op::Action => {
            passed.action = true;
            (Barrier::Proceed, true)
        }
        Op::Compensation if passed.compensation => (Barrier::Duplicate, false),
        Op::Compensation => {
            passed.compensation = true;
            let effect = passed.action && !passed.refused;
            (if effect { Barrier::Proceed } else { Barrier::NullCompensation }, true)
        }
    };
    if changed {
        session.save(&mut loaded, passed, "barrier-pass").await?;
    }
    Ok(barrier)
}

/// Records that the action of `request`, which passed, was refused and had no effect: a
/// compensation that comes all the same is then null.
///
/// # Errors
/// Any [`TxError`]; the unit must then be rolled back.
pub async fn refuse(session: &mut Session<'_>, request: &Request) -> Result<(), TxError> {
    let mut loaded: Loaded<Passed> = session.load(&key(request)).await?;
    let passed = Passed { action: true, refused: true, ..loaded.state.unwrap_or_default() };
    session.save(&mut loaded, passed, "barrier-refuse").await.map(drop)
}

fn key(request: &Request) -> String {
    format!("{}:{}", request.saga, request.step)
}
