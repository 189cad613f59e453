//! A private Kafka cluster of one or three nodes.

mod node;
mod options;
mod wire;

use std::net::SocketAddr;

pub use self::options::KafkaOptions;

use self::node::{Node, Plan};
use crate::error::Error;
use crate::home::Home;
use crate::install;
use crate::patience::until;
use crate::proxy::Proxy;

/// Other ports that are tried when somebody took a picked one in between.
const PORT_TRIES: usize = 5;

/// A Kafka cluster of our own, gone with its data when this is dropped or this process dies.
///
/// Nodes are numbered from 1.
///
/// # Example
/// ```no_run
/// use testbed::{Kafka, KafkaOptions};
///
/// let kafka = Kafka::start(KafkaOptions { nodes: 3, ..KafkaOptions::default() })?;
/// println!("{}", kafka.bootstrap());
/// kafka.kill_node(2)?;
/// kafka.start_node(2)?;
/// # Ok::<(), testbed::Error>(())
/// ```
#[derive(Debug)]
pub struct Kafka {
    nodes: Vec<Node>,
    options: KafkaOptions,
}

impl Kafka {
    /// Installs Kafka when it is missing, and starts a cluster.
    ///
    /// # Errors
    /// When it cannot be installed, or is not ready within `options.patience`.
    pub fn start(options: KafkaOptions) -> Result<Self, Error> {
        options.validate()?;
        let home = Home::find()?;
        let installed = install::kafka(&home)?;
        let mut tries = 0_usize;
        loop {
            let plan = Plan::new(&home, &options)?;
            let nodes = plan.nodes(&home, &installed, &options)?;
            let kafka = Self { nodes, options: options.clone() };
            tries = tries.saturating_add(1);
            match kafka.start_all() {
                Ok(()) => return Ok(kafka),
                Err(Error::NotReady { log, .. })
                    if tries < PORT_TRIES && log.contains("Address already in use") => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The bootstrap servers, `127.0.0.1:PORT` of every node.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        list(self.nodes.iter().map(Node::addr))
    }

    /// Bootstrap servers whose every connection, also to the addresses that the brokers advertise
    /// to it, passes through the proxies of [`proxy`](Self::proxy); empty without
    /// `options.proxied`.
    #[must_use]
    pub fn proxied_bootstrap(&self) -> String {
        list(self.nodes.iter().filter_map(|node| node.proxy.as_ref()).map(Proxy::addr))
    }

    /// The proxy in front of a node; `None` without `options.proxied`.
    #[must_use]
    pub fn proxy(&self, node: u8) -> Option<&Proxy> {
        self.node(node).ok()?.proxy.as_ref()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> u8 {
        self.options.nodes
    }

    /// Where the brokers listen, the first node first.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::addr).collect()
    }

    /// The process id of a node; `None` while it is stopped.
    #[must_use]
    pub fn pid(&self, node: u8) -> Option<u32> {
        self.node(node).ok()?.guardian.pid()
    }

    /// The end of a node's log.
    #[must_use]
    pub fn log(&self, node: u8) -> String {
        self.node(node).map(|n| n.guardian.log()).unwrap_or_default()
    }

    /// Kills every node with `SIGKILL` and starts them again on the same ports and data.
    ///
    /// # Errors
    /// When they are not ready again within the patience.
    pub fn crash(&self) -> Result<(), Error> {
        self.kill9()?;
        self.start_all()
    }

    /// Kills every node with `SIGKILL`.
    ///
    /// # Errors
    /// When a guardian does not answer.
    pub fn kill9(&self) -> Result<(), Error> {
        self.nodes.iter().try_for_each(|node| node.guardian.murder())
    }

    /// Starts every node that does not run, and waits until all know each other.
    ///
    /// # Errors
    /// When they are not ready within the patience.
    pub fn start_all(&self) -> Result<(), Error> {
        for node in &self.nodes {
            node.guardian.start()?;
        }
        self.nodes.iter().try_for_each(|node| self.wait_for(node, self.options.nodes))
    }

    /// Kills a node with `SIGKILL`.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn kill_node(&self, node: u8) -> Result<(), Error> {
        self.node(node)?.guardian.murder()
    }

    /// Shuts a node down as an operator would: it hands its partitions over first.
    ///
    /// # Errors
    /// When there is no such node, or it does not end.
    pub fn stop_node(&self, node: u8) -> Result<(), Error> {
        let guardian = &self.node(node)?.guardian;
        guardian.signal("TERM")?;
        if guardian.ended_within(self.options.patience)? {
            return Ok(());
        }
        Err(Error::command(format!("stopping {}", guardian.name()), "it runs on"))
    }

    /// Starts a node that was stopped or killed, and waits until it serves.
    ///
    /// # Errors
    /// When there is no such node, or it is not ready within the patience.
    pub fn start_node(&self, node: u8) -> Result<(), Error> {
        let node = self.node(node)?;
        node.guardian.start()?;
        self.wait_for(node, 1)
    }

    /// Stops the clock of a node: its connections stay open and nothing answers.
    ///
    /// # Errors
    /// When there is no such node, or it does not run.
    pub fn pause_node(&self, node: u8) -> Result<(), Error> {
        let node = self.node(node)?;
        must_run(node, node.guardian.freeze()?)
    }

    /// Lets a paused node go on.
    ///
    /// # Errors
    /// When there is no such node, or it does not run.
    pub fn resume_node(&self, node: u8) -> Result<(), Error> {
        let node = self.node(node)?;
        must_run(node, node.guardian.thaw()?)
    }

    /// Pauses every node.
    ///
    /// # Errors
    /// When one does not run.
    pub fn pause(&self) -> Result<(), Error> {
        (1..=self.options.nodes).try_for_each(|node| self.pause_node(node))
    }

    /// Resumes every node.
    ///
    /// # Errors
    /// When one does not run.
    pub fn resume(&self) -> Result<(), Error> {
        (1..=self.options.nodes).try_for_each(|node| self.resume_node(node))
    }

    /// Lets the nodes outlive this process; whoever calls this has to stop them by process id.
    ///
    /// # Errors
    /// When a guardian does not answer, or there are proxies, which end with this process.
    pub fn detach(self) -> Result<(), Error> {
        if self.options.proxied {
            return Err(Error::Misuse(
                "proxied: a cluster behind proxies cannot be detached".into(),
            ));
        }
        self.nodes.iter().try_for_each(|node| node.guardian.detach())
    }

    /// The folders that hold the nodes' data and logs.
    #[must_use]
    pub fn folders(&self) -> Vec<&std::path::Path> {
        self.nodes.iter().map(|node| node.folder.as_path()).collect()
    }

    fn node(&self, number: u8) -> Result<&Node, Error> {
        let index = usize::from(number).checked_sub(1);
        let node = index.and_then(|index| self.nodes.get(index));
        node.ok_or_else(|| Error::Misuse(format!("there is no node {number} of Kafka")))
    }

    /// Waits until a node serves and knows of `brokers` brokers.
    fn wait_for(&self, node: &Node, brokers: u8) -> Result<(), Error> {
        let patience = self.options.patience;
        let mut ended = false;
        let ready = until(patience, || {
            if wire::brokers(node.addr()).is_ok_and(|known| known >= usize::from(brokers)) {
                return Some(true);
            }
            ended = !node.guardian.alive().unwrap_or(false);
            ended.then_some(false)
        });
        if ready == Some(true) {
            return Ok(());
        }
        let waited = if ended { std::time::Duration::ZERO } else { patience };
        let server = node.guardian.name().to_owned();
        Err(Error::NotReady { server, waited, log: node.guardian.log() })
    }
}

fn must_run(node: &Node, runs: bool) -> Result<(), Error> {
    let stopped = || Error::Misuse(format!("{} does not run", node.guardian.name()));
    runs.then_some(()).ok_or_else(stopped)
}

fn list(addrs: impl Iterator<Item = SocketAddr>) -> String {
    addrs.map(|addr| addr.to_string()).collect::<Vec<_>>().join(",")
}
