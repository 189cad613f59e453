//! Compares a crate of ours with its peers: what they cost and what they survive, in one run.

use std::process::Stdio;

use clap::{Args, ValueEnum};

use crate::output::Output;
use crate::run::{cargo_in, root};

/// Which crate is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// `amarra-resilience` with recloser, failsafe, tower-circuitbreaker, tower-resilience, tower.
    Resilience,
}

/// What is run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which crate is compared.
    subject: Subject,
    /// Only the suite of defects, no measuring.
    #[arg(long)]
    suite: bool,
    /// Fail when a figure of ours is above its share of the best peer's.
    #[arg(long)]
    check: bool,
    /// Only cases whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Rounds whose median is reported.
    #[arg(long)]
    rounds: Option<u32>,
}

impl Options {
    /// What the tests run: every suite, and each figure against its share of the best peer's.
    pub(crate) fn tested() -> Self {
        let rounds = Some(TESTED_ROUNDS);
        Self { subject: Subject::Resilience, suite: false, check: true, only: None, rounds }
    }
}

/// Rounds that the tests measure: the bounds are far from the figures.
const TESTED_ROUNDS: u32 = 5;

/// Builds the comparison with everything inlined, and runs it.
pub(crate) fn run(out: &Output, options: &Options) -> Result<bool, String> {
    let Subject::Resilience = options.subject;
    let mut args = vec!["run", "--quiet", "--package", "peers", "--profile", "peers", "--"];
    if out.is_json() {
        args.push("--json");
    }
    if options.suite {
        args.push("--suite");
    }
    if options.check {
        args.push("--check");
    }
    if let Some(only) = &options.only {
        args.extend(["--only", only]);
    }
    let rounds = options.rounds.map(|rounds| format!("--rounds={rounds}"));
    args.extend(rounds.as_deref());
    let mut command = cargo_in(&root(), &args);
    command.stdout(Stdio::inherit());
    let status = command.status().map_err(|e| format!("cannot start cargo: {e}"))?;
    Ok(status.success())
}
