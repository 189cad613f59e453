//! Measures what a guarded call costs, here and in other crates, in one run, and runs the suite of
//! known defects against each of them.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a program on a developer's machine: it prints and measures wall time"
)]

mod cases;
mod clock;
mod harness;

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
    /// Rounds whose median is reported.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
}

fn main() {
    let options = Options::parse();
    let report = Report::new(options.json);
    let wanted = |only: &Option<String>, name: &str| {
        only.as_deref().is_none_or(|only| name.contains(only))
    };
    for (name, threads, subjects) in cases::ALL {
        if wanted(&options.only, name) {
            let mut subjects = subjects();
            subjects.retain(|s| s.name == "bare" || options.subject.as_deref().is_none_or(|only| s.name == only));
            harness::run(&report, Case { name, threads: *threads, subjects }, options.rounds);
        }
    }
}
