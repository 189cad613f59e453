//! What can be asked for on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::name::Name;

/// The shop: six services, their gateway, and the verbs that look after them.
#[derive(Debug, Parser)]
#[command(name = "amarra", version, arg_required_else_help = true)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Runs the whole shop in this process on embedded files, or one service on real servers.
    Serve(Serve),
}

/// How to serve.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The one service to run, on Postgres and Kafka; without it all of them run here, on files.
    #[arg(long, requires = "config", conflicts_with_all = ["data", "listen"])]
    pub(crate) service: Option<Name>,
    /// The configuration, TOML.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// The folder of the embedded shop's files and secrets; made when it is not there.
    #[arg(long, default_value = "./amarra-data")]
    pub(crate) data: PathBuf,
    /// Where the embedded shop listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Prints JSON Lines in place of sentences.
    #[arg(long)]
    pub(crate) json: bool,
    /// Stops in order once standard input ends: with whoever started this process.
    #[arg(long)]
    pub(crate) stop_with_stdin: bool,
}
