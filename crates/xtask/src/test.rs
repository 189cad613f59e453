//! Every test of the repository, in the order in which a failure is cheapest to learn of.

use std::path::Path;
use std::time::Instant;

use testbed::Part;

use crate::conformance::Results;
use crate::output::Output;
use crate::run::{SIM, cargo_in, ended, followed, root, step};
use crate::{conformance, lint, mutants, no_std, peers, tidy};

/// Seeds of the simulator that the tests run.
const SEEDS: &str = "--seeds=400";
/// Seeds that the tests run in two processes each.
const VERIFIED: &str = "--seeds=40";

/// Planted bugs that the tests run: each is a build of its own.
const PLANTED: usize = 6;

/// Packages whose tests start real servers.
const REAL_SERVERS: [&str; 5] =
    ["amarra-kafka", "amarra-postgres", "amarra-postgres-wal", "benches", "testbed"];
/// The package of which only some tests do, and the module those are in.
const APP: &str = "amarra";
const SERVER_TESTS: &str = "servers::";

/// Runs every test; `fast` leaves out, by name, what takes minutes.
pub(crate) fn run(out: &Output, fast: bool) -> Result<bool, String> {
    let root = root();
    let mut failed: Vec<&str> = Vec::new();
    let mut results = Results::default();
    let mut note = |name: &'static str, ok: bool| {
        if !ok {
            failed.push(name);
        }
    };
    out.say("── tidy");
    note("tidy", tidy::run(out)?);
    if fast {
        out.say("── left out by --fast: lint, peers, tests of the simulation, seeds, planted bugs");
        out.say(&format!(
            "── left out by --fast, for want of servers: {}",
            REAL_SERVERS.join(", ")
        ));
        out.say(&format!("── left out by --fast, for want of servers: {SERVER_TESTS} of {APP}"));
    } else {
        note("lint", lint::run(out)?);
        note("servers", servers(out));
    }
    note("core without std", no_std::run(out)?);
    note("unit, law and doc tests", ordinary(out, &root, fast, &mut results)?);
    out.say("── conformance");
    note("conformance", conformance::report(out, &results, left_out(fast))?);
    if !fast {
        note("peers", compared(out)?);
        let mut sim_tests = vec!["test"];
        sim_tests.extend(SIM);
        sim_tests.extend(["-p", "sim"]);
        let mut command = cargo_in(&root, &sim_tests);
        // A build that lost the cfg would run no test and pass: this makes it fail.
        command.env("AMARRA_SIM_REQUIRED", "1");
        note("simulation tests", step(out, "simulation tests", command)?);
        note("seeds", step(out, "seeds", cargo_in(&root, &["sim", "run", SEEDS]))?);
        let verify = cargo_in(&root, &["sim", "verify", VERIFIED]);
        note("verified seeds", step(out, "verified seeds", verify)?);
        out.say("── planted bugs: some of them; `cargo xtask mutants` plants all");
        let sample = Some(PLANTED);
        let options = mutants::Options { only: None, seeds: 200, quick: true, sample };
        note("planted bugs", mutants::run(out, &options)?);
    }
    let ok = failed.is_empty();
    out.result(
        &serde_json::json!({"kind": "summary", "ok": ok, "failed": failed}),
        &if ok { "every test passed".to_owned() } else { format!("FAILED: {}", failed.join(", ")) },
    );
    Ok(ok)
}

/// Installs the servers once, before the tests that each start their own: those servers end with
/// the test that started them, so nothing is left running.
fn servers(out: &Output) -> bool {
    out.say("── servers");
    let started = Instant::now();
    let result = testbed::install(&Part::ALL);
    let took = started.elapsed().as_secs();
    let word = match &result {
        Ok(()) => "ok".to_owned(),
        Err(e) => format!("FAILED: {e}"),
    };
    out.result(
        &serde_json::json!({"kind": "step", "name": "servers", "ok": result.is_ok(),
            "seconds": took, "message": word}),
        &format!("── servers: {word} after {took} s"),
    );
    result.is_ok()
}

/// Our resilience crate and its peers: which known defects each has, and what each costs.
fn compared(out: &Output) -> Result<bool, String> {
    out.say("── peers");
    let started = Instant::now();
    let ok = peers::run(out, &peers::Options::tested())?;
    ended(out, "peers", ok, started);
    Ok(ok)
}

/// The packages that a run leaves out.
fn left_out(fast: bool) -> &'static [&'static str] {
    if fast { &REAL_SERVERS } else { &[] }
}

/// The tests outside the simulator; what became of the laws among them goes to `results`.
fn ordinary(out: &Output, root: &Path, fast: bool, results: &mut Results) -> Result<bool, String> {
    let mut arguments = vec!["test", "--workspace", "--exclude", "sim"];
    arguments.extend(left_out(fast).iter().flat_map(|package| ["--exclude", package]));
    let binaries = conformance::binaries(root, &arguments)?;
    arguments.push("--no-fail-fast");
    if fast {
        // No other package has tests in a module of that name.
        arguments.extend(["--", "--skip", SERVER_TESTS]);
    }
    let command = cargo_in(root, &arguments);
    followed(out, "unit, law and doc tests", command, |line| results.follow(line, &binaries))
}
