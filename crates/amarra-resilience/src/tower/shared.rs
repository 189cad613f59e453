//! How a service holds its breaker, and what each of its responses holds of it.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::breaker::Breaker;

/// How a service holds its breaker.
///
/// A response may outlive its service, so each one holds the breaker too. What that costs depends
/// on how it is held:
///
/// | held as | a call costs | the breaker lives |
/// |---|---|---|
/// | `&Breaker` | nothing | longer than its services: in a `static`, or they end before it |
/// | [`Shared`] | some plain loads and stores | as a service does, and longer on a calling thread |
/// | `Arc<Breaker>` | two counts of references, atomic | as long as a service or a response |
/// | `Rc<Breaker>` | two counts of references | the same, on one thread |
pub trait Handle: Deref<Target = Breaker> {
    /// What a response holds until it ends.
    type Lent: Deref<Target = Breaker>;

    /// Returns what the next response holds.
    fn lend(&self) -> Self::Lent;
}

impl Handle for &Breaker {
    type Lent = Self;

    #[inline(always)]
    fn lend(&self) -> Self {
        self
    }
}

impl Handle for Arc<Breaker> {
    type Lent = Self;

    #[inline]
    fn lend(&self) -> Self {
        Self::clone(self)
    }
}

impl Handle for Rc<Breaker> {
    type Lent = Self;

    #[inline]
    fn lend(&self) -> Self {
        Self::clone(self)
    }
}

/// How many spare handles a thread keeps.
const PLACES: usize = 8;

/// Places are dealt in turn, so that breakers of one program seldom have one in common.
static DEALT: AtomicUsize = AtomicUsize::new(0);

std::thread_local! {
    static SPARES: [Cell<Option<Arc<Placed>>>; PLACES] =
        const { [const { Cell::new(None) }; PLACES] };
}

/// A breaker that services share, at no count of references for each call.
///
/// The first response of a thread takes a handle, and when it ends leaves it with its thread as a
/// spare, which the next response on that thread takes. Only responses that overlap on a thread, or
/// end on another one, count references.
///
/// # State
/// A thread keeps at most eight spare handles, one a breaker, each until another breaker needs its
/// place or the thread ends. So a breaker, and its [`Observer`](crate::breaker::Observer), may
/// outlive the last service on it by that. The thread that drops the last service drops its own
/// spare with it: where all runs on one thread nothing outlives its use. Where an observer's end
/// means something to somebody, and services come and go on many threads, hold the breaker in an
/// `Arc`.
///
/// # Example
/// ```
/// use amarra_resilience::{Breaker, Monotonic, breaker};
/// use amarra_resilience::tower::{BreakerLayer, Shared};
/// use tower::{Layer, service_fn};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = Shared::new(Breaker::new("provider", breaker::Config::default(), 42)?);
/// let layer = BreakerLayer::new(breaker.clone(), || Monotonic::from_nanos(0));
/// let _provider = layer.layer(service_fn(|n: u32| async move { Ok::<_, std::fmt::Error>(n) }));
/// assert_eq!(breaker.snapshot().state, breaker::State::Closed);
/// # Ok(()) }
/// ```
pub struct Shared(Arc<Placed>);

struct Placed {
    breaker: Breaker,
    /// Where a thread keeps its spare handle.
    place: usize,
}

impl Shared {
    /// Shares `breaker`.
    #[must_use]
    pub fn new(breaker: Breaker) -> Self {
        Self(Arc::new(Placed { breaker, place: DEALT.fetch_add(1, Ordering::Relaxed) }))
    }

    /// Counts a reference: this thread has no spare handle, or one of another breaker, which this
    /// one takes the place of.
    #[cold]
    #[inline(never)]
    fn lend_another(&self, other: Option<Arc<Placed>>) -> Lent {
        drop(other);
        Lent(Some(Arc::clone(&self.0)))
    }
}

impl From<Breaker> for Shared {
    fn from(breaker: Breaker) -> Self {
        Self::new(breaker)
    }
}

impl Deref for Shared {
    type Target = Breaker;

    #[inline(always)]
    fn deref(&self) -> &Breaker {
        &self.0.breaker
    }
}

impl Clone for Shared {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.0.breaker).finish()
    }
}

impl Handle for Shared {
    type Lent = Lent;

    #[inline(always)]
    fn lend(&self) -> Lent {
        match swap_spare(self.0.place, None) {
            Some(spare) if Arc::ptr_eq(&spare, &self.0) => Lent(Some(spare)),
            other => self.lend_another(other),
        }
    }
}

impl Drop for Shared {
    /// The last one takes the spare of its thread along.
    fn drop(&mut self) {
        if Arc::strong_count(&self.0) == 2 {
            drop_spare(&self.0);
        }
    }
}

/// What a response holds of a [`Shared`] breaker.
pub struct Lent(Option<Arc<Placed>>);

impl Deref for Lent {
    type Target = Breaker;

    #[inline(always)]
    fn deref(&self) -> &Breaker {
        match &self.0 {
            Some(placed) => &placed.breaker,
            None => unreachable!("it is there until this is dropped"),
        }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lent").field(&self.0.as_ref().map(|placed| &placed.breaker)).finish()
    }
}

impl Drop for Lent {
    #[inline(always)]
    fn drop(&mut self) {
        let Some(lent) = self.0.take() else { return };
        // The last handle of all is not worth keeping.
        if Arc::strong_count(&lent) == 1 {
            return;
        }
        if let Some(before) = swap_spare(lent.place, Some(lent)) {
            drop_one_too_many(before);
        }
    }
}

/// Drops a handle whose place was taken by another: of another breaker, or of the same when two
/// responses overlapped. Then the two may have been the last ones.
#[cold]
#[inline(never)]
fn drop_one_too_many(before: Arc<Placed>) {
    if Arc::strong_count(&before) == 2 {
        drop_spare(&before);
    }
}

/// Puts `next` into a place of this thread and returns what was there. What is put there by a
/// thread that ends is dropped.
#[inline(always)]
fn swap_spare(place: usize, next: Option<Arc<Placed>>) -> Option<Arc<Placed>> {
    SPARES
        .try_with(|spares| spares.get(place % PLACES).and_then(|spare| spare.replace(next)))
        .ok()?
}

/// Drops the spare of this thread, if it is of the breaker of `of`.
#[cold]
#[inline(never)]
fn drop_spare(of: &Arc<Placed>) {
    let spare = swap_spare(of.place, None);
    if spare.as_ref().is_some_and(|spare| !Arc::ptr_eq(spare, of)) {
        // What is put back comes to an empty place.
        drop(swap_spare(of.place, spare));
    }
}

#[cfg(test)]
mod tests;
