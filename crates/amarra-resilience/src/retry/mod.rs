//! Retry: which failures are tried again, when, and who pays for it.

mod budget;
mod policy;
mod session;

use std::future::Future;

use amarra_core::time::timeout_at;
use amarra_core::{Classify, Environment};

pub use budget::{Budget, BudgetConfig, Reserved};
pub use policy::{Jitter, Policy};
pub use session::{Attempt, Plan};

pub(crate) use session::{Charge, Session};

use crate::error::{Error, Failed};

/// Calls `call` until it succeeds, or another try must not, cannot or may not be made.
///
/// Each try is given what is left to the deadline. Prefer a [`Pipeline`](crate::Pipeline) for
/// calls that leave the process: this is for work that has no breaker in front of it, as a local
/// transaction.
///
/// # Laws
/// - RTY-1 never more than `attempts_max` tries.
/// - RTY-2 after `Unknown` another try only when the plan says the call is idempotent; after
///   `Rejected` and `Fatal` never.
/// - RTY-3 no try is started that has less than `attempt_min` left to the deadline, and no wait
///   that leaves less.
/// - RTY-4 every try after the first that was sent takes one retry out of the budget.
///
/// # Errors
/// [`Failed`] with the last try's error and the reason why there was no further one.
///
/// # Cancellation
/// Dropping the future drops the try where it stands: whatever it asked for may have happened. A
/// retry reserved but not started goes back to the budget.
///
/// # Example
/// See the crate's documentation.
pub async fn retry<T, E, Fut>(
    env: &Environment,
    plan: Plan<'_>,
    mut call: impl FnMut(Attempt) -> Fut,
) -> Result<T, Failed<E>>
where
    E: Classify,
    Fut: Future<Output = Result<T, E>>,
{
    let (mut session, mut charge) = Session::start(plan, env.monotonic())?;
    loop {
        let attempt = session.attempt();
        let started = env.monotonic();
        charge.spend();
        let until = attempt.deadline.at();
        let error = match timeout_at(env.timer.as_ref(), until, call(attempt)).await {
            Ok(Ok(out)) => return Ok(out),
            Ok(Err(error)) => Error::Call(error),
            Err(_) => Error::TimedOut { after: until.since(started) },
        };
        charge = session.again(env, error).await?;
    }
}
