//! Puts the shop together in one simulation: servers, nodes, workload, faults, and the end of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amarra_memory::{BrokerConfig, DatabaseConfig, Hooks, MemoryBroker, MemoryDatabase};
use amarra_messaging::Group;
use amarra_shop::contract::topics;
use madsim::runtime::Handle;
use madsim::task::NodeId;

use crate::child::{Verdict, Violation};
use crate::env::{Skew, environment};
use crate::fault::{Injector, ProviderFaults, timeline};
use crate::liveness;
use crate::node::{self, mailbox::Mailbox, provider::ProviderHost};
use crate::oracle::{Facts, Oracle, Raw};
use crate::plan::Plan;
use crate::report;
use crate::scenario::{DATABASES, NODES};
use crate::trace::{Event, Trace};
use crate::watch::Laws;
use crate::workload::{self, Customers};

/// The node the customers are on.
pub(crate) const CLIENT: &str = "client";

/// Partitions of every topic.
const PARTITIONS: u32 = 3;

/// Everything that lives in a simulation and outlives a crash of a node.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The run's seed.
    pub(crate) seed: u64,
    /// When simulated time began.
    pub(crate) epoch: tokio::time::Instant,
    /// The trace.
    pub(crate) trace: Arc<Trace>,
    /// The fault hook of every server.
    pub(crate) injector: Arc<Injector>,
    /// The observer of every server.
    pub(crate) oracle: Arc<Oracle>,
    /// What the guards of outgoing calls were seen to do wrong.
    pub(crate) laws: Arc<Laws>,
    /// The databases, by service.
    pub(crate) databases: BTreeMap<&'static str, MemoryDatabase>,
    /// The broker.
    pub(crate) broker: MemoryBroker,
    /// How far each node's wall clock is off.
    pub(crate) skews: BTreeMap<&'static str, Skew>,
    /// What the senders took.
    pub(crate) mailbox: Arc<Mailbox>,
    /// The provider and its ledger, which survives its node.
    pub(crate) provider: Arc<ProviderHost>,
    /// What the provider does wrong at the moment.
    pub(crate) provider_faults: Arc<ProviderFaults>,
    nodes: Mutex<Nodes>,
}

#[derive(Debug, Default)]
struct Nodes {
    ids: BTreeMap<String, NodeId>,
    down: BTreeSet<String>,
    incarnations: BTreeMap<String, u64>,
    subscriptions: BTreeMap<String, Vec<Arc<str>>>,
}

impl Cluster {
    fn new(seed: u64, plan: &Plan) -> Result<Arc<Self>, String> {
        let epoch = tokio::time::Instant::now();
        let trace = Arc::new(Trace::default());
        let injector = Arc::new(Injector::new(seed, plan, epoch, Arc::clone(&trace)));
        let provider = Arc::new(ProviderHost::new(epoch)?);
        let ledger = provider.ledger();
        let oracle = Arc::new(Oracle::new(epoch, Arc::clone(&trace), ledger));
        let hooks = Hooks::default()
            .with_faults(Arc::clone(&injector) as _)
            .with_observer(Arc::clone(&oracle) as _);
        let server_env = |name: &str| environment(epoch, Skew::default(), seed, name);
        let mut databases = BTreeMap::new();
        for &name in DATABASES {
            let env = server_env(&format!("database {name}"));
            let config = DatabaseConfig { shards: 2, ..DatabaseConfig::default() };
            let database = MemoryDatabase::new(name, config, env, hooks.clone());
            databases.insert(name, database.map_err(|e| e.to_string())?);
        }
        let env = server_env("broker");
        let broker = MemoryBroker::new("broker", BrokerConfig::default(), env, hooks)
            .map_err(|e| e.to_string())?;
        for topic in topics::ALL {
            broker.create_topic(*topic, PARTITIONS).map_err(|e| e.to_string())?;
        }
        let skews = NODES.iter().map(|n| (*n, Arc::new(AtomicI64::new(0)))).collect();
        Ok(Arc::new(Self {
            seed,
            epoch,
            trace,
            injector,
            oracle,
            laws: Arc::default(),
            databases,
            broker,
            skews,
            mailbox: Arc::new(Mailbox::default()),
            provider,
            provider_faults: Arc::new(ProviderFaults::default()),
            nodes: Mutex::default(),
        }))
    }

    /// Starts every node.
    fn boot(self: &Arc<Self>) {
        let handle = Handle::current();
        for &name in NODES.iter().chain(&[CLIENT]) {
            let cluster = Arc::clone(self);
            let built = handle
                .create_node()
                .name(name)
                .ip(crate::net::address(name))
                .init(move || node::run(Arc::clone(&cluster), name))
                .build();
            self.lock().ids.insert(name.to_owned(), built.id());
        }
    }

    /// Returns a node's id in the runtime.
    pub(crate) fn node_id(&self, name: &str) -> Option<NodeId> {
        self.lock().ids.get(name).copied()
    }

    /// Returns every node's id in the runtime.
    pub(crate) fn node_ids(&self) -> BTreeMap<String, NodeId> {
        self.lock().ids.clone()
    }

    /// Tells whether a node was killed and not started again.
    pub(crate) fn is_down(&self, name: &str) -> bool {
        self.lock().down.contains(name)
    }

    /// Kills a node; nothing its destructors do reaches a server.
    pub(crate) fn kill(&self, name: &str) {
        let id = {
            let mut nodes = self.lock();
            nodes.down.insert(name.to_owned());
            nodes.ids.get(name).copied()
        };
        self.databases.values().for_each(|database| database.disconnect(name));
        self.broker.disconnect(name);
        if let Some(id) = id {
            Handle::current().kill(id);
        }
    }

    /// Takes note that a node is about to be started again.
    pub(crate) fn start_again(&self, name: &str) {
        self.lock().down.remove(name);
    }

    /// Counts a start of a node and returns its number.
    pub(crate) fn incarnate(&self, name: &str) -> u64 {
        let mut nodes = self.lock();
        let number = nodes.incarnations.entry(name.to_owned()).or_default();
        *number += 1;
        *number
    }

    /// Takes note of what a group subscribes to.
    pub(crate) fn subscribed(&self, group: &Group, topics: Vec<Arc<str>>) {
        self.lock().subscriptions.insert(group.as_str().to_owned(), topics);
    }

    /// Returns what each group subscribes to.
    pub(crate) fn subscriptions(&self) -> BTreeMap<String, Vec<Arc<str>>> {
        self.lock().subscriptions.clone()
    }

    /// Says what has not come to rest; nothing when everything has.
    pub(crate) fn unsettled(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (name, database) in &self.databases {
            let (rows, timers) = database.inspect(|i| {
                let rows = i.outbox().filter(|row| !row.acknowledged && !row.parked).count();
                (rows, i.timers().next().map(|t| t.id.to_string()))
            });
            if rows > 0 {
                left.push(format!("{rows} outbox rows of {name} are not published"));
            }
            if let Some(timer) = timers {
                left.push(format!("{name} has a timer set on {timer}"));
            }
        }
        for group in self.subscriptions().keys() {
            let lag = self.broker.inspect(|i| i.lag(&Group::from(group.as_str())));
            if lag > 0 {
                left.push(format!("group {group} lags by {lag}"));
            }
        }
        if self.provider.has_webhooks() {
            left.push("webhooks of the provider are not delivered".to_owned());
        }
        let open = |facts: &Facts| facts.orders.values().filter(|o| !Facts::is_at_rest(o)).count();
        let open = self.oracle.facts(open);
        if open > 0 {
            left.push(format!("{open} orders have not ended"));
        }
        left
    }

    fn lock(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a seed's whole simulation: safety under faults, then liveness without.
pub(crate) async fn run(seed: u64, plan: Plan) -> (Verdict, Vec<Event>) {
    let cluster = match Cluster::new(seed, &plan) {
        Ok(cluster) => cluster,
        Err(why) => return (Verdict::died(seed, &why), Vec::new()),
    };
    cluster.boot();
    let customers = match workload::prepare(&cluster).await {
        Ok(customers) => customers,
        Err(why) => {
            let (events, _) = cluster.trace.take();
            return (Verdict::died(seed, &format!("the shop did not open: {why}")), events);
        }
    };
    cluster.injector.start();
    let faults = madsim::task::spawn({
        let (cluster, plan) = (Arc::clone(&cluster), plan.clone());
        async move { timeline::play(cluster, &plan).await }
    });
    customers.shop(plan.orders).await;
    // Faults that were planned beyond the last order still happen.
    faults.await.ok();
    timeline::heal(&cluster);
    let healing = liveness::wait(&cluster, &customers).await;
    finish(seed, &cluster, &customers, healing)
}

fn finish(
    seed: u64,
    cluster: &Cluster,
    customers: &Customers,
    healing: Option<std::time::Duration>,
) -> (Verdict, Vec<Event>) {
    let truths = cluster.provider.truths();
    let complaints = customers.complaints();
    let mut found = cluster.oracle.settle(cluster, &truths, (healing.is_some(), &complaints));
    found.extend(cluster.laws.take());
    let mut orders: BTreeMap<String, u64> = BTreeMap::new();
    cluster.oracle.facts(|facts| {
        for order in facts.orders.values() {
            *orders.entry(outcome(order.status)).or_default() += 1;
        }
    });
    let refused = customers.refused();
    if refused > 0 {
        orders.insert("not_placed".to_owned(), refused);
    }
    let (events, digest) = cluster.trace.take();
    let violations = found.into_iter().map(|raw| violation(raw, &events)).collect();
    let verdict = Verdict {
        kind: "seed".to_owned(),
        seed,
        orders,
        faults: cluster.injector.counts(),
        events: u64::try_from(events.len()).unwrap_or(u64::MAX),
        simulated_s: cluster.epoch.elapsed().as_secs_f64(),
        digest,
        heal_s: healing.map(|d| d.as_secs_f64()),
        violations,
        order_ids: customers.order_ids(),
    };
    (verdict, events)
}

fn outcome(status: amarra_shop::contract::orders::OrderStatus) -> String {
    let text = serde_json::to_value(status).unwrap_or_default();
    text.as_str().unwrap_or("unknown").to_owned()
}

fn violation(raw: Raw, events: &[Event]) -> Violation {
    let chain = match raw.finding.event {
        Some(id) => report::causal_chain(events, id, 12),
        None => Vec::new(),
    };
    Violation { invariant: raw.invariant.to_owned(), detail: raw.finding.detail, chain }
}
