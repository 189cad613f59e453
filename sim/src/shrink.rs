//! Shrinks a failing plan by delta debugging: fewer faults, then milder ones.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::child::Verdict;
use crate::plan::Plan;
use crate::runner;

/// Runs at most this many candidates.
const RUNS_MAX: u32 = 400;

/// Shrinks the plan of a failing seed and prints or writes what is left.
///
/// # Errors
/// When the seed does not fail, or a file or process cannot be had.
pub(crate) fn shrink(
    seed: u64,
    plan: Plan,
    out: Option<&Path>,
    json: bool,
) -> Result<ExitCode, String> {
    let before = plan.faults.len();
    let mut search = Search { seed, runs: 0 };
    let invariant = search
        .fails(&plan, None)?
        .ok_or_else(|| format!("seed {seed} does not fail: there is nothing to shrink"))?;
    let plan = search.minimise(plan, &invariant)?;
    let text = serde_json::to_string_pretty(&plan).map_err(|e| e.to_string())?;
    match out {
        Some(path) => std::fs::write(path, &text)
            .map_err(|e| format!("cannot write {}: {e}", path.display()))?,
        None if !json => println!("{text}"),
        None => {}
    }
    if json {
        println!(
            "{}",
            json!({"kind": "summary", "seed": seed, "invariant": invariant, "before": before,
                   "after": plan.faults.len(), "runs": search.runs, "plan": plan})
        );
    } else {
        eprintln!(
            "{before} faults shrunk to {} in {} runs; {invariant} still fails",
            plan.faults.len(),
            search.runs
        );
    }
    Ok(ExitCode::SUCCESS)
}

struct Search {
    seed: u64,
    runs: u32,
}

impl Search {
    /// Runs a candidate; returns the invariant it violates, that of `same` only when given.
    fn fails(&mut self, plan: &Plan, same: Option<&str>) -> Result<Option<String>, String> {
        self.runs += 1;
        let path = std::env::temp_dir().join(format!(
            "amarra-shrink-{}-{}.json",
            std::process::id(),
            self.runs
        ));
        let text = serde_json::to_string(plan).map_err(|e| e.to_string())?;
        std::fs::write(&path, text).map_err(|e| format!("cannot write a plan: {e}"))?;
        let args = [
            "child".to_owned(),
            format!("--seed={}", self.seed),
            format!("--plan={}", path.display()),
        ];
        let verdict: Verdict = runner::finish(self.seed, runner::spawn(&args)?)?;
        std::fs::remove_file(&path).ok();
        let mut violated = verdict.violations.into_iter().map(|v| v.invariant);
        Ok(violated.find(|name| same.is_none_or(|wanted| wanted == name)))
    }

    fn minimise(&mut self, mut plan: Plan, invariant: &str) -> Result<Plan, String> {
        let mut parts = 2;
        while plan.faults.len() > 1 && self.runs < RUNS_MAX {
            let size = plan.faults.len().div_ceil(parts);
            let mut reduced = None;
            for start in (0..plan.faults.len()).step_by(size) {
                let mut candidate = plan.clone();
                let end = (start + size).min(candidate.faults.len());
                candidate.faults.drain(start..end);
                if self.fails(&candidate, Some(invariant))?.is_some() {
                    reduced = Some(candidate);
                    break;
                }
            }
            match reduced {
                Some(smaller) => {
                    plan = smaller;
                    parts = parts.saturating_sub(1).max(2);
                }
                None if size == 1 => break,
                None => parts = (parts * 2).min(plan.faults.len()),
            }
        }
        let mut empty = plan.clone();
        empty.faults.clear();
        if self.fails(&empty, Some(invariant))?.is_some() {
            return Ok(empty);
        }
        Ok(plan)
    }
}
