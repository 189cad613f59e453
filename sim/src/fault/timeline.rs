//! Carries out the timed faults of a plan, and undoes all of them at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use amarra_memory::{ClientId, MemoryBroker};
use amarra_messaging::message::{Epoch, Owner, Record, Shard};
use amarra_messaging::outbox::Lease;
use amarra_messaging::transport::Publish;
use amarra_messaging::{Group, Headers, Topic, Transport};
use madsim::net::NetSim;
use madsim::runtime::Handle;

use crate::fault::Injector;
use crate::fault::provider::Silence;
use crate::plan::{Fault, Plan};
use crate::world::Cluster;

/// Who publishes what no consumer understands.
pub(crate) const FOREIGN: &str = "foreign";
/// What the keys of such records start with.
pub(crate) const POISON_KEY: &str = "poison-";

/// A change at a point of time; begins and ends are separate so that faults may overlap.
#[derive(Debug, Clone)]
struct Step {
    at_ms: u64,
    begins: bool,
    fault: Fault,
}

/// Carries out the plan's timed faults; returns when the last one has ended.
pub(crate) async fn play(cluster: Arc<Cluster>, plan: &Plan) {
    let start = tokio::time::Instant::now();
    let mut steps: Vec<Step> = plan.faults.iter().flat_map(steps_of).collect();
    steps.sort_by_key(|s| (s.at_ms, s.begins));
    let mut stage = Stage::new(&cluster);
    for step in steps {
        tokio::time::sleep_until(start + Duration::from_millis(step.at_ms)).await;
        if step.begins {
            stage.begin(&step.fault);
        } else {
            stage.end(&step.fault);
        }
    }
}

/// Ends every fault: all nodes, databases and the broker are up, all ways are free.
pub(crate) fn heal(cluster: &Cluster) {
    cluster.injector.stop();
    cluster.provider_faults.clear();
    let handle = Handle::current();
    let net = NetSim::current();
    let ids: Vec<_> = cluster.node_ids().into_iter().collect();
    for (_, from) in &ids {
        for (_, to) in &ids {
            if from != to {
                net.unclog_link(*from, *to);
            }
        }
    }
    for (name, id) in ids {
        if let Some(skew) = cluster.skews.get(name.as_str()) {
            skew.store(0, std::sync::atomic::Ordering::Relaxed);
        }
        handle.resume(id);
        if cluster.is_down(&name) {
            cluster.start_again(&name);
            handle.restart(id);
        }
    }
    for database in cluster.databases.values() {
        database.restart();
    }
    cluster.broker.restart();
}

/// Publishes a record that is no CloudEvent, under a key of its own, until the broker takes it.
async fn poison(broker: MemoryBroker, topic: String, number: u64) {
    let transport = broker.transport(ClientId::new(FOREIGN, number), FOREIGN);
    let lease = Lease { shard: Shard(0), epoch: Epoch(number), owner: Owner::new(FOREIGN) };
    let record = Record {
        key: format!("{POISON_KEY}{number}").into(),
        headers: Headers::new(),
        value: "not a CloudEvent".into(),
    };
    let publish = [Publish { topic: Topic::from(topic.as_str()), record }];
    for _ in 0..100 {
        if let Ok(mut session) = transport.open(&lease).await
            && session.publish(&publish).await.is_ok()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn steps_of(fault: &Fault) -> Vec<Step> {
    let (at_ms, for_ms) = match fault {
        Fault::Crash { at_ms, for_ms, .. }
        | Fault::Pause { at_ms, for_ms, .. }
        | Fault::Partition { at_ms, for_ms, .. }
        | Fault::PartitionOneWay { at_ms, for_ms, .. }
        | Fault::Latency { at_ms, for_ms, .. }
        | Fault::PowerFailure { at_ms, for_ms, .. }
        | Fault::BrokerRestart { at_ms, for_ms }
        | Fault::ProviderSlow { at_ms, for_ms, .. }
        | Fault::ProviderDuplicate { at_ms, for_ms }
        | Fault::ProviderReorder { at_ms, for_ms }
        | Fault::ProviderSilent { at_ms, for_ms }
        | Fault::ProviderOutage { at_ms, for_ms } => (*at_ms, Some(*for_ms)),
        Fault::Rebalance { at_ms, .. }
        | Fault::ProviderTimeout { at_ms, .. }
        | Fault::Poison { at_ms, .. }
        | Fault::ClockSkew { at_ms, .. } => (*at_ms, None),
        _ => return Vec::new(),
    };
    let begin = Step { at_ms, begins: true, fault: fault.clone() };
    let end = for_ms.map(|d| Step { at_ms: at_ms + d, begins: false, fault: fault.clone() });
    std::iter::once(begin).chain(end).collect()
}

/// What is broken at the moment; overlapping faults of one thing begin once and end once.
struct Stage<'a> {
    cluster: &'a Cluster,
    injector: &'a Injector,
    paused: BTreeSet<String>,
    clogged: BTreeMap<(String, String), u32>,
    dark: BTreeSet<String>,
    poisons: u64,
}

impl<'a> Stage<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            injector: &cluster.injector,
            paused: BTreeSet::new(),
            clogged: BTreeMap::new(),
            dark: BTreeSet::new(),
            poisons: 0,
        }
    }

    fn begin(&mut self, fault: &Fault) {
        match fault {
            Fault::Crash { node, .. } => {
                if self.paused.contains(node) || self.cluster.is_down(node) {
                    return;
                }
                self.injector.count("crash", node);
                self.cluster.kill(node);
            }
            Fault::Pause { node, .. } => {
                if self.cluster.is_down(node) || !self.paused.insert(node.clone()) {
                    return;
                }
                self.injector.count("pause", node);
                if let Some(id) = self.cluster.node_id(node) {
                    Handle::current().pause(id);
                }
            }
            Fault::Partition { a, b, .. } => {
                self.injector.count("partition", a);
                self.clog(a, b);
                self.clog(b, a);
            }
            Fault::PartitionOneWay { from, to, .. } => {
                self.injector.count("partition-one-way", from);
                self.clog(from, to);
            }
            Fault::Latency { node, mean_ms, .. } => {
                self.injector.count("latency", node);
                self.injector.slow(node, Some(*mean_ms));
            }
            Fault::PowerFailure { database, .. } => {
                if let Some(db) = self.cluster.databases.get(database.as_str())
                    && self.dark.insert(database.clone())
                {
                    self.injector.count("power-failure", database);
                    db.crash(true);
                }
            }
            Fault::BrokerRestart { .. } => {
                if self.dark.insert("broker".to_owned()) {
                    self.injector.count("broker-restart", "broker");
                    self.cluster.broker.crash();
                }
            }
            Fault::Rebalance { group, .. } => {
                self.injector.count("rebalance", group);
                self.cluster.broker.rebalance(&Group::from(group.as_str()));
            }
            Fault::Poison { topic, .. } => {
                self.injector.count("poison", topic);
                let broker = self.cluster.broker.clone();
                madsim::task::spawn(poison(broker, topic.clone(), self.poisons));
                self.poisons += 1;
            }
            Fault::ClockSkew { node, offset_ms, .. } => {
                if let Some(skew) = self.cluster.skews.get(node.as_str()) {
                    self.injector.count("clock-skew", node);
                    let micros = offset_ms.saturating_mul(1000);
                    skew.store(micros, std::sync::atomic::Ordering::Relaxed);
                }
            }
            _ => self.provider(fault, true),
        }
    }

    fn end(&mut self, fault: &Fault) {
        match fault {
            Fault::Crash { node, .. } => {
                if self.cluster.is_down(node)
                    && let Some(id) = self.cluster.node_id(node)
                {
                    self.cluster.start_again(node);
                    Handle::current().restart(id);
                }
            }
            Fault::Pause { node, .. } => {
                if self.paused.remove(node)
                    && let Some(id) = self.cluster.node_id(node)
                {
                    Handle::current().resume(id);
                }
            }
            Fault::Partition { a, b, .. } => {
                self.unclog(a, b);
                self.unclog(b, a);
            }
            Fault::PartitionOneWay { from, to, .. } => self.unclog(from, to),
            Fault::Latency { node, .. } => self.injector.slow(node, None),
            Fault::PowerFailure { database, .. } => {
                if self.dark.remove(database)
                    && let Some(db) = self.cluster.databases.get(database.as_str())
                {
                    db.restart();
                }
            }
            Fault::BrokerRestart { .. } => {
                if self.dark.remove("broker") {
                    self.cluster.broker.restart();
                }
            }
            _ => self.provider(fault, false),
        }
    }

    fn provider(&self, fault: &Fault, begins: bool) {
        let faults = &self.cluster.provider_faults;
        match fault {
            Fault::ProviderSlow { delay_ms, .. } => {
                let delay = if begins { *delay_ms } else { 0 };
                faults.set(|m| m.delay = Duration::from_millis(delay));
            }
            Fault::ProviderTimeout { skip, count, .. } => {
                faults.silence(Silence { skip: *skip, count: *count });
                return;
            }
            Fault::ProviderDuplicate { .. } => faults.set(|m| m.duplicate = begins),
            Fault::ProviderReorder { .. } => faults.set(|m| m.reorder = begins),
            Fault::ProviderOutage { .. } => faults.set(|m| m.outage = begins),
            Fault::ProviderSilent { .. } => faults.set(|m| m.silent = begins),
            _ => return,
        }
        if begins {
            self.injector.count(fault.kind(), "provider");
        }
    }

    fn clog(&mut self, from: &str, to: &str) {
        let times = self.clogged.entry((from.to_owned(), to.to_owned())).or_default();
        *times += 1;
        if *times == 1 {
            self.injector.block(from, to, true);
            if let (Some(a), Some(b)) = (self.cluster.node_id(from), self.cluster.node_id(to)) {
                NetSim::current().clog_link(a, b);
            }
        }
    }

    fn unclog(&mut self, from: &str, to: &str) {
        let way = (from.to_owned(), to.to_owned());
        let Some(times) = self.clogged.get_mut(&way) else { return };
        *times = times.saturating_sub(1);
        if *times == 0 {
            self.injector.block(from, to, false);
            if let (Some(a), Some(b)) = (self.cluster.node_id(from), self.cluster.node_id(to)) {
                NetSim::current().unclog_link(a, b);
            }
        }
    }
}
