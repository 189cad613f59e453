//! Runs end clean, repeat exactly, and show what happened.

use serde_json::Value;

use crate::program::{json, sim};

fn field<'a>(event: &'a Value, name: &str) -> &'a str {
    event[name].as_str().unwrap_or_default()
}

#[test]
fn each_scenario_ends_without_a_violation() {
    let (_, scenarios) = json(&["list", "scenarios", "--json"]);
    for scenario in scenarios.iter().filter(|s| s["kind"] == "scenario") {
        let name = field(scenario, "name");
        let (code, lines) = json(&["run", "--seeds", "6", "--scenario", name, "--json"]);
        let (summary, seeds) = lines.split_last().unwrap();
        assert_eq!(summary["violations"], 0, "scenario {name}: {lines:?}");
        assert_eq!((code, seeds.len()), (Some(0), 6), "scenario {name}");
        let orders: u64 =
            summary["orders"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert_eq!(orders, 300, "scenario {name} lost an order: {summary}");
    }
}

#[test]
fn a_seed_gives_the_same_trace_in_two_processes() {
    let (code, lines) = json(&["verify", "--seeds", "4", "--json"]);
    assert_eq!(code, Some(0), "{lines:?}");
    assert_eq!(lines.last().unwrap()["equal"], 4);
    let replay = || sim(&["replay", "--seed", "3", "--orders", "15"]).stdout;
    assert_eq!(replay(), replay());
}

#[test]
fn another_seed_gives_another_trace() {
    let digest = |seed: &str| {
        let (_, lines) = json(&["run", "--seed", seed, "--orders", "5", "--json"]);
        field(&lines[0], "digest").to_owned()
    };
    assert_ne!(digest("1"), digest("2"));
}

#[test]
fn a_failed_payment_is_compensated_in_causal_order() {
    let (_, lines) = json(&["replay", "--seed", "1", "--scenario", "calm", "--json"]);
    let emitted: Vec<&Value> = lines.iter().filter(|l| field(l, "seen") == "emitted").collect();
    let failed = emitted
        .iter()
        .filter(|e| field(e, "type") == "PaymentFailed")
        .map(|e| field(e, "order"))
        .next()
        .expect("no payment failed in this seed");
    let at = |kind: &str| {
        let place =
            emitted.iter().position(|e| field(e, "order") == failed && field(e, "type") == kind);
        place.unwrap_or_else(|| panic!("order {failed} has no {kind}"))
    };
    let chain =
        ["OrderCreated", "PaymentFailed", "CompensateInventory", "StockCompensated"].map(at);
    assert!(chain.is_sorted(), "{chain:?}");
    // Each is caused, directly or not, by the one before.
    let causes = |from: usize, to: usize| {
        let mut next = field(emitted[from], "causation").to_owned();
        while !next.is_empty() {
            if next == field(emitted[to], "id") {
                return true;
            }
            let cause = emitted.iter().find(|e| field(e, "id") == next);
            next = cause.map(|c| field(c, "causation").to_owned()).unwrap_or_default();
        }
        false
    };
    for pair in chain.windows(2) {
        assert!(
            causes(pair[1], pair[0]),
            "{} is not caused by {}",
            emitted[pair[1]],
            emitted[pair[0]]
        );
    }
}
