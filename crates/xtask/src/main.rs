//! The one toolbox of the repository: `cargo xtask <verb>`.
#![allow(
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program on a developer's machine: it prints, counts lines and measures wall time"
)]

mod bench;
mod ci;
mod conformance;
mod lint;
mod mutants;
mod no_std;
mod output;
mod peers;
mod run;
mod services;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::output::Output;

/// The one toolbox of the repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Print JSON Lines on standard output; prose goes to standard error.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Installs what is missing and passes every test, the planted bugs among them.
    Test {
        /// Leaves out what takes minutes, by name.
        #[arg(long)]
        fast: bool,
    },
    /// Starts, stops or shows long-lived PostgreSQL and Kafka of the workspace's own.
    Services {
        #[command(subcommand)]
        verb: services::Verb,
    },
    /// Lists every behaviour of every port with its result on every backend.
    Conformance(conformance::Options),
    /// Measures the figures of `docs/bench`.
    Bench {
        #[command(subcommand)]
        verb: bench::Verb,
    },
    /// Checks the bar of the repository: sizes, imports, laws, planted bugs.
    Tidy,
    /// Checks formatting, clippy in both builds, and rustdoc.
    Lint,
    /// Plants every bug of `sim/mutants` in a scratch copy and demands that it is caught.
    Mutants {
        /// Only planted bugs whose name contains this.
        #[arg(long)]
        only: Option<String>,
        /// How many seeds a bug may take to be caught.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// Skip the count of failing seeds out of 100.
        #[arg(long)]
        quick: bool,
    },
    /// Compares a crate with its peers: what a call costs, and which known defects they have.
    Peers(peers::Options),
    /// Links the core of `amarra-resilience` into a program that has no `std`.
    NoStd,
    /// What the pipeline runs: `test`, with its environment checked first.
    Ci,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Output::new(cli.json);
    let result = match cli.verb {
        Verb::Test { fast } => test::run(&out, fast),
        Verb::Services { verb } => services::run(&out, &verb),
        Verb::Conformance(options) => conformance::run(&out, &options),
        Verb::Bench { verb } => bench::run(&out, &verb),
        Verb::Tidy => tidy::run(&out),
        Verb::Lint => lint::run(&out),
        Verb::Mutants { only, seeds, quick } => {
            mutants::run(&out, &mutants::Options { only, seeds, quick, sample: None })
        }
        Verb::Peers(options) => peers::run(&out, &options),
        Verb::NoStd => no_std::run(&out),
        Verb::Ci => ci::run(&out),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}
