//! Parses the command line and dispatches; bad input is one clear line and exit code 2.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::plan::{Fault, Plan};
use crate::runner::{self, Batch};
use crate::scenario;

/// Simulates the whole shop under injected faults and checks that nothing is lost, doubled or
/// oversold.
#[derive(Debug, Parser)]
#[command(name = "cargo sim")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs seeds and checks every invariant.
    Run {
        #[command(flatten)]
        batch: BatchArgs,
        /// How many seeds, from `--seed` on.
        #[arg(long, default_value_t = 50)]
        seeds: u64,
        /// The only seed, or with `--seeds` the first.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Runs one seed and prints its trace, an event a line.
    Replay {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// A plan file in place of the plan drawn from the seed.
        #[arg(long)]
        plan: Option<PathBuf>,
        /// The scenario the plan is drawn from.
        #[arg(long, default_value = "shop")]
        scenario: String,
        /// How many orders.
        #[arg(long, default_value_t = ORDERS)]
        orders: u32,
        /// Print JSON Lines.
        #[arg(long)]
        json: bool,
        /// Only events of this order (an id, or its number in the workload).
        #[arg(long)]
        order: Option<String>,
    },
    /// Runs each seed in two processes and compares their traces.
    Verify {
        #[command(flatten)]
        batch: BatchArgs,
        /// How many seeds.
        #[arg(long, default_value_t = 50)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Shrinks the faults of a failing seed to the fewest that still fail.
    Shrink {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// The scenario the plan is drawn from.
        #[arg(long, default_value = "shop")]
        scenario: String,
        /// How many orders.
        #[arg(long, default_value_t = ORDERS)]
        orders: u32,
        /// Where to write the shrunk plan; standard output when left out.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Print JSON Lines.
        #[arg(long)]
        json: bool,
    },
    /// Compares resilience policies: three tiers before a backend that fails and comes back.
    Resilience {
        /// What everything drawn comes from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Print JSON Lines.
        #[arg(long)]
        json: bool,
    },
    /// Lists what there is.
    List {
        /// What to list.
        what: What,
        /// Print JSON Lines.
        #[arg(long)]
        json: bool,
    },
    /// Runs one seed in this process and prints its verdict; `run` starts these.
    #[command(hide = true)]
    Child {
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        plan: Option<PathBuf>,
        #[arg(long, default_value = "shop")]
        scenario: String,
        #[arg(long, default_value_t = ORDERS)]
        orders: u32,
        #[arg(long)]
        trace: bool,
    },
}

/// Orders a run places unless told otherwise.
const ORDERS: u32 = 50;

#[derive(Debug, clap::Args)]
struct BatchArgs {
    /// The scenario; `list scenarios` has all.
    #[arg(long, default_value = "shop")]
    scenario: String,
    /// How many orders a seed places, at most 100,000.
    #[arg(long, default_value_t = ORDERS,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    orders: u32,
    /// How many seeds run at once; the number of cores when left out.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: Option<u64>,
    /// Print JSON Lines.
    #[arg(long)]
    json: bool,
    /// Stop at the first seed that fails.
    #[arg(long)]
    fail_fast: bool,
    /// Stop at the first seed that violates this invariant.
    #[arg(long)]
    until: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    Faults,
    Invariants,
    Scenarios,
}

/// Runs the command line.
pub(crate) fn main() -> ExitCode {
    match dispatch(Cli::parse().verb) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(verb: Verb) -> Result<ExitCode, String> {
    match verb {
        Verb::Run { batch, seeds, seed } => {
            let seeds = if seed.is_some() && !std::env::args().any(|a| a.starts_with("--seeds")) {
                1
            } else {
                seeds
            };
            runner::run(&batch.into_batch(seed.unwrap_or(0), seeds)?)
        }
        Verb::Verify { batch, seeds, seed } => runner::verify(&batch.into_batch(seed, seeds)?),
        Verb::Replay { seed, plan, scenario, orders, json, order } => {
            let plan = load(plan, &scenario, seed, orders)?;
            Ok(crate::report::replay(seed, &plan, json, order.as_deref()))
        }
        Verb::Shrink { seed, scenario, orders, out, json } => {
            let plan = load(None, &scenario, seed, orders)?;
            crate::shrink::shrink(seed, plan, out.as_deref(), json)
        }
        Verb::Resilience { seed, json } => crate::lab::run(seed, json),
        Verb::List { what, json } => {
            list(what, json);
            Ok(ExitCode::SUCCESS)
        }
        Verb::Child { seed, plan, scenario, orders, trace } => {
            let plan = load(plan, &scenario, seed, orders)?;
            crate::child::main(seed, &plan, trace);
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl BatchArgs {
    fn into_batch(self, first: u64, seeds: u64) -> Result<Batch, String> {
        scenario::find(&self.scenario)?;
        if seeds == 0 {
            return Err("--seeds must be at least 1".to_owned());
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let jobs = self.jobs.and_then(|j| usize::try_from(j).ok()).unwrap_or(cores);
        Ok(Batch {
            scenario: self.scenario,
            orders: self.orders,
            first,
            seeds,
            jobs,
            json: self.json,
            fail_fast: self.fail_fast,
            until: self.until,
        })
    }
}

fn load(path: Option<PathBuf>, name: &str, seed: u64, orders: u32) -> Result<Plan, String> {
    let scenario = scenario::find(name)?;
    match path {
        None => Ok(Plan::generate(seed, scenario, orders)),
        Some(path) => {
            let text = std::fs::read_to_string(&path)
                .map_err(|e| format!("cannot read plan {}: {e}", path.display()))?;
            Plan::parse(&text).map_err(|e| format!("plan {}: {e}", path.display()))
        }
    }
}

fn list(what: What, json: bool) {
    let (kind, rows): (_, Vec<(String, String)>) = match what {
        What::Faults => ("fault", Fault::KINDS.iter().map(|(n, w)| own(n, w.trim())).collect()),
        What::Invariants => (
            "invariant",
            amarra_core::InvariantId::ALL.iter().map(|i| own(i.name(), i.law())).collect(),
        ),
        What::Scenarios => {
            ("scenario", scenario::ALL.iter().map(|s| own(s.name, s.what)).collect())
        }
    };
    let count = rows.len();
    for (name, what) in rows {
        if json {
            println!("{}", serde_json::json!({"kind": kind, "name": name, "what": what}));
        } else {
            println!("{name:<24} {what}");
        }
    }
    if json {
        println!("{}", serde_json::json!({"kind": "summary", "listed": kind, "count": count}));
    }
}

fn own(name: &str, what: &str) -> (String, String) {
    (name.to_owned(), what.to_owned())
}

/// Returns the known name with the smallest edit distance to `name`.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    known.min_by_key(|candidate| edit_distance(name, candidate)).unwrap_or_default()
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let best = (*cell + 1).min(left + 1).min(diagonal + usize::from(ca != *cb));
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}
