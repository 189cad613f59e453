//! Tests of the simulator as its users run it: as a program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs,
    reason = "tests fail by panicking"
)]

#[cfg(madsim)]
mod cli;
#[cfg(madsim)]
mod regress;
#[cfg(madsim)]
mod resilience;
#[cfg(madsim)]
mod runs;

/// A build that lost the cfg has no simulation test to run; where the tests are required to be
/// there, that is a failure and not a success of nothing.
#[cfg(not(madsim))]
#[test]
fn simulation_tests_are_built_where_they_are_required() {
    let required = std::env::var_os("AMARRA_SIM_REQUIRED").is_some();
    assert!(!required, "built without --cfg madsim: no simulation test would run");
}

/// Without the cfg the program says why it refuses.
#[cfg(not(madsim))]
#[test]
fn the_stub_refuses_to_run() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sim")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--cfg madsim"));
}

#[cfg(madsim)]
mod program {
    use std::process::{Command, Output};

    use serde_json::Value;

    /// Runs the program.
    pub(crate) fn sim(args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().unwrap()
    }

    /// Runs the program and reads its standard output as JSON Lines.
    pub(crate) fn json(args: &[&str]) -> (Option<i32>, Vec<Value>) {
        let output = sim(args);
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().map(|l| serde_json::from_str(l).expect(l)).collect();
        (output.status.code(), lines)
    }
}
