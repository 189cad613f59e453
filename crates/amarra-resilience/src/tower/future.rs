//! The answer of a service behind a breaker.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::error::Refused;
use super::layer::Judge;
use crate::breaker::{Breaker, Outcome, Rejected, Ticket};
use crate::time::Monotonic;

/// A permit that holds its breaker.
///
/// # Cancellation
/// Dropped unfinished it counts as cancelled, or as panicked when a panic drops it.
#[derive(Debug)]
pub(super) struct Lease<B: Deref<Target = Breaker>, C: Fn() -> Monotonic> {
    breaker: B,
    clock: C,
    ticket: Option<Ticket>,
}

impl<B: Deref<Target = Breaker> + Clone, C: Fn() -> Monotonic + Clone> Lease<B, C> {
    #[inline(always)]
    pub(super) fn take(breaker: &B, clock: &C) -> Result<Self, Rejected> {
        let ticket = breaker.admit(clock)?.into_ticket();
        Ok(Self { breaker: breaker.clone(), clock: clock.clone(), ticket: Some(ticket) })
    }
}

impl<B: Deref<Target = Breaker>, C: Fn() -> Monotonic> Lease<B, C> {
    #[inline(always)]
    fn finish(mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.redeem(ticket).finish(&self.clock, outcome);
        }
    }
}

impl<B: Deref<Target = Breaker>, C: Fn() -> Monotonic> Drop for Lease<B, C> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            drop(self.breaker.redeem(ticket).watched(&self.clock));
        }
    }
}

pin_project! {
    /// Resolves to the inner service's answer, or at once to the refusal to call it.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B: Deref<Target = Breaker>, C: Fn() -> Monotonic, J> {
        #[pin]
        inner: Option<F>,
        lease: Option<Lease<B, C>>,
        refused: Option<Rejected>,
        judge: J,
    }
}

impl<F, B: Deref<Target = Breaker>, C: Fn() -> Monotonic, J> std::fmt::Debug
    for ResponseFuture<F, B, C, J>
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").field("refused", &self.refused).finish_non_exhaustive()
    }
}

impl<F, B: Deref<Target = Breaker>, C: Fn() -> Monotonic, J> ResponseFuture<F, B, C, J> {
    #[inline(always)]
    pub(super) fn sent(inner: F, lease: Lease<B, C>, judge: J) -> Self {
        Self { inner: Some(inner), lease: Some(lease), refused: None, judge }
    }

    pub(super) fn refused(refused: Rejected, judge: J) -> Self {
        Self { inner: None, lease: None, refused: Some(refused), judge }
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
        if let Some(inner) = this.inner.as_pin_mut() {
            let answer = ready!(inner.poll(cx));
            if let Some(lease) = this.lease.take() {
                lease.finish(this.judge.judge(&answer));
            }
            return Poll::Ready(answer.map_err(Refused::Inner));
        }
        // Polled again after its end, which no caller may do, it stays pending.
        this.refused
            .take()
            .map_or(Poll::Pending, |refused| Poll::Ready(Err(Refused::Refused(refused))))
    }
}
