//! A small shell process between us and a server, which stops the server once we are gone.

use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::patience::until;

const SCRIPT: &str = include_str!("guardian.sh");

/// How much of a log is shown.
const LOG_TAIL: u64 = 8 * 1024;

/// What a guardian needs to know.
#[derive(Debug)]
pub(crate) struct Duty {
    /// Name of the server, for messages.
    pub(crate) name: String,
    /// The signal that ends the server at once: `QUIT` or `KILL`.
    pub(crate) stop: &'static str,
    /// Where the server's output goes.
    pub(crate) log: PathBuf,
    /// What is removed once the server is gone.
    pub(crate) folder: PathBuf,
    /// The server's command, in its own process from the start.
    pub(crate) command: Vec<String>,
}

/// Runs a server; dropped, or when this process dies, the server stops and its folder goes.
///
/// The guardian holds the read end of a pipe whose write end only this process has, so the kernel
/// tells it of any death of ours. As the server's parent it can tell a reused process id from its
/// own.
#[derive(Debug)]
pub(crate) struct Guardian {
    duty: Duty,
    talk: Mutex<Talk>,
}

#[derive(Debug)]
struct Talk {
    shell: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pid: Option<u32>,
    detached: bool,
}

impl Guardian {
    /// Starts the guardian, not yet the server.
    pub(crate) fn new(duty: Duty) -> Result<Self, Error> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "guardian", duty.stop]);
        command.arg(&duty.log).arg(&duty.folder).args(&duty.command);
        // In its own group a Ctrl-C meant for the tests does not reach it.
        command.process_group(0).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().map_err(|e| Error::command("starting sh", e))?;
        let (Some(ask), Some(answers)) = (shell.stdin.take(), shell.stdout.take()) else {
            return Err(Error::command("starting sh", "it has no pipes"));
        };
        let answers = BufReader::new(answers);
        let talk = Talk { shell, ask: Some(ask), answers, pid: None, detached: false };
        Ok(Self { duty, talk: Mutex::new(talk) })
    }

    /// Starts the server; does nothing when it runs.
    pub(crate) fn start(&self) -> Result<(), Error> {
        let mut talk = self.talk();
        let answer = talk.ask(&self.duty.name, "start")?;
        if let Some(pid) = answer.strip_prefix("pid ") {
            talk.pid = pid.parse().ok();
        }
        Ok(())
    }

    /// Tells whether the server's process exists.
    pub(crate) fn alive(&self) -> Result<bool, Error> {
        self.yes("alive")
    }

    /// Sends a signal to the server itself.
    pub(crate) fn signal(&self, name: &str) -> Result<bool, Error> {
        self.yes(&format!("signal {name}"))
    }

    /// Stops the clock of the server and of its children.
    pub(crate) fn freeze(&self) -> Result<bool, Error> {
        self.yes("freeze")
    }

    /// Lets a frozen server go on.
    pub(crate) fn thaw(&self) -> Result<bool, Error> {
        self.yes("thaw")
    }

    /// Kills the server and its children with `SIGKILL`, all between two instants of theirs.
    pub(crate) fn murder(&self) -> Result<(), Error> {
        self.yes("murder")?;
        self.reap()
    }

    /// Waits until the server's process is gone; `false` when it still runs after `patience`.
    pub(crate) fn ended_within(&self, patience: Duration) -> Result<bool, Error> {
        let ended = until(patience, || match self.alive() {
            Ok(true) => None,
            Ok(false) => Some(Ok(())),
            Err(e) => Some(Err(e)),
        });
        match ended {
            Some(Ok(())) => self.reap().map(|()| true),
            Some(Err(e)) => Err(e),
            None => Ok(false),
        }
    }

    /// Lets the server outlive this process, and nobody remove its folder.
    pub(crate) fn detach(&self) -> Result<(), Error> {
        self.yes("detach")?;
        self.talk().detached = true;
        Ok(())
    }

    /// The process id of the server, when it was started.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.talk().pid
    }

    pub(crate) fn name(&self) -> &str {
        &self.duty.name
    }

    /// The end of the server's log.
    pub(crate) fn log(&self) -> String {
        tail(&self.duty.log)
    }

    fn reap(&self) -> Result<(), Error> {
        let mut talk = self.talk();
        talk.ask(&self.duty.name, "reap")?;
        talk.pid = None;
        Ok(())
    }

    fn yes(&self, verb: &str) -> Result<bool, Error> {
        self.talk().ask(&self.duty.name, verb).map(|answer| answer == "yes")
    }

    fn talk(&self) -> std::sync::MutexGuard<'_, Talk> {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Talk {
    fn ask(&mut self, server: &str, verb: &str) -> Result<String, Error> {
        let gone = |e: std::io::Error| Error::command(format!("steering {server}"), e);
        let ask = self.ask.as_mut().ok_or_else(|| gone(std::io::ErrorKind::NotConnected.into()))?;
        writeln!(ask, "{verb}").and_then(|()| ask.flush()).map_err(gone)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).map_err(gone)?;
        if answer.is_empty() {
            return Err(gone(std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(answer.trim().to_owned())
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        let talk = self.talk.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(talk.ask.take());
        // A detached guardian stays as long as its server does.
        if !talk.detached {
            let _ = talk.shell.wait();
        }
    }
}

/// The end of a log file, or a word on why there is none.
pub(crate) fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = fs::File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|e| format!("(no log: {e})"))
}
