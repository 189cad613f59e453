//! A process of this program's own, and what it used of the processors.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::Failure;
use crate::child::{Plan, Told};

/// A process; it ends with this value.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    words: Option<Words>,
}

/// What a process says.
#[derive(Debug)]
pub(crate) struct Words(BufReader<ChildStdout>);

impl Process {
    /// Starts one.
    pub(crate) fn start(plan: &Plan) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("child").arg(serde_json::to_string(plan)?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let words = child.stdout.take().map(|out| Words(BufReader::new(out)));
        Ok(Self { child, words })
    }

    /// Waits for what it says next; none once it has ended.
    pub(crate) fn next(&mut self) -> Result<Option<Told>, Failure> {
        self.words.as_mut().map_or(Ok(None), Words::next)
    }

    /// Returns what it says, to be read by somebody else.
    pub(crate) fn take_words(&mut self) -> Result<Words, Failure> {
        self.words.take().ok_or_else(|| "somebody reads already".into())
    }

    /// Kills it at once.
    pub(crate) fn kill9(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kill9();
    }
}

impl Words {
    /// Waits for what it says next; none once it has ended.
    pub(crate) fn next(&mut self) -> Result<Option<Told>, Failure> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }
}

/// Returns the microseconds of processor time, user's and system's, that a process has used.
pub(crate) fn cpu_micros(pid: &str) -> u64 {
    stat(&format!("/proc/{pid}/stat"))
}

/// Returns those of a process and everything that came out of it and runs.
pub(crate) fn cpu_micros_of_family(pid: u32) -> u64 {
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
    let read = |process: std::fs::DirEntry| {
        let id: u32 = process.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some((id, parent, ticks(&stat)))
    };
    let all: Vec<(u32, u32, u64)> = processes.flatten().filter_map(read).collect();
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        family.extend(all.iter().filter(|(_, p, _)| *p == parent).map(|(id, ..)| *id));
        at += 1;
    }
    let ours = all.iter().filter(|(id, ..)| family.contains(id));
    ours.map(|(.., ticks)| ticks * 10_000).sum()
}

/// Returns those of this process's threads whose names begin with none of `but`.
pub(crate) fn cpu_micros_of_threads(but: &[&str]) -> u64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let of = |thread: std::fs::DirEntry| {
        let path = thread.path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let counts = !but.iter().any(|but| name.starts_with(but));
        if counts { stat(&path.join("stat").to_string_lossy()) } else { 0 }
    };
    threads.flatten().map(of).sum()
}

fn stat(path: &str) -> u64 {
    // A hundred ticks a second, whatever the kernel's own.
    ticks(&std::fs::read_to_string(path).unwrap_or_default()) * 10_000
}

/// Returns what a process or thread used, and its children that have ended, in ticks.
fn ticks(stat: &str) -> u64 {
    // The name may hold spaces and brackets; nothing after it does.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut next = || fields.next().and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    next() + next() + next() + next()
}
