//! Runs commands from the root of the workspace.

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
    let took = started.elapsed().as_secs();
    let ok = status.success();
    let word = if ok { "ok" } else { "FAILED" };
    out.result(
        &serde_json::json!({"kind": "step", "name": name, "ok": ok, "seconds": took}),
        &format!("── {name}: {word} after {took} s"),
    );
    Ok(ok)
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
