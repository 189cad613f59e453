//! The command line of the shop.
#![doc = include_str!("../docs.md")]

mod admin;
mod args;
mod compose;
mod config;
mod embedded;
mod http;
mod journal;
mod load;
mod name;
mod output;
mod refusal;
mod schema;
mod secrets;
mod serve;
mod stages;
mod storage;
mod supervise;
mod upkeep;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Verb};
use crate::refusal::Failure;

/// For the C libraries as well: they free on one thread what another one allocated.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(e) => {
            // What there is no output for cannot be told to anybody.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(e) => Err(Failure::refused(format!("cannot start the runtime: {e}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure.to_string());
            ExitCode::from(failure.code())
        }
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    match args.verb {
        Verb::Serve(serve) => match serve.service {
            Some(service) => serve::run(service, &serve).await,
            None => embedded::run(&serve).await,
        },
        Verb::Provision(on) => admin::servers::provision(&on).await,
        Verb::Migrate(on) => admin::servers::migrate(&on).await,
        Verb::Supervise(supervise) => supervise::run(&supervise).await,
        Verb::Outbox(outbox) => admin::outbox::run(&outbox.verb).await,
        Verb::Inbox(inbox) => admin::inbox::run(&inbox.verb).await,
        Verb::Audit(audit) => admin::audit::run(&audit.verb).await,
        Verb::Ledger(ledger) => admin::ledger::run(&ledger),
        Verb::Load(args) => load::run(args).await.map_err(Failure::Failed),
    }
}
