//! Every case of the benches runs in its short form: what nobody runs rots.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::process::{Command, Stdio};

use serde_json::Value;

/// The figures that each case prints.
const FIGURES: &[(&str, &[&str])] = &[
    ("orders", &["confirmed_per_s", "p99_ms", "transactions_per_order", "messages_per_order"]),
    ("backlog-at-least-once", &["msgs_per_s", "cpu_us_per_msg"]),
    ("backlog-exactly-once", &["msgs_per_s", "cpu_us_per_msg"]),
    ("latency-1k", &["p50_ms", "p99_ms", "cores"]),
    ("latency-1k-open-tx", &["p50_ms", "p99_ms", "cores"]),
    ("latency-1k-bridge", &["p50_ms", "p99_ms"]),
    ("enqueue", &["ratio", "ratio_with_change"]),
    ("takeover", &["ms"]),
    ("takeover-exactly-once", &["ms"]),
];

#[test]
fn every_case_of_the_relay_runs() {
    let program = env!("CARGO_BIN_EXE_benches");
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "-q", "-p", "amarra", "--profile", profile]);
    assert!(build.status().unwrap().success(), "the shop does not build");
    let mut command = Command::new(program);
    command.args(["relay", "--short", "--json"]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let figure = |case: &str, metric: &str| {
        let of = |line: &&Value| {
            line["kind"] == "row"
                && line["subject"] == "amarra"
                && line["case"] == case
                && line["metric"] == metric
        };
        let line = lines.iter().find(of).unwrap_or_else(|| panic!("no {metric} of {case}"));
        line["value"].as_f64().unwrap()
    };
    for (case, metrics) in FIGURES {
        for metric in *metrics {
            assert!(figure(case, metric) > 0.0, "{metric} of {case}");
        }
    }
    for case in ["backlog-exactly-once", "takeover", "takeover-exactly-once"] {
        assert_eq!(figure(case, "lost"), 0.0, "lost in {case}");
    }
    for case in ["takeover", "takeover-exactly-once"] {
        assert_eq!(figure(case, "doubled"), 0.0, "doubled in {case}");
    }
    assert_eq!(figure("takeover-exactly-once", "resent"), 0.0, "committed twice");
}
