//! Runs commands from the root of the workspace.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::output::Output;

/// Returns the root of the workspace.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_path_buf()
}

/// The flags that make a cargo command build for the simulator.
pub(crate) const SIM: &[&str] = &["--config", "sim/.cargo/config.toml", "--profile", "sim"];

/// Makes a cargo command that runs in `dir`.
pub(crate) fn cargo_in(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    // RUSTFLAGS would override the simulator's cfg, and its build would then simulate nothing.
    command.args(args).current_dir(dir).stdin(Stdio::null()).env_remove("RUSTFLAGS");
    command
}

/// Runs a named step and says how long it took; its output is shown as it comes.
pub(crate) fn step(out: &Output, name: &str, mut command: Command) -> Result<bool, String> {
    out.say(&format!("── {name}"));
    if out.is_json() {
        command.stdout(std::io::stderr());
    }
    let started = Instant::now();
    let status = command.status().map_err(|e| format!("{name}: cannot start: {e}"))?;
    ended(out, name, status.success(), started);
    Ok(status.success())
}

/// Runs a named step whose output is shown as it comes, and handed on line by line.
pub(crate) fn followed(
    out: &Output,
    name: &str,
    mut command: Command,
    mut each: impl FnMut(&str),
) -> Result<bool, String> {
    out.say(&format!("── {name}"));
    let cannot = |e: std::io::Error| format!("{name}: cannot start: {e}");
    let started = Instant::now();
    // One pipe for both, or what cargo says would not stand between the lines of the tests.
    let (reader, writer) = std::io::pipe().map_err(cannot)?;
    command.stdout(writer.try_clone().map_err(cannot)?).stderr(writer);
    let mut child = command.spawn().map_err(cannot)?;
    // Our ends of the pipe, without which it would never end.
    drop(command);
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.map_err(|e| format!("{name}: cannot read: {e}"))?;
        let line = String::from_utf8_lossy(&line);
        out.say(&line);
        each(&line);
    }
    let status = child.wait().map_err(|e| format!("{name}: {e}"))?;
    ended(out, name, status.success(), started);
    Ok(status.success())
}

/// Says how a step ended and how long it took.
pub(crate) fn ended(out: &Output, name: &str, ok: bool, started: Instant) {
    let took = started.elapsed().as_secs();
    let word = if ok { "ok" } else { "FAILED" };
    out.result(
        &serde_json::json!({"kind": "step", "name": name, "ok": ok, "seconds": took}),
        &format!("── {name}: {word} after {took} s"),
    );
}

/// Runs a command and returns its standard output, whatever its exit code.
pub(crate) fn capture(mut command: Command) -> Result<(bool, String, String), String> {
    let output = command.output().map_err(|e| format!("cannot start {command:?}: {e}"))?;
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}
