//! A call whose end somebody else decides, for breakers that guard futures.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Call;

/// How often a call that was told to end is polled before it is given up.
const POLLS: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Answer(bool),
    Panic,
}

/// What the breaker guards: pending until it is told how to end.
#[derive(Debug, Clone)]
pub struct Work(Arc<Mutex<Option<End>>>);

impl Work {
    fn end(&self, end: End) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }
}

impl Future for Work {
    type Output = Result<(), ()>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let end = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match end {
            None => Poll::Pending,
            Some(End::Answer(ok)) => Poll::Ready(if ok { Ok(()) } else { Err(()) }),
            // Unwinds like any panic, without printing one.
            Some(End::Panic) => resume_unwind(Box::new("of the guarded call")),
        }
    }
}

/// What a guarded call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The work was done, well or not.
    Done,
    /// The breaker refused.
    Refused,
}

struct InFlight<'a> {
    work: Work,
    call: Pin<Box<dyn Future<Output = Answer> + 'a>>,
}

/// Begins the call that `guard` makes of some work; `None` when it is refused.
pub fn start<'a>(
    guard: impl FnOnce(Work) -> Pin<Box<dyn Future<Output = Answer> + 'a>>,
) -> Option<Box<dyn Call + 'a>> {
    let work = Work(Arc::default());
    let mut in_flight = InFlight { call: guard(work.clone()), work };
    match in_flight.poll() {
        Poll::Ready(Answer::Refused) => None,
        _ => Some(Box::new(in_flight)),
    }
}

impl InFlight<'_> {
    fn poll(&mut self) -> Poll<Answer> {
        self.call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }
}

impl Call for InFlight<'_> {
    fn finish(mut self: Box<Self>, ok: bool) {
        self.work.end(End::Answer(ok));
        let _ = (0..POLLS).find(|_| self.poll().is_ready());
    }

    fn cancel(self: Box<Self>) {}

    fn panic(mut self: Box<Self>) {
        self.work.end(End::Panic);
        // The call is dropped by its own panic, as it would be in a task.
        let _ = catch_unwind(AssertUnwindSafe(move || {
            let _ = self.poll();
        }));
    }
}
