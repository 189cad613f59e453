//! Keeps one process running.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use amarra_messaging::Shutdown;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::event::{Event, What};
use crate::config::SupervisorSection;
use crate::name::Name;

/// The longest line of a process that is repeated, in bytes.
const LINE_BYTES_MAX: usize = 4096;

/// Keeps one service's process running.
#[derive(Debug)]
pub(super) struct Keeper {
    /// The service.
    pub(super) name: Name,
    /// This program.
    pub(super) program: PathBuf,
    /// The configuration.
    pub(super) path: PathBuf,
    /// How patient to be.
    pub(super) section: SupervisorSection,
    /// Who is told.
    pub(super) events: mpsc::Sender<Event>,
}

/// What a process says once it is ready.
#[derive(Deserialize)]
struct Ready {
    url: String,
    pid: u32,
}

impl Keeper {
    /// Starts the process again and again until a stop is requested; then ends it.
    pub(super) async fn keep(self, shutdown: Shutdown) {
        let (mut restarts, mut deaths) = (0_u64, 0_u32);
        while !shutdown.is_requested() {
            let began = Instant::now();
            match self.spawn() {
                Ok(child) => self.watch(child, restarts, &shutdown).await,
                Err(e) => self.tell(What::Failed { why: e.to_string() }).await,
            }
            let steady = began.elapsed() >= self.section.steady_after.0;
            deaths = if steady { 0 } else { deaths.saturating_add(1) };
            restarts = restarts.saturating_add(1);
            if shutdown.is_requested() {
                return;
            }
            let wait = self.wait_after(deaths);
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            self.tell(What::Waiting { millis }).await;
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn wait_after(&self, deaths: u32) -> Duration {
        let doubled = 1_u32.checked_shl(deaths.saturating_sub(1)).unwrap_or(u32::MAX);
        let SupervisorSection { backoff_min, backoff_max, .. } = self.section;
        backoff_min.0.saturating_mul(doubled).min(backoff_max.0)
    }

    fn spawn(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .args(["serve", "--json", "--stop-with-stdin", "--service", self.name.as_str()])
            .arg("--config")
            .arg(&self.path)
            // It holds one end of this pipe and we the other: however we end, it is told.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C is for us: we end the processes in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    async fn watch(&self, mut child: Child, restarts: u64, shutdown: &Shutdown) {
        let pid = child.id().unwrap_or_default();
        self.tell(What::Started { pid, restarts }).await;
        let mut input = child.stdin.take();
        let said = child.stdout.take().map(|out| self.repeat(out));
        let complained = child.stderr.take().map(|err| self.repeat(err));
        let talk = async {
            let both = (said, complained);
            match both {
                (Some(said), Some(complained)) => {
                    futures_util::future::join(said, complained).await;
                }
                _ => std::future::pending().await,
            }
        };
        let ending = async {
            tokio::select! {
                biased;
                status = child.wait() => return status,
                () = shutdown.requested() => drop(input.take()),
            }
            match tokio::time::timeout(self.section.stop_patience.0, child.wait()).await {
                Ok(status) => status,
                Err(_) => {
                    child.start_kill()?;
                    child.wait().await
                }
            }
        };
        // Its last words are read to their end: they say why it ended.
        let (_, status) = futures_util::future::join(talk, ending).await;
        let what = match status {
            Ok(status) => What::Ended { pid, code: status.code(), signal: status.signal() },
            Err(e) => What::Failed { why: e.to_string() },
        };
        self.tell(what).await;
    }

    /// Repeats what a process says, line by line.
    async fn repeat(&self, stream: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(mut line)) = lines.next_line().await {
            let end =
                (0..=LINE_BYTES_MAX.min(line.len())).rev().find(|i| line.is_char_boundary(*i));
            line.truncate(end.unwrap_or(0));
            let ready = line.starts_with('{').then(|| serde_json::from_str::<Ready>(&line));
            let what = match ready {
                Some(Ok(Ready { url, pid })) => What::Ready { url, pid },
                _ => What::Said { line },
            };
            self.tell(what).await;
        }
    }

    async fn tell(&self, what: What) {
        // Nobody listens any more when the supervisor ends.
        let _ = self.events.send(Event { service: self.name, what }).await;
    }
}
