//! A deterministic single-thread executor with a manual clock, for laws, tests and examples.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use amarra_core::{Clock, Environment, Monotonic, SeededEntropy, Timer, Timestamp};
use async_trait::async_trait;

/// Where the wall clock of a harness starts: 2023-11-14T22:13:20Z.
const START_MICROS: i64 = 1_700_000_000_000_000;

/// A clock that moves only when told to, with the timer paired to it.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use amarra_conformance::ManualClock;
/// use amarra_core::Clock;
///
/// let clock = ManualClock::new();
/// let before = clock.monotonic();
/// clock.advance(Duration::from_secs(3));
/// assert_eq!(clock.monotonic().since(before), Duration::from_secs(3));
/// ```
#[derive(Debug, Default)]
pub struct ManualClock {
    skew_micros: AtomicI64,
    state: Mutex<Sleepers>,
}

#[derive(Debug, Default)]
struct Sleepers {
    now: Monotonic,
    next_ticket: u64,
    waiting: BTreeMap<(Monotonic, u64), Waker>,
}

impl ManualClock {
    /// Makes a clock at its start.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves time forward and wakes the sleepers that are due, in the order of their points.
    pub fn advance(&self, d: Duration) {
        let to = self.lock().now.plus(d);
        self.advance_to(to);
    }

    /// Moves the wall clock by `micros` in either direction, and monotonic time not at all.
    pub fn jump_wall(&self, micros: i64) {
        self.skew_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Moves time to the first sleeper's point and wakes it; `false` when nobody sleeps.
    pub fn advance_to_next(&self) -> bool {
        let next = self.lock().waiting.first_key_value().map(|(&(at, _), _)| at);
        next.inspect(|&at| self.advance_to(at)).is_some()
    }

    fn advance_to(&self, to: Monotonic) {
        let mut due = Vec::new();
        {
            let mut state = self.lock();
            state.now = state.now.max(to);
            while let Some(entry) = state.waiting.first_entry() {
                if entry.key().0 > to {
                    break;
                }
                due.push(entry.remove());
            }
        }
        due.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Sleepers> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let passed = self.monotonic().since(Monotonic::default());
        let start = START_MICROS.saturating_add(self.skew_micros.load(Ordering::Relaxed));
        Timestamp::from_micros(start).plus(passed)
    }

    fn monotonic(&self) -> Monotonic {
        self.lock().now
    }
}

#[async_trait]
impl Timer for ManualClock {
    async fn sleep_until(&self, at: Monotonic) {
        let ticket = {
            let mut state = self.lock();
            state.next_ticket = state.next_ticket.saturating_add(1);
            state.next_ticket
        };
        Sleep { clock: self, key: (at, ticket) }.await;
    }
}

/// One wait; dropping it forgets the wait.
struct Sleep<'a> {
    clock: &'a ManualClock,
    key: (Monotonic, u64),
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.lock();
        if state.now >= self.key.0 {
            return Poll::Ready(());
        }
        state.waiting.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        self.clock.lock().waiting.remove(&self.key);
    }
}

/// Runs futures on the calling thread in a fixed order, and moves a [`ManualClock`] to the next
/// timer whenever none of them can go on.
///
/// Timeouts are therefore real and cost no wall-clock time, and two runs are equal.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use amarra_conformance::Harness;
///
/// let harness = Harness::new(7);
/// let env = harness.environment("docs");
/// let start = env.monotonic();
/// let background = env.clone();
/// harness.spawn(async move { background.sleep(Duration::from_secs(60)).await });
/// harness.block_on(env.sleep(Duration::from_secs(3600)));
/// assert_eq!(env.monotonic().since(start), Duration::from_secs(3600));
/// ```
#[derive(Clone)]
pub struct Harness {
    seed: u64,
    clock: Arc<ManualClock>,
    spawned: Rc<RefCell<VecDeque<LocalFuture>>>,
}

type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

impl Harness {
    /// Makes a harness whose entropy comes from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, clock: Arc::new(ManualClock::new()), spawned: Rc::default() }
    }

    /// Returns the clock, to move it by hand.
    #[must_use]
    pub fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.clock)
    }

    /// Makes the ambient ports of one process, with its own stream of randomness.
    #[must_use]
    pub fn environment(&self, process: &str) -> Environment {
        Environment {
            clock: self.clock(),
            timer: self.clock(),
            entropy: Arc::new(SeededEntropy::new(self.seed, process)),
        }
    }

    /// Adds a future to run beside the one of [`block_on`](Self::block_on).
    ///
    /// It may be called from inside a running future. What has not ended when `block_on` returns is
    /// dropped.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.spawned.borrow_mut().push_back(Box::pin(task));
    }

    /// Runs `main` to its end, with everything spawned beside it.
    ///
    /// # Panics
    /// When `main` cannot go on, nor anything else, and no timer is set: a deadlock.
    pub fn block_on<F: Future>(&self, main: F) -> F::Output {
        let main = pin!(main);
        let mut main = Task::new(main);
        let mut tasks: Vec<Task<LocalFuture>> = Vec::new();
        loop {
            tasks.extend(self.spawned.borrow_mut().drain(..).map(Task::new));
            let mut progress = main.flag.is_set();
            if let Poll::Ready(output) = main.poll_if_woken() {
                return output;
            }
            tasks.retain_mut(|task| {
                progress |= task.flag.is_set();
                task.poll_if_woken().is_pending()
            });
            if !progress && self.spawned.borrow().is_empty() && !self.clock.advance_to_next() {
                assert!(
                    main.flag.is_set() || tasks.iter().any(|task| task.flag.is_set()),
                    "deadlock: no future can go on and no timer is set"
                );
            }
        }
    }
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").field("seed", &self.seed).field("clock", &self.clock).finish()
    }
}

struct Task<F> {
    future: F,
    flag: Arc<Flag>,
    waker: Waker,
}

impl<F: Future + Unpin> Task<F> {
    fn new(future: F) -> Self {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        Self { future, waker: Waker::from(Arc::clone(&flag)), flag }
    }

    fn poll_if_woken(&mut self) -> Poll<F::Output> {
        if !self.flag.0.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        Pin::new(&mut self.future).poll(&mut Context::from_waker(&self.waker))
    }
}

#[derive(Debug)]
struct Flag(AtomicBool);

impl Flag {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleepers_wake_in_the_order_of_their_points() {
        let harness = Harness::new(1);
        let env = harness.environment("test");
        let order = Rc::new(RefCell::new(Vec::new()));
        for secs in [3, 1, 2] {
            let (env, order) = (env.clone(), Rc::clone(&order));
            harness.spawn(async move {
                env.sleep(Duration::from_secs(secs)).await;
                order.borrow_mut().push(secs);
            });
        }
        harness.block_on(env.sleep(Duration::from_secs(9)));
        assert_eq!(*order.borrow(), [1, 2, 3]);
    }

    #[test]
    fn a_ready_future_needs_no_time() {
        let harness = Harness::new(1);
        let env = harness.environment("test");
        let answer = harness.block_on(env.timeout(Duration::from_secs(5), async { 7 }));
        assert_eq!(answer, Ok(7));
        assert_eq!(env.monotonic(), Monotonic::default());
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_deadlock_is_reported() {
        Harness::new(1).block_on(std::future::pending::<()>());
    }

    #[test]
    fn a_jump_of_the_wall_clock_moves_no_timer() {
        let clock = ManualClock::new();
        clock.jump_wall(-9_000_000);
        assert_eq!(clock.now(), Timestamp::from_micros(START_MICROS - 9_000_000));
        assert_eq!(clock.monotonic(), Monotonic::default());
    }
}
