//! Another process, known well enough never to be mistaken for one that got its number later.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::patience::until;

const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// Which word after the name of a process in its `stat` is its start time.
const STARTED: usize = 19;

/// A process, by its number, its start and the machine's.
///
/// It is written down by `cargo xtask services up` and signalled by a later `down`: by then the
/// number may belong to somebody else, whose start is another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub started: u64,
    /// Which start of the machine that was.
    pub boot: String,
}

impl Process {
    /// Identifies a running process.
    ///
    /// # Errors
    /// When there is none of that number.
    pub fn of(pid: u32) -> Result<Self, Error> {
        let boot = fs::read_to_string(BOOT).map_err(|e| Error::file("read", Path::new(BOOT), e))?;
        let started =
            started(pid).ok_or_else(|| Error::Misuse(format!("no process {pid} runs")))?;
        Ok(Self { pid, started, boot: boot.trim().to_owned() })
    }

    /// Tells whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).is_ok_and(|found| found == *self)
    }

    /// Sends it a signal, `TERM` for example; does nothing when it no longer runs.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&self, name: &str) -> Result<(), Error> {
        if !self.is_alive() {
            return Ok(());
        }
        let mut command = Command::new("sh");
        command.args(["-c", "kill -s \"$1\" \"$2\"", "kill", name, &self.pid.to_string()]);
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(|e| Error::command("starting sh", e))?;
        if output.status.success() || !self.is_alive() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::command(format!("sending {name} to process {}", self.pid), said.trim()))
    }

    /// Waits until it is gone; `false` when it still runs after `patience`.
    #[must_use]
    pub fn ended_within(&self, patience: Duration) -> bool {
        until(patience, || (!self.is_alive()).then_some(())).is_some()
    }
}

/// The start time of a process that runs; one that has ended and waits to be reaped does not.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets; nothing after it does.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    let state = words.clone().next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    words.nth(STARTED)?.parse().ok()
}
