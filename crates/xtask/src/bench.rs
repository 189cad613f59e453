//! Measures the figures of `docs/bench`, in a release build.

use clap::Subcommand;

use crate::output::Output;
use crate::run::{cargo_in, root};

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// The relay from PostgreSQL to Kafka, and orders through the whole shop; the servers are
    /// started for it, on this machine.
    Relay {
        /// Only these cases, for example `latency-1k` or `orders`; may be given again.
        #[arg(long = "case")]
        cases: Vec<String>,
        /// Rows of a backlog.
        #[arg(long)]
        rows: Option<u64>,
        /// Orders that are placed at saturation.
        #[arg(long)]
        orders: Option<u32>,
        /// Everything once and small: shows that it runs, measures nothing.
        #[arg(long)]
        short: bool,
    },
}

/// Builds and runs the measurement; its figures go to standard output.
pub(crate) fn run(out: &Output, verb: &Verb) -> Result<bool, String> {
    let Verb::Relay { cases, rows, orders, short } = verb;
    // The shop has to be there for the case `orders`, which looks for it beside the measurement.
    let built = cargo(&["build", "--release", "-q", "-p", "benches", "-p", "amarra"])?;
    if !built {
        return Ok(false);
    }
    let mut arguments = vec!["run", "--release", "-q", "-p", "benches", "--", "relay"];
    let (rows, orders) = (rows.map(|n| n.to_string()), orders.map(|n| n.to_string()));
    for (name, value) in [("--rows", &rows), ("--orders", &orders)] {
        if let Some(value) = value {
            arguments.extend([name, value]);
        }
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
    cargo(&arguments)
}

fn cargo(arguments: &[&str]) -> Result<bool, String> {
    let status = cargo_in(&root(), arguments).status();
    status.map(|status| status.success()).map_err(|e| format!("cannot start cargo: {e}"))
}
