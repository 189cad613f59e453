//! Hedging: when an answer is late, a second call races the first.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use amarra_core::Environment;

use crate::retry::Budget;

/// When a second call is made.
#[derive(Debug, Clone, Copy)]
pub struct Hedge<'a> {
    /// How long the first call may take before a second one is sent. The 95th percentile of the
    /// callee's answers is a good value: it adds five calls in a hundred.
    pub after: Duration,
    /// What second calls are paid from: one that cannot be paid is not made.
    pub budget: &'a Budget,
}

/// Which call answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Winner {
    /// The first one.
    First,
    /// The second one.
    Second,
}

/// Makes a call, and a second one when the first is late; the first success of both is the answer,
/// and the other is dropped where it stands.
///
/// Only for calls of which two have the effect of one. A first call that fails is not repeated:
/// that is what retry is for.
///
/// # Laws
/// - HDG-1 at most two calls, the second paid from the budget before it is sent.
/// - HDG-2 a failure is the answer only when no other call is out.
///
/// # Errors
/// The error of the call that ended last.
///
/// # Cancellation
/// Dropping the future drops both calls.
///
/// # Source
/// Dean and Barroso, "The Tail at Scale", CACM 2013.
pub async fn hedge<T, E, Fut>(
    env: &Environment,
    plan: Hedge<'_>,
    call: impl FnMut(Winner) -> Fut,
) -> Result<(T, Winner), E>
where
    Fut: Future<Output = Result<T, E>>,
{
    plan.budget.deposit();
    race(env, plan, call).await
}

/// Hedges a call that somebody else has deposited for.
pub(crate) async fn race<T, E, Fut>(
    env: &Environment,
    plan: Hedge<'_>,
    mut call: impl FnMut(Winner) -> Fut,
) -> Result<(T, Winner), E>
where
    Fut: Future<Output = Result<T, E>>,
{
    let late = env.timer.sleep_until(env.monotonic().plus(plan.after));
    let mut first = pin!(Some(call(Winner::First)));
    {
        let mut late = pin!(late);
        let early = poll_fn(|cx| match poll_one(first.as_mut(), cx) {
            Some(answer) => Poll::Ready(Some(answer)),
            None => late.as_mut().poll(cx).map(|()| None),
        });
        if let Some(answer) = early.await {
            return answer.map(|out| (out, Winner::First));
        }
    }
    let second = plan.budget.reserve(env.monotonic()).map(|retry| {
        retry.spend();
        call(Winner::Second)
    });
    let mut second = pin!(second);
    poll_fn(|cx| {
        let calls = [(first.as_mut(), Winner::First), (second.as_mut(), Winner::Second)];
        let mut failed = None;
        for (mut one, winner) in calls {
            match poll_one(one.as_mut(), cx) {
                Some(Ok(out)) => return Poll::Ready(Ok((out, winner))),
                Some(Err(error)) => {
                    one.set(None);
                    failed = Some(error);
                }
                None => {}
            }
        }
        match failed {
            Some(error) if first.is_none() && second.is_none() => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        }
    })
    .await
}

fn poll_one<F: Future>(
    call: std::pin::Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
) -> Option<F::Output> {
    match call.as_pin_mut()?.poll(cx) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}
