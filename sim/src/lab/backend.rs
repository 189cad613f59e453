//! The backend of an experiment: so many workers, a queue, an outage, and a slow start after it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amarra_core::{Class, Classify, Entropy, Environment, Monotonic, SeededEntropy};
use amarra_resilience::Deadline;
use tokio::sync::{Notify, oneshot};

/// Requests served at once.
const WORKERS: usize = 20;
/// How long one takes when the backend is warm.
const SERVICE: Duration = Duration::from_millis(100);
/// Requests that wait; one more is refused.
const QUEUE_MAX: usize = 2000;
/// The share of its speed that a backend starts with, in percent, and how long until it has all.
const COLD_PERCENT: u32 = 25;
const WARM_UP: Duration = Duration::from_secs(10);
/// Of how many requests one is late where some are, and how long it takes.
const LATE_ONE_IN: u64 = 50;
const LATE: Duration = Duration::from_millis(450);

/// What is wrong with the backend between two points of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It refuses each request at once.
    Refuses,
    /// It takes requests and works on none.
    Stalls,
    /// Nothing; one request in fifty is late all the time.
    Late,
}

impl Fault {
    /// Returns its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refuses => "refuses",
            Self::Stalls => "stalls",
            Self::Late => "late",
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trouble(pub(crate) Class);

impl Classify for Trouble {
    fn class(&self) -> Class {
        self.0
    }
}

#[derive(Debug)]
struct Job {
    deadline: Option<Deadline>,
    reply: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Job>,
    /// When each request arrived.
    arrivals: Vec<Monotonic>,
}

/// The backend.
#[derive(Debug)]
pub(crate) struct Backend {
    env: Environment,
    entropy: SeededEntropy,
    fault: Fault,
    /// When it is down.
    down: std::ops::Range<Monotonic>,
    state: Mutex<State>,
    waiting: Notify,
}

impl Backend {
    /// Starts a backend that will be down for a while.
    pub(crate) fn start(
        env: Environment,
        seed: u64,
        fault: Fault,
        down: std::ops::Range<Monotonic>,
    ) -> Arc<Self> {
        let backend = Arc::new(Self {
            env,
            entropy: SeededEntropy::new(seed, "backend"),
            fault,
            down,
            state: Mutex::default(),
            waiting: Notify::new(),
        });
        for _ in 0..WORKERS {
            let backend = Arc::clone(&backend);
            tokio::spawn(async move { backend.work().await });
        }
        backend
    }

    /// Answers a request. A backend that is told the deadline works for nobody in vain.
    pub(crate) async fn ask(&self, deadline: Option<Deadline>) -> Result<(), Trouble> {
        let answer = {
            let now = self.env.monotonic();
            let mut state = self.lock();
            state.arrivals.push(now);
            let refuses = self.fault == Fault::Refuses && self.down.contains(&now);
            if refuses || state.queue.len() >= QUEUE_MAX {
                return Err(Trouble(Class::Transient));
            }
            let (reply, answer) = oneshot::channel();
            state.queue.push_back(Job { deadline, reply });
            answer
        };
        self.waiting.notify_one();
        answer.await.map_err(|_| Trouble(Class::Unknown))
    }

    /// Returns when each request arrived.
    pub(crate) fn arrivals(&self) -> Vec<Monotonic> {
        self.lock().arrivals.clone()
    }

    async fn work(&self) {
        loop {
            let job = self.lock().queue.pop_front();
            let Some(job) = job else {
                self.waiting.notified().await;
                continue;
            };
            if self.fault == Fault::Stalls && self.down.contains(&self.env.monotonic()) {
                self.env.timer.sleep_until(self.down.end).await;
            }
            let now = self.env.monotonic();
            if job.deadline.is_some_and(|deadline| deadline.is_past(now)) {
                continue;
            }
            self.env.sleep(self.service(now)).await;
            // Whoever asked may have gone; the work was done all the same.
            let _ = job.reply.send(());
        }
    }

    fn service(&self, now: Monotonic) -> Duration {
        if self.fault == Fault::Late {
            let late = self.entropy.below(LATE_ONE_IN) == 0;
            return if late { LATE } else { SERVICE };
        }
        let since = now.since(self.down.end);
        if now < self.down.end || since >= WARM_UP {
            return SERVICE;
        }
        let warm = u32::try_from(since.as_millis() * 100 / WARM_UP.as_millis()).unwrap_or(100);
        let percent = COLD_PERCENT + (100 - COLD_PERCENT) * warm / 100;
        SERVICE * 100 / percent
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
