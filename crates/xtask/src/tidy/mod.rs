//! The bar of the repository: measured, printed, and failed when a figure is out of bounds.

mod files;
mod imports;
mod laws;
mod outgoing;
mod syntax;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::output::Output;
use crate::run::{capture, root};

/// One figure of the bar, with what stands against it.
#[derive(Debug)]
pub(crate) struct Figure {
    name: &'static str,
    value: u64,
    bound: u64,
    /// Whether `bound` is the least allowed value instead of the most.
    at_least: bool,
    found: Vec<String>,
}

impl Figure {
    /// A figure that must be zero: `found` says where it is not.
    pub(crate) fn none(name: &'static str, found: Vec<String>) -> Self {
        let value = u64::try_from(found.len()).unwrap_or(u64::MAX);
        Self { name, value, bound: 0, at_least: false, found }
    }

    /// A figure that must reach a bound.
    pub(crate) fn at_least(name: &'static str, value: u64, bound: u64, found: Vec<String>) -> Self {
        Self { name, value, bound, at_least: true, found }
    }

    fn ok(&self) -> bool {
        if self.at_least { self.value >= self.bound } else { self.value <= self.bound }
    }
}

/// A tracked text file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its path from the root.
    pub(crate) path: PathBuf,
    /// Its text.
    pub(crate) text: String,
}

impl Source {
    /// Returns the path as text.
    pub(crate) fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Tells whether it is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|e| e == "rs")
    }

    /// Tells whether the whole file is test code.
    pub(crate) fn is_test(&self) -> bool {
        self.path.components().any(|c| c.as_os_str() == "tests")
            || self.path.file_name().is_some_and(|f| f == "tests.rs")
    }
}

/// Measures every figure and prints the bar; false when one is out of bounds.
pub(crate) fn run(out: &Output) -> Result<bool, String> {
    let root = root();
    let sources = sources(&root)?;
    let mut figures = files::figures(&sources);
    figures.extend(syntax::figures(&sources)?);
    figures.extend(imports::figures(&sources)?);
    figures.extend(outgoing::figures(&sources)?);
    figures.extend(laws::figures(&root, &sources)?);
    let mut ok = true;
    for figure in &figures {
        ok &= figure.ok();
        let sign = if figure.at_least { "at least" } else { "at most" };
        out.result(
            &json!({"kind": "figure", "name": figure.name, "value": figure.value,
                    "bound": figure.bound, "ok": figure.ok(), "found": figure.found}),
            &format!(
                "{:<4} {:<44} {:>5}  {sign} {}",
                if figure.ok() { "ok" } else { "BAD" },
                figure.name,
                figure.value,
                figure.bound
            ),
        );
        if !figure.ok() {
            figure.found.iter().take(40).for_each(|f| out.say(&format!("       {f}")));
        }
    }
    let bad = figures.iter().filter(|f| !f.ok()).count();
    out.result(
        &json!({"kind": "summary", "figures": figures.len(), "bad": bad}),
        &format!("{} figures, {bad} out of bounds", figures.len()),
    );
    Ok(ok)
}

/// Reads every tracked or new text file.
fn sources(root: &Path) -> Result<Vec<Source>, String> {
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let (ok, names, error) = capture(list)?;
    if !ok {
        return Err(format!("git ls-files: {error}"));
    }
    let mut sources: Vec<Source> = names
        .split('\0')
        .filter(|name| !name.is_empty())
        .filter_map(|name| {
            let text = fs::read_to_string(root.join(name)).ok()?;
            Some(Source { path: PathBuf::from(name), text })
        })
        .collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}
