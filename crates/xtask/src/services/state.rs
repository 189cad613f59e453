//! What `up` wrote down and `down` reads: which servers, where, and which processes exactly.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use testbed::{Home, Process};

/// How long a server may take to shut down before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// How long a killed one may take.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// How long a server may take to accept a connection.
const PROBE: Duration = Duration::from_secs(2);

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shape {
    pub(crate) pg: u32,
    pub(crate) kafka_nodes: u8,
    pub(crate) docker: bool,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.docker { ", by Docker" } else { "" };
        write!(f, "--pg {} --kafka-nodes {}{by}", self.pg, self.kafka_nodes)
    }
}

/// One process of a server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
    pub(crate) process: Process,
    /// The signal that shuts it down in order.
    pub(crate) stop: String,
    folder: PathBuf,
}

impl Server {
    pub(crate) fn new(
        name: &str,
        pid: Option<u32>,
        addr: SocketAddr,
        folder: &Path,
        stop: &str,
    ) -> Result<Self, String> {
        let pid = pid.ok_or_else(|| format!("{name} ended while it was being started"))?;
        let process = Process::of(pid).map_err(|e| format!("{name}: {e}"))?;
        let (name, stop, folder) = (name.to_owned(), stop.to_owned(), folder.to_path_buf());
        Ok(Self { name, addr, process, stop, folder })
    }

    /// Tells whether its process runs and accepts connections.
    pub(crate) fn is_alive(&self) -> bool {
        self.process.is_alive() && TcpStream::connect_timeout(&self.addr, PROBE).is_ok()
    }

    /// Waits until it has ended, kills it when it does not, and removes its folder.
    pub(crate) fn finish(&self, home: &Home) -> Result<(), String> {
        if !self.process.ended_within(STOP_PATIENCE) {
            self.process.signal("KILL").map_err(|e| e.to_string())?;
            if !self.process.ended_within(KILL_PATIENCE) {
                let pid = self.process.pid;
                return Err(format!("{}: process {pid} cannot be killed", self.name));
            }
        }
        // The state file is a file that anybody may have edited.
        if !self.folder.starts_with(home.path().join("run")) {
            let folder = self.folder.display();
            return Err(format!("{}: {folder} is no folder of a server", self.name));
        }
        match fs::remove_dir_all(&self.folder) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(format!("cannot remove {}: {e}", self.folder.display()))
            }
            _ => Ok(()),
        }
    }
}

/// What `up` wrote down.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) shape: Shape,
    pub(crate) postgres: String,
    pub(crate) kafka: String,
    /// Empty when Docker runs them.
    pub(crate) servers: Vec<Server>,
}

impl State {
    pub(crate) fn read(home: &Home) -> Result<Option<Self>, String> {
        let path = path(home);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("cannot read {}: {e}", path.display())),
        };
        let damaged = |e| {
            let path = path.display();
            format!("{path} is damaged ({e}): stop the servers it names by hand and remove it")
        };
        serde_json::from_str(&text).map(Some).map_err(damaged)
    }

    /// Writes it whole or not at all.
    pub(crate) fn write(&self, home: &Home) -> Result<(), String> {
        let path = path(home);
        let partial = path.with_extension("partial");
        let text = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        fs::write(&partial, text)
            .and_then(|()| fs::rename(&partial, &path))
            .map_err(|e| format!("cannot write {}: {e}", path.display()))
    }

    pub(crate) fn forget(home: &Home) -> Result<(), String> {
        let path = path(home);
        fs::remove_file(&path).map_err(|e| format!("cannot remove {}: {e}", path.display()))
    }

    pub(crate) fn all_alive(&self) -> bool {
        self.servers.iter().all(Server::is_alive)
    }
}

fn path(home: &Home) -> PathBuf {
    home.path().join("state.json")
}
