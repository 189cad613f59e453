//! Runs the programs that installing needs, and gets them where that is possible.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::home::own_uid;

/// How much of a failed command's output is shown.
const SHOWN: usize = 2_000;

/// Runs a command to its end and returns what it printed.
pub(crate) fn run(action: &str, command: &mut Command) -> Result<String, Error> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|e| Error::command(action, format!("{command:?}: {e}")))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let all = format!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    let skipped = all.chars().count().saturating_sub(SHOWN);
    let end: String = all.chars().skip(skipped).collect();
    Err(Error::command(action, format!("{}: {}", output.status, end.trim())))
}

/// A program, and the Debian package that has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tool {
    pub(super) program: &'static str,
    pub(super) package: &'static str,
}

pub(super) const MAVEN: Tool = Tool { program: "mvn", package: "maven" };
pub(super) const JAVA: Tool = Tool { program: "java", package: "openjdk-17-jdk-headless" };
pub(super) const UNZIP: Tool = Tool { program: "unzip", package: "unzip" };
pub(super) const XZ: Tool = Tool { program: "xz", package: "xz-utils" };

/// Makes sure that programs exist, installing Debian's packages where we may.
pub(super) fn need(tools: &[Tool], needed_for: &str) -> Result<(), Error> {
    for tool in tools.iter().filter(|tool| on_path(tool.program).is_none()) {
        apt(tool.package, needed_for)?;
        if on_path(tool.program).is_none() {
            return Err(missing(tool.program, tool.package, needed_for, "it is still missing"));
        }
    }
    Ok(())
}

/// Installs a Debian package, without letting it start a server of its own.
pub(super) fn apt(package: &str, needed_for: &str) -> Result<(), Error> {
    if own_uid()? != 0 {
        return Err(missing(package, package, needed_for, "only root can install it"));
    }
    if on_path("apt-get").is_none() {
        return Err(missing(package, package, needed_for, "there is no apt-get here"));
    }
    let policy = NoStart::new()?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-q", "--no-install-recommends", package]);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    let action = format!("apt-get install {package}");
    if run(&action, &mut install).is_err() {
        run("apt-get update", Command::new("apt-get").args(["update", "-q"]))?;
        run(&action, &mut install)?;
    }
    drop(policy);
    Ok(())
}

fn missing(program: &str, package: &str, needed_for: &str, why: &str) -> Error {
    Error::Missing {
        program: program.to_owned(),
        needed_for: needed_for.to_owned(),
        remedy: format!("{why}; on Debian, as root: apt-get install {package}"),
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Keeps Debian's packages from starting their servers while it exists.
struct NoStart {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoStart {
    fn new() -> Result<Self, Error> {
        use std::os::unix::fs::PermissionsExt;
        let path = Path::new(POLICY);
        if path.exists() {
            return Ok(Self { ours: false });
        }
        std::fs::write(path, "#!/bin/sh\nexit 101\n")
            .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)))
            .map_err(|e| Error::file("write", path, e))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoStart {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}
