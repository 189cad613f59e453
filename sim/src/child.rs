//! One seed in this process: simulates, checks, and says what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::trace::Event;
use crate::world;

/// What came of one seed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// Always `seed`.
    pub(crate) kind: String,
    /// The seed.
    pub(crate) seed: u64,
    /// How many orders ended how.
    pub(crate) orders: BTreeMap<String, u64>,
    /// How many faults took effect, by kind.
    pub(crate) faults: BTreeMap<String, u64>,
    /// How many events the trace has.
    pub(crate) events: u64,
    /// Simulated seconds, from the start to the last check.
    pub(crate) simulated_s: f64,
    /// The hash over the whole trace.
    pub(crate) digest: String,
    /// Simulated seconds from the end of the faults until everything had settled.
    pub(crate) heal_s: Option<f64>,
    /// What was violated.
    pub(crate) violations: Vec<Violation>,
    /// The orders' ids in the order they were placed, for `replay --order`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) order_ids: Vec<String>,
}

/// An invariant that did not hold.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Its name, or `process` when the process died.
    pub(crate) invariant: String,
    /// What was seen and what should have been.
    pub(crate) detail: String,
    /// The events that led to it, oldest first.
    #[serde(default)]
    pub(crate) chain: Vec<String>,
}

impl Verdict {
    /// The verdict of a process that died without one.
    pub(crate) fn died(seed: u64, why: &str) -> Self {
        let tail: String = why.chars().rev().take(2000).collect::<Vec<_>>().iter().rev().collect();
        let violation =
            Violation { invariant: "process".to_owned(), detail: tail, chain: Vec::new() };
        Self { kind: "seed".to_owned(), seed, violations: vec![violation], ..Self::default() }
    }

    /// Writes it as a line of JSON.
    pub(crate) fn to_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Simulates a seed, prints its trace if asked to, and its verdict as the last line.
pub(crate) fn main(seed: u64, plan: &Plan, trace: bool) {
    let (mut verdict, events) = simulate(seed, plan);
    if trace {
        events.iter().for_each(|e| println!("{}", e.to_line()));
    }
    verdict.order_ids.clear();
    println!("{}", verdict.to_line());
}

/// Simulates a seed in a runtime of its own.
pub(crate) fn simulate(seed: u64, plan: &Plan) -> (Verdict, Vec<Event>) {
    let mut config = madsim::Config::default();
    config.net.send_latency = Duration::from_millis(1)..Duration::from_millis(3);
    let mut runtime = madsim::runtime::Runtime::with_seed_and_config(seed, config);
    runtime.set_time_limit(TIME_LIMIT);
    runtime.block_on(world::run(seed, plan.clone()))
}

/// Simulated time after which a run is stuck for good.
const TIME_LIMIT: Duration = Duration::from_secs(3600);

/// Turns an order's id or its number in the workload, from 1, into its id.
pub(crate) fn resolve_order(verdict: &Verdict, order: &str) -> String {
    let number = order.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
    number.and_then(|n| verdict.order_ids.get(n)).cloned().unwrap_or_else(|| order.to_owned())
}
