//! One node: its ports, its properties, its folder, its guardian.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::options::KafkaOptions;
use crate::error::Error;
use crate::guardian::{Duty, Guardian};
use crate::home::Home;
use crate::install::{self, KafkaInstalled};
use crate::port::Port;
use crate::proxy::{Proxy, ProxyOptions};

#[derive(Debug)]
pub(super) struct Node {
    pub(super) guardian: Guardian,
    pub(super) proxy: Option<Proxy>,
    pub(super) folder: PathBuf,
    ports: Ports,
}

impl Node {
    pub(super) fn addr(&self) -> SocketAddr {
        self.ports.plain.addr()
    }
}

#[derive(Debug)]
struct Ports {
    plain: Port,
    controller: Port,
    proxied: Option<Port>,
}

impl Ports {
    fn listeners(&self, proxy: Option<SocketAddr>) -> String {
        let plain = self.plain.addr();
        let mut bound = format!("PLAINTEXT://{plain},CONTROLLER://{}", self.controller.addr());
        let mut advertised = format!("PLAINTEXT://{plain}");
        let mut protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned();
        if let (Some(port), Some(proxy)) = (&self.proxied, proxy) {
            let _ = write!(bound, ",PROXIED://{}", port.addr());
            let _ = write!(advertised, ",PROXIED://{proxy}");
            protocols.push_str(",PROXIED:PLAINTEXT");
        }
        format!(
            "listeners={bound}\nadvertised.listeners={advertised}\n\
             listener.security.protocol.map={protocols}\n"
        )
    }
}

/// The ports of every node, which each has to know.
#[derive(Debug)]
pub(super) struct Plan {
    ports: Vec<Ports>,
}

impl Plan {
    pub(super) fn new(home: &Home, options: &KafkaOptions) -> Result<Self, Error> {
        let pick = |_| {
            let proxied = if options.proxied { Some(Port::pick(home)?) } else { None };
            Ok(Ports { plain: Port::pick(home)?, controller: Port::pick(home)?, proxied })
        };
        Ok(Self { ports: (0..options.nodes).map(pick).collect::<Result<_, Error>>()? })
    }

    pub(super) fn nodes(
        self,
        home: &Home,
        installed: &KafkaInstalled,
        options: &KafkaOptions,
    ) -> Result<Vec<Node>, Error> {
        let voters = (1_u8..).zip(&self.ports);
        let voters = voters.map(|(id, p)| format!("{id}@{}", p.controller.addr()));
        let voters = voters.collect::<Vec<_>>().join(",");
        let node = |(id, ports): (u8, Ports)| -> Result<Node, Error> {
            let proxy = match &ports.proxied {
                Some(port) => Some(Proxy::start_with(port.addr(), ProxyOptions::default())?),
                None => None,
            };
            let folder = home.run_folder(&format!("kafka-{id}"))?;
            // From here on the folder is removed whatever happens.
            let guardian = Guardian::new(duty(id, &folder, &ports, installed, options))?;
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(installed.templates.join(format!("node-{id}")));
            install::run("copying a data folder", copy.arg(folder.join("data")))?;
            let listeners = ports.listeners(proxy.as_ref().map(Proxy::addr));
            let mut text = format!("node.id={id}\ncontroller.quorum.voters={voters}\n{listeners}");
            let _ = writeln!(text, "log.dirs={}", folder.join("data").display());
            text.push_str(&shared(options));
            let file = folder.join("server.properties");
            fs::write(&file, text).map_err(|e| Error::file("write", &file, e))?;
            Ok(Node { guardian, proxy, folder, ports })
        };
        (1_u8..).zip(self.ports).map(node).collect()
    }
}

fn duty(
    id: u8,
    folder: &Path,
    ports: &Ports,
    installed: &KafkaInstalled,
    options: &KafkaOptions,
) -> Duty {
    let words = [
        "java".to_owned(),
        format!("-Xmx{}m", options.heap_mib),
        "-XX:+UseSerialGC".to_owned(),
        format!("-XX:TieredStopAtLevel={}", if options.optimized { 4 } else { 1 }),
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn".to_owned(),
        "-cp".to_owned(),
        format!("{}/*", installed.jars.display()),
        "kafka.Kafka".to_owned(),
        folder.join("server.properties").to_string_lossy().into_owned(),
    ];
    Duty {
        name: format!("Kafka node {id} on port {}", ports.plain.number()),
        stop: "KILL",
        log: folder.join("server.log"),
        folder: folder.to_path_buf(),
        command: words.into(),
    }
}

/// What is the same on every node.
fn shared(options: &KafkaOptions) -> String {
    let (replicas, in_sync) = if options.nodes == 1 { (1, 1) } else { (3, 2) };
    // A broker that was killed may come back only once its old session is over.
    let (session, heartbeat) = if options.nodes == 1 { (2_000, 250) } else { (3_000, 500) };
    let mut text = SHARED.to_owned();
    let _ = write!(
        text,
        "broker.session.timeout.ms={session}\nbroker.heartbeat.interval.ms={heartbeat}\n\
         default.replication.factor={replicas}\nmin.insync.replicas={in_sync}\n\
         offsets.topic.replication.factor={replicas}\n\
         transaction.state.log.replication.factor={replicas}\n\
         transaction.state.log.min.isr={in_sync}\n\
         share.coordinator.state.topic.replication.factor={replicas}\n\
         share.coordinator.state.topic.min.isr={in_sync}\n"
    );
    // The last of equal keys counts.
    for (key, value) in &options.properties {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

/// Roles, short sessions and heartbeats so that tests need not wait for them, and no
/// topics that a typing error creates.
const SHARED: &str = "process.roles=broker,controller\n\
    inter.broker.listener.name=PLAINTEXT\ncontroller.listener.names=CONTROLLER\n\
    num.partitions=3\nauto.create.topics.enable=false\n\
    offsets.topic.num.partitions=5\ntransaction.state.log.num.partitions=5\n\
    group.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=500\n\
    group.consumer.min.session.timeout.ms=1000\ngroup.consumer.session.timeout.ms=3000\n\
    group.consumer.min.heartbeat.interval.ms=100\ngroup.consumer.heartbeat.interval.ms=300\n\
    controller.quorum.election.timeout.ms=500\n\
    controller.quorum.fetch.timeout.ms=1000\nlog.segment.bytes=67108864\n";
