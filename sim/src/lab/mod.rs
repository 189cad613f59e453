//! What resilience policies are worth: three tiers before a backend that fails and comes back.
//!
//! The guards are those of `amarra-resilience`; only the callee and the customers are made up. Time
//! is simulated and everything drawn comes from the seed, so that a table repeats exactly.

mod backend;
mod measure;
mod policies;
mod tier;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use amarra_core::{Entropy, Environment, Monotonic, SeededEntropy};
use amarra_resilience::{ConfigError, Deadline};

use self::backend::{Backend, Fault};
use self::measure::{Asked, Row};
use self::policies::Policies;
use self::tier::{Below, Replica, Tier};
use crate::env::{Skew, environment};

/// The mean time between two requests.
const ARRIVAL_MEAN: Duration = Duration::from_millis(10);
/// How long a customer waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// When the backend fails, and when it is back.
const DOWN: std::ops::Range<u64> = 10..30;
/// When the last request is sent.
const END: u64 = 90;
/// Processes of a tier.
const REPLICAS: usize = 4;
/// How long one try may take, from the backend's callers up to the customers'.
const TIERS: [(&str, Duration); 3] = [
    ("back", Duration::from_millis(500)),
    ("middle", Duration::from_millis(1000)),
    ("front", Duration::from_millis(1500)),
];

/// Runs every experiment and prints its tables.
///
/// # Errors
/// One line when an experiment could not be set up.
pub(crate) fn run(seed: u64, json: bool) -> Result<ExitCode, String> {
    for fault in [Fault::Refuses, Fault::Stalls, Fault::Late] {
        let compared = if fault == Fault::Late { policies::HEDGED } else { policies::COMPARED };
        if !json {
            measure::heading(fault);
        }
        for &policies in compared {
            let row = experiment(seed, fault, policies).map_err(|e| e.to_string())?;
            row.print(json);
        }
    }
    let per_tier = 100 + u32::from(policies::BUDGET_PERCENT);
    if json {
        println!(
            "{}",
            serde_json::json!({
                "kind": "summary", "seed": seed, "tiers": TIERS.len(),
                "attempts": policies::ATTEMPTS, "budget_percent_per_tier": per_tier,
                "budget_tokens": policies::TOKENS, "replicas": REPLICAS,
            })
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs one experiment in a runtime of its own.
fn experiment(seed: u64, fault: Fault, policies: Policies) -> Result<Row, ConfigError> {
    let mut runtime =
        madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
    runtime.set_time_limit(Duration::from_secs(END + 60));
    runtime.block_on(simulate(seed, fault, policies))
}

async fn simulate(seed: u64, fault: Fault, policies: Policies) -> Result<Row, ConfigError> {
    let epoch = tokio::time::Instant::now();
    let env = |name: &str| environment(epoch, Skew::default(), seed, name);
    let backend = Backend::start(env("backend"), seed, fault, at(DOWN.start)..at(DOWN.end));
    let mut below = Below::Backend(Arc::clone(&backend));
    for (name, timeout) in TIERS {
        let mut replicas = Vec::new();
        for n in 0..REPLICAS {
            let env = env(&format!("{name}-{n}"));
            let last = matches!(below, Below::Backend(_));
            let pipeline = policies.pipeline(&env, timeout, last)?;
            replicas.push(Replica { env, pipeline });
        }
        below = Below::Tier(Tier::new(replicas, below, policies.deadline));
    }
    let Below::Tier(front) = below else { return Ok(Row::default()) };
    let asked = customers(&env("customers"), seed, &front, policies.deadline).await;
    Ok(Row::of((fault, policies.name), &asked, &backend.arrivals()))
}

/// Sends requests at random times, whether or not earlier ones were answered.
async fn customers(env: &Environment, seed: u64, front: &Arc<Tier>, tells: bool) -> Vec<Asked> {
    let entropy = SeededEntropy::new(seed, "customers");
    let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let twice = u64::try_from(ARRIVAL_MEAN.as_micros()).unwrap_or(0) * 2;
    while env.monotonic() < at(END) {
        env.sleep(Duration::from_micros(entropy.below(twice))).await;
        let (env, front, asked) = (env.clone(), Arc::clone(front), Arc::clone(&asked));
        tokio::spawn(async move {
            let began = env.monotonic();
            let deadline = tells.then(|| Deadline::after(began, PATIENCE, 8));
            let answer = env.timeout(PATIENCE, front.ask(deadline)).await;
            let good = matches!(answer, Ok(Ok(Ok(()))));
            let took = env.monotonic().since(began);
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push(Asked { began, took, good });
        });
    }
    env.sleep(PATIENCE * 2).await;
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    asked.clone()
}

/// Returns the point of time so many seconds after the start.
fn at(seconds: u64) -> Monotonic {
    Monotonic::default().plus(Duration::from_secs(seconds))
}
