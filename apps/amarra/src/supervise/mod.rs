//! Every service as a process of its own: started, watched, started again, and ended together.

mod child;
mod event;
mod generate;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use amarra_messaging::Shutdown;
use amarra_tokio::signal::StopSignals;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::child::Keeper;
use self::event::What;
use crate::args::Supervise;
use crate::config::{self, Config};
use crate::name::Name;
use crate::refusal::{Failure, Refuse};
use crate::upkeep;

/// Events that wait to be printed.
const EVENTS_MAX: usize = 1024;

/// Runs the processes until asked to stop.
pub(crate) async fn run(args: &Supervise) -> Result<(), Failure> {
    let mut signals = StopSignals::listen().refuse_for("cannot listen for signals")?;
    let making = settings(args);
    let (path, config) = tokio::select! {
        biased;
        _ = signals.received() => return Ok(()),
        made = making => made?,
    };
    let (events, mut told) = mpsc::channel(EVENTS_MAX);
    let (stop, shutdown) = Shutdown::new();
    let mut keepers = JoinSet::new();
    let program = std::env::current_exe().refuse_for("cannot find this program")?;
    let config = Arc::new(config);
    for name in Name::ALL {
        let (program, path) = (program.clone(), path.clone());
        let section = config.supervisor.clone();
        let keeper = Keeper { name, program, path, section, events: events.clone() };
        keepers.spawn(keeper.keep(shutdown.clone()));
    }
    drop(events);
    let maintained = Arc::clone(&config);
    let maintenance = tokio::spawn(async move {
        upkeep::maintain_all(&maintained, event::maintained).await;
    });
    let mut waiting: BTreeSet<Name> = Name::ALL.into();
    let mut refused = None;
    loop {
        tokio::select! {
            biased;
            event = told.recv() => match event {
                None => break,
                Some(event) => {
                    event.print();
                    // Until all were ready once, one that refuses ends the whole.
                    match event.what {
                        What::Ready { .. } => {
                            let last = waiting.remove(&event.service) && waiting.is_empty();
                            if last {
                                event::all_ready(&config);
                            }
                        }
                        What::Ended { code: Some(2), .. } if waiting.contains(&event.service) => {
                            refused.get_or_insert(event.service);
                            stop.request();
                        }
                        _ => {}
                    }
                }
            },
            name = signals.received() => {
                event::stopping(name, shutdown.is_requested());
                if shutdown.is_requested() {
                    // Dropping the keepers kills their processes.
                    keepers.abort_all();
                }
                stop.request();
            }
        }
    }
    maintenance.abort();
    event::stopped();
    match refused {
        None => Ok(()),
        Some(name) => Err(Failure::refused(format!("{name} refused to start; its line says why"))),
    }
}

/// Returns the configuration of the processes and where it is; makes it, and all it needs on the
/// servers, when asked to.
async fn settings(args: &Supervise) -> Result<(PathBuf, Config), Failure> {
    let path = match (&args.data, &args.config) {
        (Some(data), _) => generate::shop(args, data).await?,
        (None, Some(path)) => path.clone(),
        (None, None) => return Err(Failure::refused("name --config or --data")),
    };
    let config = config::load(&path)?;
    Ok((path, config))
}
