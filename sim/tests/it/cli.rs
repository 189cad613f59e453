//! Bad input is one clear line and exit code 2; every listing has a summary.

use crate::program::{json, sim};

fn refuses(args: &[&str], expect: &str) {
    let output = sim(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(stderr.contains(expect), "{args:?} said {stderr:?}, which lacks {expect:?}");
    assert!(output.stdout.is_empty(), "{args:?} printed a result");
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    refuses(&["run", "--scenario", "crahes"], "did you mean \"crashes\"");
    refuses(&["verify", "--scenario", "shopp"], "did you mean \"shop\"");
}

#[test]
fn numbers_out_of_range_are_refused() {
    refuses(&["run", "--seeds", "0"], "--seeds must be at least 1");
    refuses(&["run", "--seed", "minus"], "invalid value 'minus'");
    refuses(&["run", "--orders", "0"], "'0'");
    refuses(&["replay"], "--seed");
}

#[test]
fn malformed_plans_are_refused_with_the_place() {
    let dir = std::env::temp_dir().join(format!("amarra-plans-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let check = |name: &str, text: &str, expect: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        refuses(&["replay", "--seed", "1", "--plan", path.to_str().unwrap()], expect);
    };
    check("cut.json", "{\"scenario\":\"shop\",\n\"orders\":5,", "line 2");
    check("field.json", "{\"scenario\":\"shop\",\"orders\":5,\"fault\":[]}", "unknown field");
    let fault = |f: &str| format!("{{\"scenario\":\"shop\",\"orders\":5,\"faults\":[{f}]}}");
    check("kind.json", &fault("{\"kind\":\"crahs\"}"), "unknown variant");
    let node = "{\"kind\":\"crash\",\"node\":\"order-1\",\"at_ms\":1,\"for_ms\":1}";
    check("node.json", &fault(node), "nearest is \"orders-1\"");
    let scenario = "{\"scenario\":\"clam\",\"orders\":5,\"faults\":[]}";
    check("scenario.json", scenario, "did you mean \"calm\"");
    refuses(&["replay", "--seed", "1", "--plan", "/no/such/plan"], "cannot read plan");
    std::fs::remove_dir_all(&dir).ok();
}

#[test]
fn every_listing_names_its_entries_and_sums_up() {
    for (what, kind, some) in [
        ("faults", "fault", "crash"),
        ("invariants", "invariant", "I8"),
        ("scenarios", "scenario", "shop"),
    ] {
        let (code, lines) = json(&["list", what, "--json"]);
        assert_eq!(code, Some(0));
        let (summary, entries) = lines.split_last().unwrap();
        assert_eq!(summary["kind"], "summary");
        assert!(
            entries.iter().all(|e| e["kind"] == kind && !e["what"].as_str().unwrap().is_empty())
        );
        assert!(entries.iter().any(|e| e["name"] == some));
    }
}
