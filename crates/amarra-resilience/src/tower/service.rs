//! A service behind a breaker.

use std::task::{Context, Poll};

use tower_service::Service;

use super::error::Refused;
use super::future::ResponseFuture;
use super::layer::Judge;
use super::shared::Handle;
use crate::breaker::Rejected;
use crate::time::Monotonic;

/// A service behind a breaker.
///
/// # Laws
/// - TWR-1 while the breaker refuses, the inner service is neither polled nor called.
/// - TWR-2 the inner service is called only after it said that it is ready.
/// - TWR-3 a clone asks its own inner service for readiness; none is shared.
///
/// # Cancellation
/// Dropping the response future drops the inner one where it stands and counts as cancelled.
#[derive(Debug)]
pub struct BreakerService<S, B, C, J> {
    inner: S,
    guard: (B, C, J),
    /// What `poll_ready` was refused with; the call that follows is.
    refused: Option<Rejected>,
}

impl<S, B, C, J> BreakerService<S, B, C, J> {
    pub(super) fn new(inner: S, guard: (B, C, J)) -> Self {
        Self { inner, guard, refused: None }
    }

    /// Returns the service within.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: Clone, B: Clone, C: Clone, J: Clone> Clone for BreakerService<S, B, C, J> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.guard.clone())
    }
}

impl<S, Req, B, C, J> Service<Req> for BreakerService<S, B, C, J>
where
    S: Service<Req>,
    B: Handle,
    C: Fn() -> Monotonic + Clone,
    J: Judge<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = Refused<Rejected, S::Error>;
    type Future = ResponseFuture<S::Future, B::Lent, C, J>;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let (breaker, clock, _) = &self.guard;
        self.refused = breaker.peek(clock).err();
        if self.refused.is_some() {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx).map_err(Refused::Inner)
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let (breaker, clock, judge) = &self.guard;
        let guard = (breaker.lend(), clock.clone(), judge.clone());
        if let Some(refused) = self.refused.take() {
            return ResponseFuture::refused(refused, guard);
        }
        match breaker.admit(clock) {
            // The inner service stays ready for the next call.
            Err(refused) => ResponseFuture::refused(refused, guard),
            Ok(permit) => {
                // A panic of the inner service is an end of the call too.
                let watched = permit.watched(clock);
                let inner = self.inner.call(request);
                ResponseFuture::sent(inner, watched.into_ticket(), guard)
            }
        }
    }
}
