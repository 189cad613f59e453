//! What test binaries answered, read from the lines that they print.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::run::{capture, cargo_in};

/// Tests by package and name, and whether they passed.
#[derive(Debug, Default)]
pub(crate) struct Results {
    passed: BTreeMap<(String, String), bool>,
    /// Whose binary is printing.
    package: Option<String>,
}

impl Results {
    /// Tells whether a test passed, none when it did not run.
    pub(super) fn of(&self, package: &str, test: &str) -> Option<bool> {
        self.passed.get(&(package.to_owned(), test.to_owned())).copied()
    }

    /// Says whose tests the next lines are of.
    pub(super) fn begin(&mut self, package: &str) {
        self.package = Some(package.to_owned());
    }

    /// Reads one line of a run of several packages; `binaries` tells whose a binary is.
    pub(crate) fn follow(&mut self, line: &str, binaries: &BTreeMap<String, String>) {
        let line = line.trim_start();
        if let Some(running) = line.strip_prefix("Running ") {
            let binary = running.rsplit_once('(').map(|(_, path)| path.trim_end_matches(')'));
            let name = binary.and_then(|path| Path::new(path).file_name()?.to_str());
            self.package = name.and_then(|name| binaries.get(name)).cloned();
        } else if line.starts_with("Doc-tests ") {
            self.package = None;
        } else {
            self.line(line);
        }
    }

    /// Reads one line: `test a::b ... ok`.
    pub(super) fn line(&mut self, line: &str) {
        let Some(package) = &self.package else { return };
        let Some((name, word)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        else {
            return;
        };
        let passed = match word.split_whitespace().next_back() {
            Some("ok") => true,
            Some("FAILED") => false,
            _ => return,
        };
        self.passed.insert((package.clone(), name.to_owned()), passed);
    }
}

/// Builds test binaries and returns whose each binary `it` is, by its file name.
pub(crate) fn binaries(root: &Path, test: &[&str]) -> Result<BTreeMap<String, String>, String> {
    let mut arguments = test.to_vec();
    arguments.extend(["--no-run", "--message-format=json-render-diagnostics"]);
    let command: Command = cargo_in(root, &arguments);
    let (_, messages, _) = capture(command)?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let binary = |message: Value| {
        let of_it = message.pointer("/target/name")?.as_str()? == "it";
        let path = message.get("executable")?.as_str().filter(|_| of_it)?;
        let binary = Path::new(path).file_name()?.to_str()?.to_owned();
        let manifest = Path::new(message.get("manifest_path")?.as_str()?);
        let package = manifest.parent()?.file_name()?.to_str()?.to_owned();
        Some((binary, package))
    };
    Ok(messages.filter_map(binary).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_several_packages_is_told_apart_by_its_binaries() {
        let binaries = [("it-1", "a"), ("it-2", "b")];
        let binaries = binaries.into_iter().map(|(b, p)| (b.to_owned(), p.to_owned())).collect();
        let mut results = Results::default();
        for line in [
            "     Running unittests src/lib.rs (target/debug/deps/a-9)",
            "test conformance::x ... FAILED",
            "     Running tests/it/main.rs (target/debug/deps/it-1)",
            "test conformance::x ... ok",
            "test conformance::y - should panic ... ok",
            "     Running tests/it/main.rs (target/debug/deps/it-2)",
            "test conformance::x ... FAILED",
            "test conformance::z ... ignored, why",
            "   Doc-tests b",
            "test conformance::z ... ok",
        ] {
            results.follow(line, &binaries);
        }
        assert_eq!(results.of("a", "conformance::x"), Some(true));
        assert_eq!(results.of("b", "conformance::x"), Some(false));
        assert_eq!(results.of("b", "conformance::z"), None);
    }
}
