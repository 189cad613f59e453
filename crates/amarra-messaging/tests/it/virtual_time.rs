//! A clock that jumps to the next timer once nothing else can run, and an executor on it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use amarra_core::{Clock, Environment, Monotonic, SeededEntropy, Timer, Timestamp};
use async_trait::async_trait;

/// Virtual time: it stands still while anything can run.
#[derive(Debug, Default)]
pub(crate) struct VirtualTime(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    now: u64,
    timers: BTreeMap<(u64, u64), Waker>,
    last_id: u64,
}

impl VirtualTime {
    pub(crate) fn environment(self: &Arc<Self>) -> Environment {
        Environment {
            clock: Arc::clone(self) as Arc<dyn Clock>,
            timer: Arc::clone(self) as Arc<dyn Timer>,
            entropy: Arc::new(SeededEntropy::new(1, "tests")),
        }
    }

    /// Counts the timers that were ever set.
    pub(crate) fn timers_set(&self) -> u64 {
        self.0.lock().unwrap().last_id
    }

    /// Runs a future to its end.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&flag));
        let mut future = pin!(future);
        let mut polls = 0;
        loop {
            while flag.0.swap(false, Ordering::SeqCst) {
                polls += 1;
                assert!(polls < 1_000_000, "it runs hot: a million polls");
                if let Poll::Ready(out) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return out;
                }
            }
            let mut state = self.0.lock().unwrap();
            let next = state.timers.pop_first();
            let ((at, _), waker) = next.expect("nothing can run and no timer is set");
            state.now = state.now.max(at);
            drop(state);
            waker.wake();
        }
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Clock for VirtualTime {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(i64::try_from(self.0.lock().unwrap().now / 1_000).unwrap())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_nanos(self.0.lock().unwrap().now)
    }
}

#[async_trait]
impl Timer for VirtualTime {
    async fn sleep_until(&self, at: Monotonic) {
        Sleep { time: self, at: at.as_nanos(), id: None }.await;
    }
}

struct Sleep<'a> {
    time: &'a VirtualTime,
    at: u64,
    id: Option<u64>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.time.0.lock().unwrap();
        if state.now >= self.at {
            return Poll::Ready(());
        }
        let id = self.id.unwrap_or(state.last_id + 1);
        state.last_id = state.last_id.max(id);
        state.timers.insert((self.at, id), cx.waker().clone());
        drop(state);
        self.id = Some(id);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.time.0.lock().unwrap().timers.remove(&(self.at, id));
        }
    }
}
