//! Decides at each operation of the databases and the broker what goes wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amarra_core::{Entropy, SeededEntropy};
use amarra_memory::{Effect, Faults, Operation, Site, Verdict};

use crate::plan::{Fault, Plan};
use crate::trace::{Event, Trace};

/// How long a caller waits before it takes an unreachable server for lost.
const GIVE_UP: Duration = Duration::from_millis(400);

/// The fault hook of every server, and the count of what took effect.
#[derive(Debug)]
pub(crate) struct Injector {
    epoch: tokio::time::Instant,
    trace: Arc<Trace>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    enabled: bool,
    /// When the first order is placed: plan times count from here.
    load_start: Option<tokio::time::Instant>,
    entropy: SeededEntropy,
    operations: Vec<OperationFault>,
    blocked: Vec<(String, String)>,
    slow: BTreeMap<String, u64>,
    counts: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct OperationFault {
    fault: Fault,
    at_ms: u64,
    skip: u32,
    count: u32,
}

impl Injector {
    /// Takes the operation faults of a plan; nothing happens before [`Injector::start`].
    pub(crate) fn new(
        seed: u64,
        plan: &Plan,
        epoch: tokio::time::Instant,
        trace: Arc<Trace>,
    ) -> Self {
        let operations = plan.faults.iter().filter_map(operation_fault).collect();
        let state = State {
            enabled: false,
            load_start: None,
            entropy: SeededEntropy::new(seed, "servers"),
            operations,
            blocked: Vec::new(),
            slow: BTreeMap::new(),
            counts: BTreeMap::new(),
        };
        Self { epoch, trace, state: Mutex::new(state) }
    }

    /// Starts the faults: plan times count from now.
    pub(crate) fn start(&self) {
        let mut state = self.lock();
        state.enabled = true;
        state.load_start = Some(tokio::time::Instant::now());
    }

    /// Ends every fault for good.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.enabled = false;
        state.blocked.clear();
        state.slow.clear();
    }

    /// Blocks or frees the way from one node or server to another.
    pub(crate) fn block(&self, from: &str, to: &str, blocked: bool) {
        let way = (from.to_owned(), to.to_owned());
        let mut state = self.lock();
        match (blocked, state.blocked.iter().position(|w| *w == way)) {
            (true, _) => state.blocked.push(way),
            (false, Some(index)) => drop(state.blocked.swap_remove(index)),
            (false, None) => {}
        }
    }

    /// Delays what a node sends by `mean_ms` on average, or no longer.
    pub(crate) fn slow(&self, node: &str, mean_ms: Option<u64>) {
        let mut state = self.lock();
        match mean_ms {
            Some(mean) => drop(state.slow.insert(node.to_owned(), mean)),
            None => drop(state.slow.remove(node)),
        }
    }

    /// Counts a fault that took effect, and traces it.
    pub(crate) fn count(&self, kind: &'static str, on: &str) {
        *self.lock().counts.entry(kind).or_default() += 1;
        self.trace.push(Event {
            at_us: u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX),
            node: on.into(),
            what: kind.into(),
            subject: on.into(),
            seen: "fault",
            ..Event::default()
        });
    }

    /// Returns how many faults took effect, by kind.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Faults for Injector {
    fn at(&self, site: &Site<'_>) -> Verdict {
        let mut state = self.lock();
        let mut verdict = state.usual_latency(site);
        if !state.enabled {
            return verdict;
        }
        let server = if site.server == "broker" { "broker" } else { "database" };
        let node = site.client.node.as_ref();
        let hit = if state.is_blocked(node, server) {
            verdict.delay_before = GIVE_UP;
            Some(("partition", lost_request(&site.operation)))
        } else if state.is_blocked(server, node) {
            verdict.delay_after = GIVE_UP;
            Some(("partition-one-way", Effect::LoseReply))
        } else {
            state.operation_hit(site)
        };
        drop(state);
        if let Some((kind, effect)) = hit {
            verdict.effect = effect;
            // A blocked way was counted when it was blocked; here it only shows.
            if !kind.starts_with("partition") {
                self.count(kind, site.server);
            }
        }
        verdict
    }
}

impl State {
    /// Servers are fast, but not always equally: that is what lets two callers race both ways.
    fn usual_latency(&self, site: &Site<'_>) -> Verdict {
        let (chance, most_us) = match site.operation {
            Operation::Begin | Operation::Load { .. } => (3, 1500),
            Operation::Flush => (1, 2000),
            Operation::Publish { .. } | Operation::Replicate => (1, 3000),
            Operation::ClaimDue { .. } | Operation::LogRead { .. } => (4, 1500),
            _ => (0, 0),
        };
        let mut delay = Duration::ZERO;
        if chance > 0 && self.entropy.below(chance) == 0 {
            delay = Duration::from_micros(self.entropy.below(most_us));
        }
        if let Some(&mean) = self.slow.get(site.client.node.as_ref())
            && matches!(
                site.operation,
                Operation::Begin
                    | Operation::Commit { .. }
                    | Operation::Publish { .. }
                    | Operation::CommitOffsets { .. }
            )
        {
            // One in ten waits ten times as long: a tail, not a shift.
            let factor = if self.entropy.below(10) == 0 { 10 } else { 1 };
            delay += Duration::from_millis(self.entropy.below(2 * mean) * factor);
        }
        Verdict::delayed(delay, Duration::ZERO)
    }

    fn is_blocked(&self, from: &str, to: &str) -> bool {
        self.blocked.iter().any(|(f, t)| f == from && t == to)
    }

    fn operation_hit(&mut self, site: &Site<'_>) -> Option<(&'static str, Effect)> {
        let since = self.load_start?.elapsed();
        let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        for armed in &mut self.operations {
            if armed.count == 0 || now_ms < armed.at_ms {
                continue;
            }
            let Some(effect) = effect(&armed.fault, site) else { continue };
            if armed.skip > 0 {
                armed.skip -= 1;
                continue;
            }
            armed.count -= 1;
            return Some((armed.fault.kind(), effect));
        }
        None
    }
}

fn lost_request(operation: &Operation<'_>) -> Effect {
    match operation {
        Operation::Commit { .. } | Operation::Publish { .. } | Operation::CommitOffsets { .. } => {
            Effect::LoseRequest
        }
        _ => Effect::Fail,
    }
}

fn operation_fault(fault: &Fault) -> Option<OperationFault> {
    let (at_ms, skip, count) = match fault {
        Fault::DuplicateDelivery { at_ms, skip, count, .. }
        | Fault::LostAcknowledgement { at_ms, skip, count, .. }
        | Fault::FailedPublish { at_ms, skip, count, .. }
        | Fault::LostOffsetCommit { at_ms, skip, count, .. }
        | Fault::CommitUnknown { at_ms, skip, count, .. }
        | Fault::SerializationFailure { at_ms, skip, count, .. }
        | Fault::ConnectionLoss { at_ms, skip, count, .. } => (*at_ms, *skip, *count),
        _ => return None,
    };
    Some(OperationFault { fault: fault.clone(), at_ms, skip, count })
}

/// What a fault makes of an operation, none when it is not meant.
fn effect(fault: &Fault, site: &Site<'_>) -> Option<Effect> {
    let of_group = |name: &str| match site.operation {
        Operation::Poll { group, .. } | Operation::CommitOffsets { group, .. } => {
            group.as_str() == name
        }
        _ => false,
    };
    let of_source = |name: &str| match site.operation {
        Operation::Publish { source, .. } => source == name,
        _ => false,
    };
    match (fault, site.operation) {
        (Fault::DuplicateDelivery { group, .. }, Operation::Poll { .. }) if of_group(group) => {
            Some(Effect::Duplicate)
        }
        (Fault::LostAcknowledgement { database, .. }, _) if of_source(database) => {
            Some(Effect::LoseReply)
        }
        (Fault::FailedPublish { database, .. }, Operation::Publish { records, .. })
            if of_source(database) =>
        {
            Some(Effect::FailPartway(records.len() / 2))
        }
        (Fault::LostOffsetCommit { group, .. }, Operation::CommitOffsets { .. })
            if of_group(group) =>
        {
            Some(Effect::LoseOffsetCommit)
        }
        (Fault::CommitUnknown { database, applied, .. }, Operation::Commit { .. })
            if site.server == database =>
        {
            Some(if *applied { Effect::LoseReply } else { Effect::LoseRequest })
        }
        (
            Fault::SerializationFailure { database, .. },
            Operation::Load { .. } | Operation::Commit { .. },
        ) if site.server == database => Some(Effect::Serialization),
        (
            Fault::ConnectionLoss { database, .. },
            Operation::Begin
            | Operation::Load { .. }
            | Operation::Save { .. }
            | Operation::ClaimDue { .. },
        ) if site.server == database => Some(Effect::Fail),
        _ => None,
    }
}
