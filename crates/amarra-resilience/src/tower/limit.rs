//! A service behind a rate limiter.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::error::Refused;
use crate::limiter::{Limited, Limiter};
use crate::time::Monotonic;

/// Makes a [`LimitService`] of a service.
#[derive(Debug, Clone, Copy)]
pub struct LimitLayer<L, C> {
    limiter: L,
    clock: C,
}

impl<L, C> LimitLayer<L, C> {
    /// Makes a layer that asks `limiter` before each call.
    pub fn new(limiter: L, clock: C) -> Self
    where
        L: Deref<Target = Limiter> + Clone,
        C: Fn() -> Monotonic + Clone,
    {
        Self { limiter, clock }
    }
}

impl<S, L: Clone, C: Clone> Layer<S> for LimitLayer<L, C> {
    type Service = LimitService<S, L, C>;

    fn layer(&self, inner: S) -> Self::Service {
        LimitService { inner, limiter: self.limiter.clone(), clock: self.clock.clone() }
    }
}

/// A service that is called at a bounded rate; what is beyond it is refused, not delayed.
#[derive(Debug, Clone)]
pub struct LimitService<S, L, C> {
    inner: S,
    limiter: L,
    clock: C,
}

impl<S, Req, L, C> Service<Req> for LimitService<S, L, C>
where
    S: Service<Req>,
    L: Deref<Target = Limiter>,
    C: Fn() -> Monotonic,
{
    type Response = S::Response;
    type Error = Refused<Limited, S::Error>;
    type Future = LimitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The limiter is asked in `call`: a place taken here could be lost with the caller.
        self.inner.poll_ready(cx).map_err(Refused::Inner)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        match self.limiter.admit((self.clock)()) {
            Ok(()) => LimitFuture { inner: Some(self.inner.call(request)), refused: None },
            Err(limited) => LimitFuture { inner: None, refused: Some(limited) },
        }
    }
}

pin_project! {
    /// Resolves to the inner service's answer, or at once to the refusal to call it.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct LimitFuture<F> {
        #[pin]
        inner: Option<F>,
        refused: Option<Limited>,
    }
}

impl<F, T, E> Future for LimitFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Refused<Limited, E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.inner.as_pin_mut() {
            Some(inner) => inner.poll(cx).map_err(Refused::Inner),
            // Polled again after its end, which no caller may do, it stays pending.
            None => this
                .refused
                .take()
                .map_or(Poll::Pending, |limited| Poll::Ready(Err(Refused::Refused(limited)))),
        }
    }
}
