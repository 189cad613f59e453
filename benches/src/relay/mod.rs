//! The cases of the relay.

mod backlog;

use clap::{Args, ValueEnum};

use crate::Failure;
use crate::child::Plan;
use crate::report::Report;
use crate::servers::Servers;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Prints JSON Lines.
    #[arg(long)]
    json: bool,
    /// Only these cases.
    #[arg(long = "case", value_enum)]
    cases: Vec<Case>,
    /// Rows of a backlog.
    #[arg(long, default_value_t = 3_000_000)]
    rows: u64,
    /// Everything once and small: shows that it runs, measures nothing.
    #[arg(long)]
    short: bool,
    /// Rows of a chunk.
    #[arg(long, default_value_t = 4_096)]
    chunk: usize,
    /// A property of librdkafka, `key=value`.
    #[arg(long = "property")]
    properties: Vec<String>,
    /// Shards of the outbox, and partitions of the topic.
    #[arg(long, default_value_t = 4)]
    shards: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    BacklogAtLeastOnce,
    BacklogExactlyOnce,
}

/// A run: its servers and where its figures go.
#[derive(Debug)]
struct Run<'a> {
    options: &'a Options,
    servers: Servers,
    report: Report,
}

impl Run<'_> {
    fn wants(&self, case: Case) -> bool {
        self.options.cases.is_empty() || self.options.cases.contains(&case)
    }

    /// Makes the plan of a relay on a database.
    fn plan(&self, url: &str) -> Plan {
        Plan {
            url: url.to_owned(),
            shards: self.options.shards,
            bootstrap: self.servers.bootstrap(),
            exactly_once: false,
            chunk: self.options.chunk,
            connections: 2,
            lease_ms: 3_000,
            owner: "one".to_owned(),
            bridge: false,
            properties: self.options.properties.clone(),
            until: None,
            every: false,
        }
    }

    fn rows(&self) -> u64 {
        if self.options.short { 20_000 } else { self.options.rows }
    }
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let report = Report { json: options.json };
    report.say("starting PostgreSQL and Kafka");
    let run = Run { options, servers: Servers::start()?, report };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run.servers.fences())?;
    if run.wants(Case::BacklogAtLeastOnce) {
        runtime.block_on(backlog::run(&run, false))?;
    }
    if run.wants(Case::BacklogExactlyOnce) {
        runtime.block_on(backlog::run(&run, true))?;
    }
    Ok(())
}
