//! Everything that runs in the process, in three stages that end one after the other.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use amarra_messaging::{Shutdown, ShutdownHandle};
use amarra_store::Handler;
use amarra_tokio::signal::StopSignals;
use tokio::sync::oneshot;
use tokio::task::{Id, JoinSet};

use crate::http::health::Health;
use crate::output;
use crate::refusal::Failure;

/// What ends together. The order is that of the ending: nobody is asked anything new once what it
/// would set going has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Listeners.
    Serve,
    /// Consumers, workers, deliveries.
    Work,
    /// Relays: they publish what the others wrote last.
    Relay,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Begin = Box<dyn FnOnce(Shutdown) -> Task + Send>;

/// What will run, collected while everything is put together, so that nothing runs when a later
/// part is refused.
#[derive(Default)]
pub(crate) struct Plan {
    tasks: Vec<(Stage, String, Begin)>,
    handlers: Vec<(&'static str, Arc<dyn Handler>)>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.tasks.iter().map(|(stage, name, _)| (stage, name)).collect();
        f.debug_struct("Plan").field("tasks", &names).finish()
    }
}

impl Plan {
    /// Adds a task; it is given what tells it to stop.
    pub(crate) fn add<F, R>(&mut self, stage: Stage, name: impl Into<String>, task: F)
    where
        F: FnOnce(Shutdown) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.tasks.push((stage, name.into(), Box::new(|shutdown| Box::pin(task(shutdown)))));
    }

    /// Takes note of what handles messages, and in whose name.
    pub(crate) fn handles(&mut self, source: &'static str, handler: Arc<dyn Handler>) {
        self.handlers.push((source, handler));
    }

    /// Returns what handles the messages of a group, and in whose name.
    pub(crate) fn handler(
        &self,
        group: &amarra_messaging::Group,
    ) -> Option<(&'static str, Arc<dyn Handler>)> {
        self.handlers.iter().find(|(_, handler)| handler.group() == group).cloned()
    }

    /// Starts everything.
    /// `with_stdin` stops it as well once standard input ends.
    pub(crate) fn start(self, with_stdin: bool) -> Result<Running, Failure> {
        // From here on a signal ends the process in order, and not by itself.
        let signals = StopSignals::listen()
            .map_err(|e| Failure::refused(format!("cannot listen for signals: {e}")))?;
        let mut groups = BTreeMap::new();
        for stage in [Stage::Serve, Stage::Work, Stage::Relay] {
            groups.insert(stage, Group::new());
        }
        for (stage, name, task) in self.tasks {
            if let Some(group) = groups.get_mut(&stage) {
                group.spawn(name, task);
            }
        }
        let input = with_stdin.then(watch_input);
        Ok(Running { signals, groups, input })
    }
}

#[derive(Debug)]
struct Group {
    handle: ShutdownHandle,
    shutdown: Shutdown,
    tasks: JoinSet<()>,
    names: BTreeMap<Id, String>,
}

impl Group {
    fn new() -> Self {
        let (handle, shutdown) = Shutdown::new();
        Self { handle, shutdown, tasks: JoinSet::new(), names: BTreeMap::new() }
    }

    fn spawn(&mut self, name: String, task: Begin) {
        let id = self.tasks.spawn(task(self.shutdown.clone())).id();
        self.names.insert(id, name);
    }

    /// Returns the name of the next task that ended, and whether it panicked; never when none runs.
    async fn next_end(&mut self) -> (String, bool) {
        match self.tasks.join_next_with_id().await {
            None => std::future::pending().await,
            Some(ended) => {
                let (id, panicked) = match ended {
                    Ok((id, ())) => (id, false),
                    Err(e) => (e.id(), e.is_panic()),
                };
                (self.names.remove(&id).unwrap_or_default(), panicked)
            }
        }
    }

    async fn drained(&mut self) -> bool {
        let mut sound = true;
        while !self.tasks.is_empty() {
            sound &= !self.next_end().await.1;
        }
        sound
    }
}

/// How long an ending takes at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// How long the process says that it stops before it does.
    pub(crate) grace: Duration,
    /// How long all stages may take to end.
    pub(crate) drain: Duration,
}

/// A process at work.
#[derive(Debug)]
pub(crate) struct Running {
    signals: StopSignals,
    groups: BTreeMap<Stage, Group>,
    /// Answers once standard input ended.
    input: Option<oneshot::Receiver<()>>,
}

impl Running {
    /// Runs until SIGINT, SIGTERM or the end of a task, which none has before it is asked to; then
    /// ends the stages in order. A second signal ends the process at once.
    pub(crate) async fn until_stopped(
        mut self,
        health: &Arc<Health>,
        patience: Patience,
    ) -> Result<(), Failure> {
        let why = self.first_end().await;
        health.stopping();
        let Self { mut signals, mut groups, .. } = self;
        let ending = async {
            if why.is_ok() {
                tokio::time::sleep(patience.grace).await;
            }
            let drained = tokio::time::timeout(patience.drain, async {
                let mut sound = true;
                for group in groups.values_mut() {
                    group.handle.request();
                    sound &= group.drained().await;
                }
                sound
            });
            drained.await
        };
        let drained = tokio::select! {
            biased;
            name = signals.received() => {
                output::complain(&format!("second {name}: ending at once"));
                std::process::exit(130);
            }
            drained = ending => drained,
        };
        why.map_err(Failure::Failed)?;
        match drained {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::Failed("a task panicked while it ended".to_owned())),
            Err(_) => {
                let left: Vec<_> = groups.values().flat_map(|g| g.names.values()).collect();
                let why = format!("process.drain_timeout passed; cut: {left:?}");
                Err(Failure::Failed(why))
            }
        }
    }

    /// Waits for a signal, or for the end of a task, and tells which one ended.
    async fn first_end(&mut self) -> Result<(), String> {
        let mut groups: Vec<&mut Group> = self.groups.values_mut().collect();
        let ends = groups.iter_mut().map(|group| Box::pin(group.next_end()));
        let (name, panicked) = tokio::select! {
            biased;
            _ = self.signals.received() => return Ok(()),
            () = ended(&mut self.input) => return Ok(()),
            (ended, _, _) = futures_util::future::select_all(ends) => ended,
        };
        let how = if panicked { "panicked" } else { "ended by itself" };
        Err(format!("{name} {how}; the process ends, so that it is started again as a whole"))
    }
}

/// Reads standard input to its end, on a thread that nobody waits for.
fn watch_input() -> oneshot::Receiver<()> {
    let (told, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        // Nobody listens any more when the process ends already.
        let _ = told.send(());
    });
    ended
}

async fn ended(input: &mut Option<oneshot::Receiver<()>>) {
    match input {
        Some(input) => drop(input.await),
        None => std::future::pending().await,
    }
}
