//! What a person or a program reads after a run: totals, violations, traces.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use amarra_core::EventId;
use serde_json::json;

use crate::child::{self, Verdict};
use crate::plan::{Fault, Plan};
use crate::runner::Batch;
use crate::trace::Event;

/// The sums of a batch.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    seeds: u64,
    /// Seeds that violated an invariant or died.
    pub(crate) violations: u64,
    orders: BTreeMap<String, u64>,
    faults: BTreeMap<String, u64>,
    seeds_with: BTreeMap<String, u64>,
    events: u64,
    simulated_s: f64,
    heal_s: Vec<f64>,
    seeds_per_s: f64,
    jobs: usize,
}

impl Totals {
    /// Adds one seed's verdict.
    pub(crate) fn add(&mut self, verdict: &Verdict) {
        self.seeds += 1;
        self.violations += u64::from(!verdict.violations.is_empty());
        self.events += verdict.events;
        #[expect(clippy::float_arithmetic, reason = "a sum of seconds for a report")]
        {
            self.simulated_s += verdict.simulated_s;
        }
        self.heal_s.extend(verdict.heal_s);
        for (outcome, n) in &verdict.orders {
            *self.orders.entry(outcome.clone()).or_default() += n;
        }
        for (kind, n) in &verdict.faults {
            *self.faults.entry(kind.clone()).or_default() += n;
            *self.seeds_with.entry(kind.clone()).or_default() += 1;
        }
    }

    /// Computes what depends on the whole batch.
    #[expect(clippy::float_arithmetic, reason = "a rate for a report")]
    pub(crate) fn finish(&mut self, took: Duration, jobs: usize) {
        self.heal_s.sort_by(f64::total_cmp);
        let seeds = u32::try_from(self.seeds).map_or(f64::MAX, f64::from);
        self.seeds_per_s = seeds / took.as_secs_f64().max(0.001);
        self.jobs = jobs;
    }

    /// Prints the summary: a line of JSON, or a table.
    pub(crate) fn print(&self, json: bool) {
        let (p50, p99) = (percentile(&self.heal_s, 50), percentile(&self.heal_s, 99));
        if json {
            println!(
                "{}",
                json!({
                    "kind": "summary", "seeds": self.seeds, "violations": self.violations,
                    "orders": self.orders, "faults": self.faults,
                    "seeds_with_fault": self.seeds_with,
                    "events": self.events, "simulated_s": self.simulated_s,
                    "seeds_per_s": self.seeds_per_s, "jobs": self.jobs,
                    "heal_s": {"p50": p50, "p99": p99},
                })
            );
            return;
        }
        println!("orders by outcome");
        for (outcome, n) in &self.orders {
            println!("  {outcome:<24} {n:>10}");
        }
        println!("faults injected           injected    in seeds");
        for (kind, _) in Fault::KINDS {
            let seeds = self.seeds_with.get(*kind).copied().unwrap_or(0);
            let percent = seeds.saturating_mul(100).checked_div(self.seeds).unwrap_or(0);
            let n = self.faults.get(*kind).copied().unwrap_or(0);
            println!("  {kind:<22} {n:>10} {seeds:>7} {percent:>3}%");
        }
        println!("seeds                     {:>10}", self.seeds);
        println!("events                    {:>10}", self.events);
        println!("simulated seconds         {:>10.0}", self.simulated_s);
        println!("seeds per second          {:>10.1}   ({} at once)", self.seeds_per_s, self.jobs);
        println!("time to heal, seconds     p50 {p50:.2}   p99 {p99:.2}");
        println!("seeds with a violation    {:>10}", self.violations);
    }
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let index = sorted.len().saturating_mul(percent) / 100;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Prints a seed's violations with their causal chains and how to see them again.
pub(crate) fn violation(batch: &Batch, seed: u64, verdict: &Verdict) {
    for violation in &verdict.violations {
        eprintln!("VIOLATION of {} in seed {seed}: {}", violation.invariant, violation.detail);
        for line in &violation.chain {
            eprintln!("  {line}");
        }
    }
    eprintln!(
        "REPRODUCE WITH: cargo sim replay --seed {seed} --scenario {} --orders {}",
        batch.scenario, batch.orders
    );
}

/// Runs a seed in this process and prints its trace; exit code 1 when an invariant was violated.
pub(crate) fn replay(seed: u64, plan: &Plan, json: bool, order: Option<&str>) -> ExitCode {
    let (verdict, events) = child::simulate(seed, plan);
    let chosen = order.map(|o| child::resolve_order(&verdict, o));
    let shown = events.iter().filter(|e| match &chosen {
        None => true,
        Some(id) => e.order.is_some_and(|o| o.to_string() == *id),
    });
    for event in shown {
        if json {
            println!("{}", event.to_line());
        } else {
            println!("{}", event.to_text());
        }
    }
    for violation in &verdict.violations {
        if json {
            println!(
                "{}",
                json!({"kind": "violation", "invariant": violation.invariant,
                       "detail": violation.detail, "chain": violation.chain})
            );
        } else {
            println!("VIOLATION of {}: {}", violation.invariant, violation.detail);
            violation.chain.iter().for_each(|line| println!("  {line}"));
        }
    }
    if json {
        let mut summary = serde_json::to_value(&verdict).unwrap_or_default();
        if let Some(map) = summary.as_object_mut() {
            map.insert("kind".to_owned(), json!("summary"));
        }
        println!("{summary}");
    } else {
        println!(
            "seed {seed}: {} events, digest {}, {} violations, {:.1} simulated seconds",
            verdict.events,
            verdict.digest,
            verdict.violations.len(),
            verdict.simulated_s
        );
    }
    ExitCode::from(u8::from(!verdict.violations.is_empty()))
}

/// Returns an event's causal chain, oldest first, as lines for a person.
pub(crate) fn causal_chain(events: &[Event], last: EventId, most: usize) -> Vec<String> {
    let mut by_id: BTreeMap<EventId, &Event> = BTreeMap::new();
    for event in events {
        if let Some(id) = event.id {
            by_id.entry(id).or_insert(event);
        }
    }
    let mut chain = Vec::new();
    let mut next = Some(last);
    while let Some(event) = next.and_then(|id| by_id.get(&id)) {
        if chain.len() >= most {
            break;
        }
        chain.push(event.to_text());
        next = event.causation;
    }
    chain.reverse();
    chain
}
