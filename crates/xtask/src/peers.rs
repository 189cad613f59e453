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
}

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
    let mut command = cargo_in(&root(), &args);
    command.stdout(Stdio::inherit());
    let status = command.status().map_err(|e| format!("cannot start cargo: {e}"))?;
    Ok(status.success())
}
