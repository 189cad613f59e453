//! What the supervisor says: a line of JSON an event, on standard output.

use amarra_postgres::Upkeep;
use serde_json::{Value, json};

use crate::config::Config;
use crate::name::Name;
use crate::output::say;
use crate::refusal::Failure;

/// Something that happened to one process.
#[derive(Debug)]
pub(super) struct Event {
    /// Which service it runs.
    pub(super) service: Name,
    /// What happened.
    pub(super) what: What,
}

/// What happened.
#[derive(Debug)]
pub(super) enum What {
    /// It was started.
    Started {
        /// Its process id.
        pid: u32,
        /// How often it was started again before.
        restarts: u64,
    },
    /// It says that it is ready.
    Ready {
        /// Where.
        url: String,
        /// Its process id.
        pid: u32,
    },
    /// It said something.
    Said {
        /// What.
        line: String,
    },
    /// It ended.
    Ended {
        /// Its process id.
        pid: u32,
        /// Its exit code, none when a signal ended it.
        code: Option<i32>,
        /// The signal.
        signal: Option<i32>,
    },
    /// It is started again after a wait.
    Waiting {
        /// How long, in milliseconds.
        millis: u64,
    },
    /// It could not be started at all.
    Failed {
        /// Why.
        why: String,
    },
}

impl Event {
    /// Prints the event.
    pub(super) fn print(&self) {
        let mut line = match &self.what {
            What::Started { pid, restarts } => {
                json!({"event": "started", "pid": pid, "restarts": restarts})
            }
            What::Ready { url, pid } => json!({"event": "ready", "url": url, "pid": pid}),
            What::Said { line } => json!({"event": "said", "line": line}),
            What::Ended { pid, code, signal } => {
                json!({"event": "ended", "pid": pid, "code": code, "signal": signal})
            }
            What::Waiting { millis } => json!({"event": "waiting", "millis": millis}),
            What::Failed { why } => json!({"event": "failed", "why": why}),
        };
        if let Value::Object(fields) = &mut line {
            fields.insert("service".to_owned(), self.service.as_str().into());
        }
        say(&line.to_string());
    }
}

/// Every process was ready once.
pub(super) fn all_ready(config: &Config) {
    let listen = config.service(Name::Gateway).listen;
    let url = listen.map(|address| format!("http://{address}"));
    say(&json!({"event": "all_ready", "url": url}).to_string());
}

/// A step before the processes are started is done.
pub(super) fn made(what: &str, name: &str) {
    say(&json!({"event": what, "name": name}).to_string());
}

/// The partitions of a service's outbox were looked after; nothing is said when nothing was done.
pub(super) fn maintained(name: Name, done: Result<Upkeep, Failure>) {
    let service = name.as_str();
    match done {
        Ok(Upkeep { created, dropped, .. }) if created.is_empty() && dropped.is_empty() => {}
        Ok(Upkeep { created, dropped, busy }) => {
            let line = json!({"event": "maintained", "service": service, "created": created,
                "dropped": dropped, "busy": busy});
            say(&line.to_string());
        }
        Err(why) => {
            let line = json!({"event": "unmaintained", "service": service, "why": why.to_string()});
            say(&line.to_string());
        }
    }
}

/// The processes are asked to end, or killed.
pub(super) fn stopping(signal: &str, again: bool) {
    say(&json!({"event": "stopping", "signal": signal, "at_once": again}).to_string());
}

/// Every process ended.
pub(super) fn stopped() {
    say(&json!({"event": "stopped"}).to_string());
}
