//! The catalogue of laws: no name twice, each named after its law, and many.

use std::collections::BTreeSet;

use amarra_conformance::laws;

#[test]
fn every_name_is_unique_and_starts_with_its_law() {
    let mut names = BTreeSet::new();
    for law in laws() {
        let prefix = law.law.to_ascii_lowercase().replace('-', "_");
        assert!(law.name.starts_with(&format!("{prefix}_")), "{} is not of {}", law.name, law.law);
        assert!(names.insert(law.name), "{} stands there twice", law.name);
    }
    assert!(names.len() > 200, "only {} behaviours are checked", names.len());
}
