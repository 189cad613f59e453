//! What can be asked for on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::load::LoadArgs;
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
    /// Makes the databases, and the two roles of each service, on a Postgres server.
    Provision(OnServers),
    /// Brings the schema of each database up to date, and makes the topics that are missing.
    Migrate(OnServers),
    /// Runs every service as a process of its own, and starts again what dies.
    Supervise(Supervise),
    /// Looks at outboxes: who relays them, how far behind, and what was set aside.
    Outbox(Outbox),
    /// Looks at what consumers set aside, and applies it again.
    Inbox(Inbox),
    /// Looks at audit chains.
    Audit(Audit),
    /// Shows what really happened to the money of every order, by the provider's own ledger.
    Ledger(Ledger),
    /// Orders through a gateway, at a rate, and reports what the customers saw.
    Load(LoadArgs),
}

/// A verb about the databases on servers.
#[derive(Debug, clap::Args)]
pub(crate) struct OnServers {
    /// The configuration, TOML.
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// The one service it is about; without it all of them.
    #[arg(long)]
    pub(crate) service: Option<Name>,
    /// Prints JSON Lines in place of sentences.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How to run the processes.
#[derive(Debug, clap::Args)]
pub(crate) struct Supervise {
    /// The configuration of the processes, TOML. With `--data` only of what differs from the
    /// defaults.
    #[arg(long, required_unless_present = "data")]
    pub(crate) config: Option<PathBuf>,
    /// A folder in which to keep secrets, configuration and ledger of a shop that is made on the
    /// two servers: databases, roles, schema and topics.
    #[arg(long, requires = "kafka")]
    pub(crate) data: Option<PathBuf>,
    /// The URL of a superuser of the Postgres server.
    #[arg(long, env = "AMARRA_POSTGRES_ADMIN", hide_env_values = true)]
    pub(crate) postgres: Option<String>,
    /// `host:port` of some brokers, separated by commas.
    #[arg(long, requires = "data")]
    pub(crate) kafka: Option<String>,
    /// Where the gateway listens, with `--data`; the other ports are drawn.
    #[arg(long, default_value = "127.0.0.1:7100")]
    pub(crate) listen: SocketAddr,
}

/// Where an embedded shop or a service on servers is.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Place {
    /// The folder of an embedded shop, which must not run meanwhile.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// The configuration of a shop on servers, which may run.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
}

/// What to do with outboxes.
#[derive(Debug, clap::Args)]
pub(crate) struct Outbox {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: OutboxVerb,
}

/// What to do with outboxes.
#[derive(Debug, Subcommand)]
pub(crate) enum OutboxVerb {
    /// Shows who relays each shard, and what waits there.
    Status(Look),
    /// Shows how many messages wait in each outbox, and since when.
    Lag(Look),
    /// Lists the messages that were set aside, and why.
    Parked(Look),
    /// Releases messages that were set aside: the relay publishes them next.
    Replay(Replay),
    /// Makes partitions ahead of the writers and drops relayed ones, as the schemas' owners.
    Maintain(OnServers),
}

/// What to look at.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Look {
    /// Where it is.
    #[command(flatten)]
    pub(crate) place: Place,
    /// The one service to look at; without it all of them.
    #[arg(long)]
    pub(crate) service: Option<Name>,
    /// Prints JSON Lines in place of sentences.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do with what consumers set aside.
#[derive(Debug, clap::Args)]
pub(crate) struct Inbox {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: InboxVerb,
}

/// What to do with what consumers set aside.
#[derive(Debug, Subcommand)]
pub(crate) enum InboxVerb {
    /// Lists the messages that were set aside, and why.
    Parked(Look),
    /// Applies messages that were set aside, each key in order, once what made the first one fail
    /// is mended.
    Replay(Replay),
}

/// What to release.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// Where it is.
    #[command(flatten)]
    pub(crate) look: Look,
    /// The topic of the messages; without it every one.
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// Their key; without it every one.
    #[arg(long)]
    pub(crate) key: Option<String>,
}

/// What to do with audit chains.
#[derive(Debug, clap::Args)]
pub(crate) struct Audit {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: AuditVerb,
}

/// What to do with audit chains.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// Checks that no row was changed, removed, added or moved.
    Verify(Look),
}

/// What ledger to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Ledger {
    /// Where it is.
    #[command(flatten)]
    pub(crate) place: Place,
    /// Prints JSON Lines in place of sentences.
    #[arg(long)]
    pub(crate) json: bool,
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
