//! Laws without a test, invariants without a planted bug, adapters that skip a suite.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Figure, Source};
use crate::{conformance, mutants};

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
    let tested = tested(sources);
    let untested: Vec<String> = laws.difference(&tested).cloned().collect();
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
        Figure::none("behaviours that docs/conformance.md lacks", unlisted(sources)),
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

/// `ABC-1`, or `ABC-DEF-1` for a port within a port.
fn is_law(word: &str) -> bool {
    let is_prefix = |part: &str| part.len() == 3 && part.bytes().all(|b| b.is_ascii_uppercase());
    word.rsplit_once('-').is_some_and(|(prefix, number)| {
        prefix.split('-').all(is_prefix)
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// The laws that are tested: by a row of a suite that some backend runs, or by a `#[test]` named
/// after them (`obx_1_...`) or with a comment that opens with them (`// BRK-1, BRK-2: ...`).
fn tested(sources: &[Source]) -> BTreeSet<String> {
    let rust = || sources.iter().filter(|s| s.is_rust());
    let run = |suite: &str| rust().any(|s| s.is_test() && s.text.contains(&format!("{suite}!(")));
    let rows = rust().filter(|s| suite(&s.text).is_some_and(run)).flat_map(|s| rows(&s.text));
    rows.chain(rust().flat_map(|s| of_tests(&s.text))).collect()
}

/// The name of the suite that a file of the conformance crate declares.
fn suite(text: &str) -> Option<&str> {
    let (_, table) = text.split_once("\nsuite! {")?;
    let head = table.lines().find(|line| line.contains(" in ") && line.contains(" for "))?;
    head.split_whitespace().next()
}

/// The laws of the rows `"ABC-1" abc_1_...,`.
fn rows(text: &str) -> Vec<String> {
    let row = |line: &str| {
        let (law, test) = line.trim_start().strip_prefix('"')?.split_once("\" ")?;
        (is_law(law) && named(test).contains(&law.to_owned())).then(|| law.to_owned())
    };
    text.lines().filter_map(row).collect()
}

/// The behaviours of the suites that the page of results does not list.
fn unlisted(sources: &[Source]) -> Vec<String> {
    let page = sources.iter().find(|s| s.path == Path::new(conformance::PAGE));
    let page = page.map(|s| s.text.as_str()).unwrap_or_default();
    let suites = sources.iter().filter(|s| suite(&s.text).is_some());
    let names = suites.flat_map(|s| s.text.lines()).filter_map(behaviour);
    names.filter(|name| !page.contains(&format!("`{name}`"))).map(str::to_owned).collect()
}

/// The name in a row `"ABC-1" abc_1_...,`.
fn behaviour(line: &str) -> Option<&str> {
    let (law, name) = line.trim_start().strip_prefix('"')?.split_once("\" ")?;
    is_law(law).then(|| name.trim_end_matches([',', ';']))
}

/// The laws that the tests of a file name.
fn of_tests(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_test = |line: &str| line == "#[test]" || line.starts_with("#[tokio::test");
    let is_head = |line: &&&str| line.starts_with("//") || line.starts_with("#[");
    let mut found = Vec::new();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| is_test(line)) {
        let (above, below) = lines.split_at(at);
        let comments = above.iter().rev().take_while(is_head);
        comments.chain(below.iter().take_while(is_head)).for_each(|l| found.extend(opening(l)));
        let declaration = below.iter().find(|line| !is_head(line)).unwrap_or(&"");
        if let Some((_, name)) = declaration.split_once("fn ") {
            found.extend(named(name));
        }
    }
    found
}

/// The laws that a comment opens with: `BRK-1`, `I23, BUD-1: ...`, `LIM-2 and LIM-3.`
fn opening(line: &str) -> Vec<String> {
    let Some(comment) = line.strip_prefix("//") else { return Vec::new() };
    let words = comment.trim_start_matches(['/', ' ']).split_whitespace();
    let names = words.map(|word| word.trim_end_matches([',', ':', '.']));
    let is_name = |word: &&str| is_law(word) || is_invariant(word) || *word == "and";
    names.take_while(is_name).filter(|word| is_law(word)).map(str::to_owned).collect()
}

fn is_invariant(word: &str) -> bool {
    word.strip_prefix('I').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The laws in the name of a test.
fn named(name: &str) -> Vec<String> {
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    let words: Vec<&str> = name.get(..end).unwrap_or_default().split('_').collect();
    let pairs = words.windows(2).map(|pair| pair.join("-").to_ascii_uppercase());
    pairs.filter(|pair| is_law(pair)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_law_is_read_from_a_name_or_from_a_comment_at_a_test_and_from_nowhere_else() {
        let text = "
            // ABC-1: of a function that is no test.
            fn abc_2_helper() {}

            // I7, ABC-3 and ABC-4: why.
            // Speaks of ABC-5 in passing.
            #[test]
            #[should_panic]
            fn some_name() { \"ABC-6\"; }

            #[test]
            fn whatever_abc_7_holds() {}
        ";
        assert_eq!(of_tests(text), ["ABC-3", "ABC-4", "ABC-7"]);
    }

    #[test]
    fn a_suite_counts_when_a_test_runs_it() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.to_owned() };
        let table = "
suite! {
    ($)
    box_laws in boxes for Backend {
        Box:
            \"BOX-1\" box_1_holds,
            \"BOX-2\" other;
    }
}";
        let suite = source("crates/amarra-conformance/src/boxes.rs", table);
        assert!(tested(&[suite]).is_empty());
        let suite = source("crates/amarra-conformance/src/boxes.rs", table);
        let run = source("adapters/x/tests/it/main.rs", "amarra_conformance::box_laws!(X);");
        assert_eq!(tested(&[suite, run]), BTreeSet::from(["BOX-1".to_owned()]));
    }
}
