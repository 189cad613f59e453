//! Plants each bug of `sim/mutants` in a scratch copy and demands that the simulator catches it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::output::Output;
use crate::run::{capture, cargo_in, root};

/// Which bugs to plant and how hard to look for them.
#[derive(Debug)]
pub(crate) struct Options {
    /// Only bugs whose name contains this.
    pub(crate) only: Option<String>,
    /// Seeds a bug may take to be caught.
    pub(crate) seeds: u64,
    /// Whether to skip the count of failing seeds out of 100.
    pub(crate) quick: bool,
    /// Only so many of them, another choice for each commit; all when none.
    pub(crate) sample: Option<usize>,
}

/// A planted bug: a patch with a header of `# name: value` lines.
#[derive(Debug)]
pub(crate) struct Mutant {
    /// The file's name without its ending.
    pub(crate) name: String,
    /// The invariant that must catch it.
    pub(crate) invariant: String,
    /// The scenario whose faults provoke it.
    scenario: String,
    path: PathBuf,
}

/// Reads every planted bug, by name.
pub(crate) fn all(root: &Path) -> Result<Vec<Mutant>, String> {
    let dir = root.join("sim/mutants");
    let entries = fs::read_dir(&dir).map_err(|e| format!("cannot read sim/mutants: {e}"))?;
    let mut mutants = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| format!("cannot read sim/mutants: {e}"))?.path();
        if path.extension().is_some_and(|e| e == "patch") {
            mutants.push(read(path)?);
        }
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutants)
}

fn read(path: PathBuf) -> Result<Mutant, String> {
    let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let text = fs::read_to_string(&path).map_err(|e| format!("cannot read {name}: {e}"))?;
    let header = |key: &str| {
        let mut lines = text.lines().take_while(|l| l.starts_with('#'));
        lines.find_map(|l| l.strip_prefix(&format!("# {key}: "))).map(str::to_owned)
    };
    let invariant = header("invariant")
        .ok_or_else(|| format!("{name}.patch needs a first line `# invariant: I<n>`"))?;
    if header("what").is_none() {
        return Err(format!("{name}.patch needs a header line `# what: ...`"));
    }
    let scenario = header("scenario").unwrap_or_else(|| "shop".to_owned());
    Ok(Mutant { name, invariant, scenario, path })
}

/// Plants the bugs one by one; false when one is not caught.
pub(crate) fn run(out: &Output, options: &Options) -> Result<bool, String> {
    let root = root();
    let mutants: Vec<Mutant> = all(&root)?
        .into_iter()
        .filter(|m| options.only.as_ref().is_none_or(|part| m.name.contains(part)))
        .collect();
    if mutants.is_empty() {
        return Err("no planted bug matches".to_owned());
    }
    let scratch = Scratch::make(&root)?;
    // A bug that no longer applies catches nothing: every one is checked, whatever is run.
    for mutant in &mutants {
        let (ok, _, error) = capture(scratch.git_apply(mutant, &["--check"]))?;
        if !ok {
            return Err(format!("{}.patch does not apply: {}", mutant.name, error.trim()));
        }
    }
    let mutants = sampled(&root, mutants, options.sample)?;
    let header = format!(
        "{:<40} {:<10} {:<10} {:>10} {:>14}",
        "planted bug", "invariant", "caught by", "first seed", "failing of 100"
    );
    out.say(&header);
    let mut caught = 0;
    for mutant in &mutants {
        let found = scratch.try_mutant(mutant, options)?;
        let is_caught = found.caught_by.is_some();
        caught += usize::from(is_caught);
        out.result(
            &json!({"kind": "mutant", "name": mutant.name, "invariant": mutant.invariant,
                    "caught": is_caught, "caught_by": found.caught_by,
                    "first_seed": found.first_seed, "failing_of_100": found.failing_of_100}),
            &format!(
                "{:<40} {:<10} {:<10} {:>10} {:>14}",
                mutant.name,
                mutant.invariant,
                found.caught_by.as_deref().unwrap_or("NOT CAUGHT"),
                found.first_seed.map_or_else(|| "-".to_owned(), |s| s.to_string()),
                found.failing_of_100.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            ),
        );
    }
    out.result(
        &json!({"kind": "summary", "mutants": mutants.len(), "caught": caught}),
        &format!("{caught} of {} planted bugs caught", mutants.len()),
    );
    Ok(caught == mutants.len())
}

/// Chooses `count` of the bugs, spread evenly and shifted by the commit, so that the commits of a
/// week run them all.
fn sampled(root: &Path, mutants: Vec<Mutant>, count: Option<usize>) -> Result<Vec<Mutant>, String> {
    let Some(count) = count.filter(|count| *count < mutants.len()) else { return Ok(mutants) };
    let mut head = Command::new("git");
    head.args(["rev-parse", "--short=6", "HEAD"]).current_dir(root);
    let (_, text, _) = capture(head)?;
    let shift = usize::from_str_radix(text.trim(), 16).unwrap_or(0);
    let stride = mutants.len() / count.max(1);
    let len = mutants.len();
    let chosen: Vec<usize> = (0..count).map(|i| (shift + i * stride) % len).collect();
    let of = |(index, mutant): (usize, Mutant)| chosen.contains(&index).then_some(mutant);
    Ok(mutants.into_iter().enumerate().filter_map(of).collect())
}

/// What the simulator made of a planted bug.
#[derive(Debug, Default)]
struct Found {
    caught_by: Option<String>,
    first_seed: Option<u64>,
    failing_of_100: Option<u64>,
}

/// A copy of the tracked files, with a target directory of its own.
struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    fn make(root: &Path) -> Result<Self, String> {
        let dir = root.join("target/mutants/tree");
        let mut list = Command::new("git");
        list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        list.current_dir(root);
        let (ok, files, error) = capture(list)?;
        if !ok {
            return Err(format!("git ls-files: {error}"));
        }
        for file in files.split('\0').filter(|f| !f.is_empty()) {
            copy(&root.join(file), &dir.join(file))?;
        }
        let mut init = Command::new("git");
        init.args(["init", "-q"]).current_dir(&dir);
        capture(init)?;
        Ok(Self { dir })
    }

    /// Plants one bug, builds, runs, and takes the bug out again.
    fn try_mutant(&self, mutant: &Mutant, options: &Options) -> Result<Found, String> {
        let (ok, _, error) = capture(self.git_apply(mutant, &[]))?;
        if !ok {
            return Err(format!("{}.patch does not apply: {}", mutant.name, error.trim()));
        }
        let found = self.build_and_run(mutant, options);
        let (ok, _, error) = capture(self.git_apply(mutant, &["-R"]))?;
        if !ok {
            return Err(format!("{}.patch does not revert: {}", mutant.name, error.trim()));
        }
        found
    }

    fn git_apply(&self, mutant: &Mutant, flags: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.arg("apply").args(flags).arg(&mutant.path).current_dir(&self.dir);
        command
    }

    fn build_and_run(&self, mutant: &Mutant, options: &Options) -> Result<Found, String> {
        let mut build = vec!["build", "-q", "--target-dir", "../build"];
        build.extend(["--config", "sim/.cargo/config.toml", "--profile", "mutant", "-p", "sim"]);
        let (ok, _, error) = capture(cargo_in(&self.dir, &build))?;
        if !ok {
            return Err(format!("{} does not build:\n{error}", mutant.name));
        }
        let mut found = Found::default();
        let lines = self.simulate(mutant, options.seeds, true)?;
        // Another invariant may see the same bug in passing, and sooner: the named one counts.
        let named = |line: &&Value| violations(line).contains(&mutant.invariant);
        if let Some(line) = lines.iter().find(named) {
            found.first_seed = line.get("seed").and_then(Value::as_u64);
            found.caught_by = Some(mutant.invariant.clone());
            if !options.quick {
                let lines = self.simulate(mutant, 100, false)?;
                let failing = lines.iter().filter(|l| !violations(l).is_empty()).count();
                found.failing_of_100 = u64::try_from(failing).ok();
            }
        }
        Ok(found)
    }

    fn simulate(&self, mutant: &Mutant, seeds: u64, stop: bool) -> Result<Vec<Value>, String> {
        let mut command = Command::new(self.dir.join("../build/mutant/sim"));
        command
            .args(["run", "--json", "--scenario", &mutant.scenario])
            .arg(format!("--seeds={seeds}"));
        if stop {
            command.arg(format!("--until={}", mutant.invariant));
        }
        let (_, stdout, stderr) = capture(command)?;
        let lines: Vec<Value> =
            stdout.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        if lines.is_empty() {
            return Err(format!("{}: the simulator said nothing: {stderr}", mutant.name));
        }
        Ok(lines)
    }
}

fn violations(line: &Value) -> Vec<String> {
    let list = line.get("violations").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|v| v.get("invariant")?.as_str().map(str::to_owned))
        .collect()
}

/// Copies a file unless the copy has the same content: its time stamp then stays, and cargo does
/// not build it anew.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let error = |e: std::io::Error| format!("cannot copy {}: {e}", from.display());
    let Ok(content) = fs::read(from) else { return Ok(()) };
    if fs::read(to).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(error)?;
    }
    fs::write(to, content).map_err(error)
}
