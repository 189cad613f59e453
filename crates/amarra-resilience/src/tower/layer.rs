//! Puts a breaker around a service.

use tower_layer::Layer;

use super::service::BreakerService;
use super::shared::Handle;
use crate::breaker::Outcome;
use crate::time::Monotonic;

/// Says what an answer means for the health of its callee.
pub trait Judge<T, E> {
    /// Judges `answer`.
    fn judge(&self, answer: &Result<T, E>) -> Outcome;
}

/// Takes every error for a failure of the callee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByResult;

impl<T, E> Judge<T, E> for ByResult {
    #[inline]
    fn judge(&self, answer: &Result<T, E>) -> Outcome {
        Outcome::of_result(answer)
    }
}

impl<T, E, F: Fn(&Result<T, E>) -> Outcome> Judge<T, E> for F {
    #[inline]
    fn judge(&self, answer: &Result<T, E>) -> Outcome {
        self(answer)
    }
}

/// Makes a [`BreakerService`] of a service.
///
/// `B` is how the breaker is held ([`Handle`] compares the ways): a [`Shared`](super::Shared), an
/// `Arc`, or a reference where the services do not outlive it. The clock is cloned for each call:
/// let it own nothing that has to be counted, as a [`Ticks`](crate::Ticks) in a `static`.
///
/// # Example
/// ```
/// use amarra_resilience::{Breaker, Ticks, breaker};
/// use amarra_resilience::tower::{BreakerLayer, Shared};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # futures_util::FutureExt::now_or_never(async {
/// // Wound every millisecond by a task of the program.
/// static TICKS: Ticks = Ticks::new();
///
/// let breaker = Shared::new(Breaker::new("provider", breaker::Config::default(), 42)?);
/// let mut provider = ServiceBuilder::new()
///     .layer(BreakerLayer::new(breaker, || TICKS.now()))
///     .service(service_fn(|amount: u32| async move { Ok::<_, std::fmt::Error>(amount) }));
/// assert_eq!(provider.ready().await?.call(7).await?, 7);
/// # Ok(()) }).ok_or("pending")?
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BreakerLayer<B, C, J = ByResult> {
    breaker: B,
    clock: C,
    judge: J,
}

impl<B, C> BreakerLayer<B, C> {
    /// Makes a layer that counts every error as a failure; `clock` is read only when it is needed.
    pub fn new(breaker: B, clock: C) -> Self
    where
        B: Handle,
        C: Fn() -> Monotonic + Clone,
    {
        Self { breaker, clock, judge: ByResult }
    }
}

impl<B, C, J> BreakerLayer<B, C, J> {
    /// Returns this layer with `judge` to say what an answer means.
    pub fn judged<K>(self, judge: K) -> BreakerLayer<B, C, K> {
        BreakerLayer { breaker: self.breaker, clock: self.clock, judge }
    }
}

impl<S, B: Clone, C: Clone, J: Clone> Layer<S> for BreakerLayer<B, C, J> {
    type Service = BreakerService<S, B, C, J>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { breaker, clock, judge } = self.clone();
        BreakerService::new(inner, (breaker, clock, judge))
    }
}
