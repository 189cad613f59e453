//! The answer of a service behind a breaker.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::error::Refused;
use super::layer::Judge;
use crate::breaker::{Breaker, Rejected, Ticket};
use crate::time::Monotonic;

/// Where a response is.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The inner service works on it, and the breaker is owed its end.
    Sent(Ticket),
    Refused(Rejected),
    Over,
}

pin_project! {
    /// Resolves to the inner service's answer, or at once to the refusal to call it.
    ///
    /// # Cancellation
    /// Dropped before its end it counts as cancelled, or as panicked when a panic drops it.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B: Deref<Target = Breaker>, C: Fn() -> Monotonic, J> {
        #[pin]
        inner: Option<F>,
        stage: Stage,
        guard: (B, C, J),
    }

    impl<F, B: Deref<Target = Breaker>, C: Fn() -> Monotonic, J> PinnedDrop
        for ResponseFuture<F, B, C, J>
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Stage::Sent(ticket) = *this.stage {
                let (breaker, clock, _) = this.guard;
                breaker.lose_ticket(ticket, &*clock);
            }
        }
    }
}

impl<F, B: Deref<Target = Breaker>, C: Fn() -> Monotonic, J> fmt::Debug
    for ResponseFuture<F, B, C, J>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl<F, B: Deref<Target = Breaker>, C: Fn() -> Monotonic, J> ResponseFuture<F, B, C, J> {
    #[inline(always)]
    pub(super) fn sent(inner: F, ticket: Ticket, guard: (B, C, J)) -> Self {
        Self { inner: Some(inner), stage: Stage::Sent(ticket), guard }
    }

    pub(super) fn refused(refused: Rejected, guard: (B, C, J)) -> Self {
        Self { inner: None, stage: Stage::Refused(refused), guard }
    }
}

impl<F, T, E, B, C, J> Future for ResponseFuture<F, B, C, J>
where
    F: Future<Output = Result<T, E>>,
    B: Deref<Target = Breaker>,
    C: Fn() -> Monotonic,
    J: Judge<T, E>,
{
    type Output = Result<T, Refused<Rejected, E>>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let stage = *this.stage;
        match (stage, this.inner.as_pin_mut()) {
            (Stage::Sent(ticket), Some(inner)) => {
                let answer = ready!(inner.poll(cx));
                let (breaker, clock, judge) = this.guard;
                // A judge that panics leaves the call to the drop, as a panic of the call does.
                let outcome = judge.judge(&answer);
                *this.stage = Stage::Over;
                breaker.redeem(ticket, &*clock, outcome);
                Poll::Ready(answer.map_err(Refused::Inner))
            }
            (Stage::Refused(refused), _) => {
                *this.stage = Stage::Over;
                Poll::Ready(Err(Refused::Refused(refused)))
            }
            // Polled again after its end, which no caller may do, it stays pending.
            _ => Poll::Pending,
        }
    }
}
