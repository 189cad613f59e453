//! The simulator's command line: `cargo sim run`, `replay`, `verify`, `resilience`, `list`.
#![allow(
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    reason = "a program: standard output is its result, and its counters are bounded by its run"
)]

#[cfg(madsim)]
mod child;
#[cfg(madsim)]
mod cli;
#[cfg(madsim)]
mod env;
#[cfg(madsim)]
mod fault;
#[cfg(madsim)]
mod invariant;
#[cfg(madsim)]
mod lab;
#[cfg(madsim)]
mod liveness;
#[cfg(madsim)]
mod net;
#[cfg(madsim)]
mod node;
#[cfg(madsim)]
mod oracle;
#[cfg(madsim)]
mod plan;
#[cfg(madsim)]
mod report;
#[cfg(madsim)]
mod runner;
#[cfg(madsim)]
mod scenario;
#[cfg(madsim)]
mod shrink;
#[cfg(madsim)]
mod trace;
#[cfg(madsim)]
mod watch;
#[cfg(madsim)]
mod workload;
#[cfg(madsim)]
mod world;

/// A run allocates a lot and briefly; an allocator made for that saves a tenth of its time.
#[cfg(madsim)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    cli::main()
}

/// Without the cfg nothing here is simulated, so nothing here may claim to be.
#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "error: the simulator was built without `--cfg madsim`, so it would simulate nothing.\n\
         Run `cargo sim run` from the workspace root: the alias sets the cfg. A RUSTFLAGS\n\
         environment variable overrides it: unset it, or add `--cfg madsim` to it."
    );
    std::process::ExitCode::from(2)
}
