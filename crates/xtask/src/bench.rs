//! Measures the figures of `docs/bench`, in a release build.

use clap::Subcommand;

use crate::output::Output;
use crate::run::{cargo_in, root};

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// The relay from PostgreSQL to Kafka, both started for it, on this machine.
    Relay {
        /// Only these cases, for example `latency-1k`; may be given again.
        #[arg(long = "case")]
        cases: Vec<String>,
        /// Rows of a backlog.
        #[arg(long)]
        rows: Option<u64>,
        /// Everything once and small: shows that it runs, measures nothing.
        #[arg(long)]
        short: bool,
    },
}

/// Builds and runs the measurement; its figures go to standard output.
pub(crate) fn run(out: &Output, verb: &Verb) -> Result<bool, String> {
    let mut arguments = vec!["run", "--release", "-q", "-p", "benches", "--"];
    let Verb::Relay { cases, rows, short } = verb;
    arguments.push("relay");
    let rows = rows.map(|rows| rows.to_string());
    if let Some(rows) = &rows {
        arguments.extend(["--rows", rows]);
    }
    for case in cases {
        arguments.extend(["--case", case]);
    }
    if *short {
        arguments.push("--short");
    }
    if out.is_json() {
        arguments.push("--json");
    }
    let status = cargo_in(&root(), &arguments).status();
    status.map(|status| status.success()).map_err(|e| format!("cannot start cargo: {e}"))
}
