//! Measures the figures of `docs/bench` on real servers.
#![allow(
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::cast_possible_truncation,
    reason = "a program on a developer's machine: it prints, and computes with what it measured"
)]

mod child;
mod consume;
mod load;
mod message;
mod orders;
mod probe;
mod process;
mod relay;
mod report;
mod servers;
mod writers;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// For librdkafka as well: it frees on one thread what it allocated on another, a lot of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whatever went wrong, in words.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures the figures of `docs/bench`.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The relay from PostgreSQL to Kafka, both on this machine.
    Relay(relay::Options),
    /// A relay process; the other verbs start it.
    #[command(hide = true)]
    Child {
        /// A `child::Plan`.
        plan: String,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Relay(options) => relay::run(&options),
        Verb::Child { plan } => child::run(&plan),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(2)
        }
    }
}
