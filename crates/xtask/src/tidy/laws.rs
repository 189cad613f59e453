//! Laws without a test, invariants without a planted bug, adapters that skip a suite.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Figure, Source};
use crate::mutants;

/// The last of the invariants that are numbered without a gap, as `docs/invariants.md` has them.
const INVARIANTS: u32 = 20;
/// Those beyond the gap.
const LATER_INVARIANTS: &[&str] = &["I24"];

/// Planted bugs there must be at the least.
const MUTANTS_MIN: u64 = 20;

/// Which suite of the conformance crate covers which port.
const SUITES: &[(&str, &str)] = &[
    ("Store", "store_laws!"),
    ("Store", "timer_laws!"),
    ("UnitOfWork", "store_laws!"),
    ("Outbox", "outbox_laws!"),
    ("Inbox", "inbox_laws!"),
    ("ParkingLot", "parking_laws!"),
    ("OutboxLog", "outbox_log_laws!"),
    ("Transport", "transport_laws!"),
    ("Consumer", "consumer_laws!"),
    ("ReadModel", "read_model_laws!"),
];

/// Measures the figures.
pub(crate) fn figures(root: &Path, sources: &[Source]) -> Result<Vec<Figure>, String> {
    let laws: BTreeSet<String> = sources.iter().filter(|s| is_port(s)).flat_map(declared).collect();
    let tested: String = sources
        .iter()
        .filter(|s| s.path.starts_with("crates/amarra-conformance") || s.is_test())
        .map(|s| s.text.as_str())
        .collect();
    let untested: Vec<String> =
        laws.iter().filter(|law| !is_tested(&tested, law)).cloned().collect();
    let mutants = mutants::all(root)?;
    let caught: BTreeSet<&str> = mutants.iter().map(|m| m.invariant.as_str()).collect();
    let later = LATER_INVARIANTS.iter().map(|name| (*name).to_owned());
    let unplanted = (1..=INVARIANTS).map(|n| format!("I{n}")).chain(later);
    let unplanted = unplanted.filter(|name| !caught.contains(name.as_str())).collect();
    let planted = u64::try_from(mutants.len()).unwrap_or(0);
    Ok(vec![
        Figure::none("laws without a test", untested),
        Figure::none("invariants without a planted bug", unplanted),
        Figure::at_least("planted bugs", planted, MUTANTS_MIN, Vec::new()),
        Figure::none("adapters that skip a suite", skipped_suites(sources)),
    ])
}

fn is_port(source: &Source) -> bool {
    source.is_rust() && source.path.starts_with("crates") && !source.is_test()
}

/// The laws a file declares: `/// - ABC-1 ...`.
fn declared(source: &Source) -> Vec<String> {
    source
        .text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("/// - "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| is_law(word))
        .map(str::to_owned)
        .collect()
}

fn is_law(word: &str) -> bool {
    word.split_once('-').is_some_and(|(prefix, number)| {
        prefix.len() == 3
            && prefix.bytes().all(|b| b.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// A law is tested by a test named after it: `obx_1_...`, or by a table that gives its name.
fn is_tested(text: &str, law: &str) -> bool {
    let name = law.to_ascii_lowercase().replace('-', "_");
    text.contains(&format!("{name}_")) || text.contains(&format!("\"{law}\""))
}

fn skipped_suites(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    let of = |source: &Source| {
        let mut parts = source.path.iter().filter_map(|p| p.to_str());
        (parts.next() == Some("adapters")).then(|| parts.next().map(str::to_owned)).flatten()
    };
    let adapters: BTreeSet<String> = sources.iter().filter_map(of).collect();
    for adapter in adapters {
        let own = || sources.iter().filter(|s| of(s).as_ref() == Some(&adapter));
        let tests: String = own().filter(|s| s.is_test()).map(|s| s.text.as_str()).collect();
        for (port, suite) in SUITES {
            let implements =
                own().any(|s| !s.is_test() && s.text.contains(&format!("impl {port} for ")));
            if implements && !tests.contains(suite) {
                found.push(format!("{adapter} implements {port} and does not run {suite}"));
            }
        }
    }
    found
}
