//! Watches the guards of every outgoing call of the shop: breakers, permits, retries.
//!
//! The state of each breaker is looked at whenever its node reads the clock, which a breaker does
//! before every decision that turns it; and each call that leaves passes a wrapper of its port.
//! What was seen on the wire is all the checks go by: they keep books of their own.

mod breaker;
mod ports;
mod retry;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amarra_core::{Clock, Monotonic};
use amarra_resilience::retry::BudgetConfig;
use amarra_resilience::{Policy, breaker as product};
use amarra_shop::Guard;
use tokio::time::Instant;

pub(crate) use self::ports::{
    WatchedCarrier, WatchedClock, WatchedMerchant, WatchedProvider, WatchedSender, WatchedUpstream,
};

use self::breaker::Books;
use self::retry::Calls;
use crate::invariant::Finding;
use crate::oracle::Raw;

/// Processes and times by operation.
type Doubts = BTreeMap<String, (String, Instant)>;

/// Laws that were broken, of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Laws {
    found: Mutex<Vec<Raw>>,
    /// Operations whose outcome is in doubt, with the process that left them so and when it sent
    /// them.
    doubts: Mutex<Doubts>,
}

/// What is broken when a wait that should be random is not.
const JITTER: &str = "jitter";

/// Findings kept of one run; the first ones matter.
const FINDINGS_MAX: usize = 20;

impl Laws {
    /// Returns what was found.
    pub(crate) fn take(&self) -> Vec<Raw> {
        std::mem::take(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn broken(&self, law: &'static str, detail: String) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() < FINDINGS_MAX {
            found.push(Raw { invariant: law, finding: Finding::new(detail) });
        }
    }

    fn doubts(&self) -> MutexGuard<'_, Doubts> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the guards of a callee are configured to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The breaker.
    pub(crate) breaker: product::Config,
    /// How long one try may take.
    pub(crate) timeout: Duration,
    /// How tries are repeated; none where they are not.
    pub(crate) retry: Option<(Policy, BudgetConfig)>,
}

/// How a call that left ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The callee answered; a no is an answer.
    Answered,
    /// The callee failed, or surely did nothing.
    Failed,
    /// Nobody knows whether it acted.
    Unknown,
    /// Whoever called stopped waiting.
    Dropped,
}

/// A complaint: the law, and what was seen.
type Broken = (&'static str, String);

/// What one process sends, and the guards it passes.
#[derive(Debug)]
pub(crate) struct Watch {
    process: String,
    clock: Arc<dyn Clock>,
    laws: Arc<Laws>,
    callees: Mutex<BTreeMap<String, Callee>>,
}

#[derive(Debug)]
struct Callee {
    books: Books,
    calls: Calls,
}

impl Watch {
    /// Watches a process whose true clock is `clock`.
    pub(crate) fn new(process: String, clock: Arc<dyn Clock>, laws: Arc<Laws>) -> Arc<Self> {
        Arc::new(Self { process, clock, laws, callees: Mutex::default() })
    }

    /// Looks at `guards` from now on.
    pub(crate) fn add(&self, guards: Vec<Arc<Guard>>, bounds: Bounds) {
        let now = self.clock.monotonic();
        for guard in guards {
            let name = guard.name().to_owned();
            let Some(books) = Books::open(guard, bounds, now) else { continue };
            let calls = Calls::new(bounds.retry, now);
            self.lock().insert(name, Callee { books, calls });
        }
    }

    /// Looks at every breaker.
    fn look(&self) {
        let now = self.clock.monotonic();
        let mut broken = Vec::new();
        for callee in self.lock().values_mut() {
            callee.books.look(now, &mut broken);
        }
        self.tell("", broken);
    }

    /// Notes that a call leaves for `callee`; `call` names it, where its repetitions share a name.
    fn sent(self: &Arc<Self>, callee: &str, call: Option<(String, bool)>) -> Sending {
        let now = self.clock.monotonic();
        let mut broken = Vec::new();
        let number = self.lock().get_mut(callee).map(|known| {
            if let Some((call, idempotent)) = &call {
                known.calls.sent(now, call, *idempotent, &mut broken);
            }
            known.books.sent(now, &mut broken)
        });
        self.tell(callee, broken);
        let (watch, callee) = (Arc::clone(self), callee.to_owned());
        Sending { watch, callee, number, call: call.map(|(call, _)| call), ended: Ended::Dropped }
    }

    fn ended(&self, sending: &Sending) {
        let (now, Some(number)) = (self.clock.monotonic(), sending.number) else { return };
        if let Some(known) = self.lock().get_mut(&sending.callee) {
            known.books.ended(now, number, sending.ended);
            if let Some(call) = &sending.call {
                known.calls.ended(now, call, sending.ended);
            }
        }
    }

    fn tell(&self, callee: &str, broken: Vec<Broken>) {
        for (law, detail) in broken {
            self.laws.broken(law, format!("{} {callee} {detail}", self.process));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Callee>> {
        self.callees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is out.
#[derive(Debug)]
pub(crate) struct Sending {
    watch: Arc<Watch>,
    callee: String,
    number: Option<u64>,
    call: Option<String>,
    ended: Ended,
}

impl Sending {
    /// Notes how it ended.
    fn end(mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.watch.ended(self);
    }
}

/// Writes a point of time in seconds.
fn seconds(at: Monotonic) -> String {
    format!("{:?}", at.since(Monotonic::default()))
}
