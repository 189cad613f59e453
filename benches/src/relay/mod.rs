//! The cases of the relay.

mod backlog;
mod enqueue;
mod latency;
mod takeover;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use self::backlog::Way;
use self::latency::Shape;
use crate::Failure;
use crate::child::{Plan, Relaying};
use crate::orders;
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
    #[arg(long, default_value_t = 1_000)]
    chunk: usize,
    /// A property of the relay's librdkafka, `key=value`.
    #[arg(long = "property")]
    properties: Vec<String>,
    /// Orders that are placed at saturation.
    #[arg(long, default_value_t = 10_000)]
    orders: u32,
    /// Orders under way at once, at saturation.
    #[arg(long, default_value_t = 256)]
    in_flight: u32,
    /// The binary of the shop; without it the one beside this.
    #[arg(long)]
    shop: Option<PathBuf>,
    /// A setting of the PostgreSQL server, `key=value`.
    #[arg(long = "setting")]
    settings: Vec<String>,
    /// Shards of the outbox, and partitions of the topic.
    #[arg(long, default_value_t = 8)]
    shards: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    BacklogProbe,
    BacklogAtLeastOnce,
    BacklogExactlyOnce,
    #[value(name = "latency-1k")]
    Latency,
    #[value(name = "latency-1k-open-tx")]
    LatencyOpenTx,
    #[value(name = "latency-1k-bridge")]
    LatencyBridge,
    Enqueue,
    Takeover,
    TakeoverExactlyOnce,
    Orders,
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

    /// Makes the plan of a process that does nothing yet.
    fn plan(&self, url: &str) -> Plan {
        let (url, shards) = (url.to_owned(), self.options.shards);
        Plan { url, shards, relaying: None, writing: None, probing: None, bridge: false }
    }

    fn relaying(&self, source: &str) -> Relaying {
        Relaying {
            bootstrap: self.servers.bootstrap(),
            exactly_once: false,
            chunk: self.options.chunk,
            lease_ms: 3_000,
            connections: self.options.shards,
            owner: "one".to_owned(),
            source: source.to_owned(),
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
    let run = Run { options, servers: Servers::start(&options.settings)?, report };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run.servers.fences())?;
    for case in Case::value_variants() {
        if run.wants(*case) {
            runtime.block_on(measure(&run, *case))?;
        }
    }
    Ok(())
}

async fn measure(run: &Run<'_>, case: Case) -> Result<(), Failure> {
    let shape = Shape { case: "latency-1k", open_tx: false, bridge: false, seconds: 30 };
    match case {
        Case::BacklogProbe => backlog::run(run, Way::Probe).await,
        Case::BacklogAtLeastOnce => backlog::run(run, Way::AtLeastOnce).await,
        Case::BacklogExactlyOnce => backlog::run(run, Way::ExactlyOnce).await,
        Case::Latency => latency::run(run, shape).await,
        Case::LatencyOpenTx => {
            let case = "latency-1k-open-tx";
            latency::run(run, Shape { case, open_tx: true, seconds: 60, ..shape }).await
        }
        Case::LatencyBridge => {
            let case = "latency-1k-bridge";
            latency::run(run, Shape { case, bridge: true, ..shape }).await
        }
        Case::Enqueue => enqueue::run(run).await,
        Case::Takeover => takeover::run(run, false).await,
        Case::TakeoverExactlyOnce => takeover::run(run, true).await,
        Case::Orders => {
            let (orders, in_flight) = (run.options.orders, run.options.in_flight);
            let orders = if run.options.short { 20 } else { orders };
            let program = match &run.options.shop {
                Some(program) => program.clone(),
                None => std::env::current_exe()?.with_file_name("amarra"),
            };
            let options = orders::Options { program, orders, in_flight };
            orders::run(&run.servers, run.report, &options).await
        }
    }
}
