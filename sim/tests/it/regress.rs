//! Every plan that once failed is replayed; it must not fail again.

use std::path::Path;

use serde_json::Value;

use crate::program::json;

#[test]
fn plans_that_once_failed_pass() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("regress");
    let scratch = std::env::temp_dir().join(format!("amarra-regress-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let case: Value = serde_json::from_str(&text).unwrap();
        let plan = scratch.join(path.file_name().unwrap());
        std::fs::write(&plan, case["plan"].to_string()).unwrap();
        let seed = case["seed"].to_string();
        let plan = plan.to_str().unwrap();
        let (code, lines) = json(&["replay", "--seed", &seed, "--plan", plan, "--json"]);
        let violations: Vec<&Value> = lines.iter().filter(|l| l["kind"] == "violation").collect();
        assert_eq!(code, Some(0), "{}: {violations:?}", path.display());
    }
    std::fs::remove_dir_all(&scratch).ok();
}
