//! Named tasks that start, stop and end together.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amarra_messaging::shutdown::ShutdownHandle;
use amarra_messaging::{ConfigError, Shutdown};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::config::TaskGroupConfig;
use crate::signal::StopSignals;

/// Runs the tasks of one process, and ends them together.
///
/// Cheap to clone; the clones are one group. A task that panics stops the whole group: half of a
/// service is worse than none, because nobody restarts it.
#[derive(Debug, Clone)]
pub struct TaskGroup {
    shared: Arc<Shared>,
    shutdown: Shutdown,
    config: TaskGroupConfig,
}

#[derive(Debug)]
struct Shared {
    handle: ShutdownHandle,
    tasks: Mutex<Tasks>,
}

#[derive(Debug, Default)]
struct Tasks {
    running: JoinSet<()>,
    names: BTreeMap<Id, String>,
}

/// Why a group began to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// Somebody called [`TaskGroup::request_stop`].
    Requested,
    /// The signal of that name came.
    Signal(&'static str),
    /// A task panicked.
    Panic,
    /// Every task ended by itself.
    Finished,
}

/// How a group ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Why it began to stop.
    pub why: Why,
    /// Tasks that panicked, with what they said.
    pub panics: Vec<(String, String)>,
    /// Tasks that did not end within `drain_timeout` and were aborted.
    pub aborted: Vec<String>,
}

impl End {
    /// Tells whether every task ended by itself.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.panics.is_empty() && self.aborted.is_empty()
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Requested => write!(f, "stopped as asked")?,
            Why::Signal(name) => write!(f, "stopped by {name}")?,
            Why::Panic => write!(f, "stopped by a panic")?,
            Why::Finished => write!(f, "every task ended")?,
        }
        for (name, said) in &self.panics {
            write!(f, "; task {name} panicked: {said}")?;
        }
        if !self.aborted.is_empty() {
            write!(f, "; aborted after drain_timeout: {}", self.aborted.join(", "))?;
        }
        Ok(())
    }
}

impl TaskGroup {
    /// Makes an empty group.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn new(config: TaskGroupConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let (handle, shutdown) = Shutdown::new();
        let shared = Shared { handle, tasks: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), shutdown, config })
    }

    /// Returns what its tasks watch to know when to stop.
    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Asks every task to stop; again is harmless.
    pub fn request_stop(&self) {
        self.shared.handle.request();
    }

    /// Starts a task; `name` is what reports call it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(&self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.lock();
        let id = tasks.running.spawn(task).id();
        tasks.names.insert(id, name.into());
    }

    /// Lists the tasks that run, by name.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        self.lock().names.values().cloned().collect()
    }

    /// Runs until SIGINT, SIGTERM, a requested stop, a panic, or the end of every task; then asks
    /// the rest to stop and waits for them, at most `drain_timeout`. A second signal waits no more.
    ///
    /// # Cancellation
    /// Dropping the future leaves the tasks running; they end with the last clone of the group.
    pub async fn run(&self) -> End {
        let mut signals = StopSignals::listen().ok();
        let mut end = End { why: Why::Finished, panics: Vec::new(), aborted: Vec::new() };
        end.why = self.until_stop(&mut signals, &mut end.panics).await;
        self.request_stop();
        self.drain(&mut signals, &mut end).await;
        end
    }

    async fn until_stop(
        &self,
        signals: &mut Option<StopSignals>,
        panics: &mut Vec<(String, String)>,
    ) -> Why {
        loop {
            tokio::select! {
                biased;
                name = signalled(signals) => return Why::Signal(name),
                () = self.shutdown.requested() => return Why::Requested,
                ended = self.next_end() => match ended {
                    None => return Why::Finished,
                    Some(None) => {}
                    Some(Some(panic)) => {
                        panics.push(panic);
                        return Why::Panic;
                    }
                },
            }
        }
    }

    async fn drain(&self, signals: &mut Option<StopSignals>, end: &mut End) {
        let deadline = Instant::now().checked_add(self.config.drain_timeout);
        let mut out_of_time = pin!(async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        });
        loop {
            tokio::select! {
                biased;
                ended = self.next_end() => match ended {
                    None => return,
                    Some(panic) => end.panics.extend(panic),
                },
                () = &mut out_of_time => break,
                _ = signalled(signals) => break,
            }
        }
        end.aborted = self.running();
        end.aborted.sort();
        self.lock().running.abort_all();
        while let Some(panic) = self.next_end().await {
            end.panics.extend(panic);
        }
    }

    /// Waits for the next task to end and says whether it panicked; `None` when none is left.
    async fn next_end(&self) -> Option<Option<(String, String)>> {
        std::future::poll_fn(|cx| {
            // The set wakes this for tasks spawned meanwhile as well.
            self.lock().running.poll_join_next_with_id(cx)
        })
        .await
        .map(|ended| {
            let (id, error) = match ended {
                Ok((id, ())) => (id, None),
                Err(error) => (error.id(), Some(error)),
            };
            let name = self.lock().names.remove(&id).unwrap_or_else(|| id.to_string());
            error.and_then(said).map(|said| (name, said))
        })
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn signalled(signals: &mut Option<StopSignals>) -> &'static str {
    match signals {
        Some(signals) => signals.received().await,
        None => std::future::pending().await,
    }
}

/// What a task that panicked said; nothing for one that was aborted.
fn said(error: JoinError) -> Option<String> {
    let payload: Box<dyn Any + Send> = error.try_into_panic().ok()?;
    let text = payload
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned());
    Some(text.unwrap_or_else(|| "no message".to_owned()))
}
