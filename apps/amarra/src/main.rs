//! The command line of the shop.

mod load;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The shop as one program.
#[derive(Debug, Parser)]
#[command(name = "amarra", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Orders through a gateway, at a rate, and reports what the customers saw.
    Load(load::LoadArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Load(args) => load::run(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("amarra: {why}");
            ExitCode::FAILURE
        }
    }
}
