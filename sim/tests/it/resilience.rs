//! What the experiments with resilience policies have to show, whatever their exact figures.

use serde_json::Value;

use crate::program::json;

fn number(row: &Value, field: &str) -> f64 {
    row[field].as_str().unwrap().parse().unwrap()
}

/// The seconds to recovery, more than there are when it never came.
fn recovery(row: &Value) -> u64 {
    row["recovery_s"].as_u64().unwrap_or(1000)
}

#[test]
#[allow(clippy::float_arithmetic, reason = "ratios of a report")]
fn policies_bound_amplification_and_end_what_retries_alone_make_last() {
    let (code, lines) = json(&["resilience", "--json"]);
    assert_eq!(code, Some(0));
    let (summary, rows) = lines.split_last().unwrap();
    let find = |fault: &str, policies: &str| {
        let found = rows.iter().find(|r| r["fault"] == fault && r["policies"] == policies);
        found.unwrap_or_else(|| panic!("no row {fault}, {policies}"))
    };
    let tiers = i32::try_from(summary["tiers"].as_u64().unwrap()).unwrap();
    let attempts = summary["attempts"].as_f64().unwrap().powi(tiers);
    // A tenth a tier, and what full purses add: 40 retries of 2000 calls.
    let budgeted =
        (summary["budget_percent_per_tier"].as_f64().unwrap() / 100.0 + 0.02).powi(tiers);
    for fault in ["refuses", "stalls"] {
        let outage = |policies| number(find(fault, policies), "amplification");
        assert!(outage("retry") > 0.9 * attempts, "{fault}: retries multiply through tiers");
        for bounded in ["retry+budget", "retry+budget+deadline", "retry+budget+hedge"] {
            assert!(outage(bounded) <= budgeted, "{fault}: {bounded} exceeds its budget");
        }
        for breaker in ["retry+breaker", "budget+deadline+breaker+ramp, last tier"] {
            assert!(outage(breaker) < 1.0, "{fault}: {breaker} adds load to an outage");
        }
        let recovers = |policies| recovery(find(fault, policies));
        assert_eq!(recovers("retry"), 1000, "{fault}: retries alone keep the overload alive");
        assert!(recovers("retry+budget") < 60, "{fault}: a budget ends it");
        for good in ["budget+deadline+breaker+ramp, last tier", "budget+deadline+adaptive"] {
            // Two of the longest open periods.
            assert!(recovers(good) <= 8, "{fault}: {good} recovers late");
            assert!(recovers(good) <= recovers("none"), "{fault}: {good} is worse than nothing");
            assert!(number(find(fault, good), "peak") < 1.5, "{fault}: {good} overloads");
        }
    }
    let (without, with) = (find("late", "retry+budget"), find("late", "retry+budget+hedge"));
    assert!(with["wait_p99_ms"].as_u64() < without["wait_p99_ms"].as_u64());
    assert!(number(with, "amplification") <= 1.4, "hedges are paid from the budget");
}
