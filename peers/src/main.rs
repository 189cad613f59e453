//! Measures what a guarded call costs, here and in other crates, in one run, and runs the suite of
//! known defects against each of them.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "a program on a developer's machine: it prints and measures wall time"
)]

mod cases;
mod clock;
mod harness;
mod subjects;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use crate::harness::{Case, Report};

/// Measures and checks this repository's resilience crate and its peers.
#[derive(Debug, Parser)]
struct Options {
    /// Print JSON Lines on standard output; prose goes to standard error.
    #[arg(long)]
    json: bool,
    /// Only cases whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Only this subject and the bare call.
    #[arg(long)]
    subject: Option<String>,
    /// Fail when a figure of ours is above its share of the best peer's.
    #[arg(long)]
    check: bool,
    /// Only the suite of defects, no measuring.
    #[arg(long)]
    suite: bool,
    /// Rounds whose median is reported.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
}

fn main() -> ExitCode {
    match compare(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs what is asked for; tells whether ours has no defect and stays within its bounds.
fn compare(options: &Options) -> Result<bool, Box<dyn Error>> {
    let report = Report::new(options.json);
    let mut sound = true;
    if options.only.is_none() || options.suite {
        sound = suite(&report)?;
    }
    if options.suite {
        return Ok(sound);
    }
    let wanted =
        |only: &Option<String>, name: &str| only.as_deref().is_none_or(|only| name.contains(only));
    for (name, threads, subjects, bound) in cases::ALL {
        if wanted(&options.only, name) {
            let mut subjects = subjects()?;
            subjects.retain(|s| {
                s.name == "bare" || options.subject.as_deref().is_none_or(|only| s.name == only)
            });
            let case = Case { name, threads: *threads, subjects };
            let all = harness::run(&report, case, options.rounds);
            sound &= !options.check || harness::check(&report, name, &all, *bound);
        }
    }
    Ok(sound)
}

/// Runs the suite of defects through every subject; tells whether ours has none.
fn suite(report: &Report) -> Result<bool, Box<dyn Error>> {
    let mut sound = true;
    for subject in subjects::all()? {
        let found = amarra_resilience::suite::run(subject.as_ref());
        for finding in &found.findings {
            report.line(
                &serde_json::json!({
                    "kind": "defect", "subject": found.subject, "probe": finding.probe,
                    "verdict": finding.verdict.to_string(), "seen": finding.seen,
                }),
                &format!(
                    "{:24} {:4} {:7} {}",
                    found.subject, finding.probe, finding.verdict, finding.seen
                ),
            );
        }
        sound &= found.subject != "amarra" || found.defects() == 0;
    }
    Ok(sound)
}
