//! Formatting, clippy in the normal and the simulation build, and rustdoc.

use crate::output::Output;
use crate::run::{SIM, cargo_in, root, step};

/// Packages that no simulation is built from, and whose dependencies take minutes to build.
const NOT_SIMULATED: [&str; 9] = [
    "amarra",
    "amarra-kafka",
    "amarra-postgres",
    "amarra-postgres-wal",
    "amarra-sqlite",
    "amarra-tokio",
    "benches",
    "peers",
    "testbed",
];

/// Runs every linter.
pub(crate) fn run(out: &Output) -> Result<bool, String> {
    let root = root();
    let mut ok = step(out, "format", cargo_in(&root, &["fmt", "--all", "--check"]))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    ok &= step(out, "clippy", cargo_in(&root, &clippy))?;
    let mut sim = vec!["clippy"];
    sim.extend(SIM);
    sim.push("--workspace");
    for package in NOT_SIMULATED {
        sim.extend(["--exclude", package]);
    }
    sim.extend(["--all-targets", "--", "-D", "warnings"]);
    ok &= step(out, "clippy of the simulation build", cargo_in(&root, &sim))?;
    let mut doc = cargo_in(&root, &["doc", "--no-deps", "--workspace", "--exclude", "sim"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    ok &= step(out, "rustdoc", doc)?;
    Ok(ok)
}
