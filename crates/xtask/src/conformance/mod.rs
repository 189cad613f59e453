//! Every behaviour of every port with its result on every backend: `cargo xtask conformance`.

mod backends;
mod page;
mod results;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use self::backends::{BACKENDS, Backend};
use self::table::Table;
use crate::output::Output;
use crate::run::{capture, cargo_in, root};

pub(crate) use self::results::{Results, binaries};

/// Where the page is that lists them.
pub(crate) const PAGE: &str = "docs/conformance.md";

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only this backend, by name; may be given several times.
    #[arg(long = "backend", value_name = "NAME")]
    backends: Vec<String>,
    /// Writes docs/conformance.md; needs every backend.
    #[arg(long, conflicts_with = "backends")]
    write: bool,
}

/// One behaviour, as the conformance crate lists it.
#[derive(Debug, Clone, Deserialize)]
struct Law {
    port: String,
    law: String,
    name: String,
}

/// Runs the laws on the backends and prints what came of it; false when one does not hold.
pub(crate) fn run(out: &Output, options: &Options) -> Result<bool, String> {
    let root = root();
    let backends = chosen(&options.backends)?;
    let laws = laws(&root)?;
    let packages: BTreeSet<&str> = backends.iter().map(|b| b.package).collect();
    let mut results = Results::default();
    for package in packages {
        out.say(&format!("── {package}"));
        run_package(&root, out, package, &backends, &mut results)?;
    }
    let table = Table::new(&laws, &backends, &results);
    let ok = table.print(out);
    if options.write {
        fs::write(root.join(PAGE), page::render(&table)).map_err(|e| format!("{PAGE}: {e}"))?;
        out.say(&format!("wrote {PAGE}"));
    }
    Ok(ok)
}

/// Prints what came of the laws in a run that has been; `without` names packages that did not run.
pub(crate) fn report(out: &Output, results: &Results, without: &[&str]) -> Result<bool, String> {
    let backends: Vec<&Backend> =
        BACKENDS.iter().filter(|b| !without.contains(&b.package)).collect();
    Ok(Table::new(&laws(&root())?, &backends, results).print(out))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Backend>, String> {
    if names.is_empty() {
        return Ok(BACKENDS.iter().collect());
    }
    let find = |name: &String| {
        let all = || BACKENDS.iter().map(|b| b.name).collect::<Vec<_>>().join(", ");
        BACKENDS
            .iter()
            .find(|backend| backend.name == name)
            .ok_or_else(|| format!("there is no backend {name}; there are {}", all()))
    };
    names.iter().map(find).collect()
}

fn laws(root: &Path) -> Result<Vec<Law>, String> {
    let list = ["run", "-q", "-p", "amarra-conformance", "--example", "laws"];
    let (ok, lines, error) = capture(cargo_in(root, &list))?;
    if !ok {
        return Err(format!("the list of laws: {error}"));
    }
    let read = |line| serde_json::from_str(line).map_err(|e| format!("the list of laws: {e}"));
    lines.lines().map(read).collect()
}

/// Runs the laws of a package's backends, all in one process: they share their servers.
fn run_package(
    root: &Path,
    out: &Output,
    package: &str,
    backends: &[&Backend],
    results: &mut Results,
) -> Result<(), String> {
    let modules = backends.iter().filter(|b| b.package == package).flat_map(|b| b.runs);
    let filters: Vec<String> = modules.map(|(module, _)| format!("{module}::")).collect();
    let mut arguments = vec!["test", "-p", package, "--test", "it", "--"];
    arguments.extend(filters.iter().map(String::as_str));
    let (ok, lines, error) = capture(cargo_in(root, &arguments))?;
    if !ok {
        out.say(&error);
        out.say(&lines);
    }
    results.begin(package);
    lines.lines().for_each(|line| results.line(line));
    Ok(())
}
