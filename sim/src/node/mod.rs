//! What runs on each node: the composition root of the simulated shop.

pub(crate) mod mailbox;
pub(crate) mod provider;
mod services;

pub(crate) use services::{ADMIN, CHANNELS};

use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Environment, SeededEntropy};
use amarra_http::{Config, HttpClient};
use amarra_memory::{ClientId, MemberOptions};
use amarra_messaging::message::Owner;
use amarra_messaging::relay::{Relay, RelayConfig};
use amarra_messaging::runtime::{Processor, Runtime, RuntimeConfig};
use amarra_messaging::{Group, Shutdown, Topic};
use amarra_shop::ServicePorts;
use amarra_store::{DueHandler, Handler, TransactionalProcessor, Worker, WorkerConfig};
use axum::Router;

use crate::env::environment;
use crate::net::{self, SimConnect, SimSpawn};
use crate::watch::{Watch, WatchedClock};
use crate::world::{CLIENT, Cluster};

/// How long a due timer is one worker's.
pub(crate) const CLAIM: Duration = Duration::from_secs(8);

/// Runs a node until it is killed; called again, with nothing remembered, at each start.
pub(crate) async fn run(cluster: Arc<Cluster>, name: &'static str) {
    let incarnation = cluster.incarnate(name);
    let skew = cluster.skews.get(name).cloned().unwrap_or_default();
    let stream = format!("{name}#{incarnation}");
    let mut env = environment(cluster.epoch, skew, cluster.seed, &stream);
    let watch = Watch::new(stream, Arc::clone(&env.clock), Arc::clone(&cluster.laws));
    env.clock = Arc::new(WatchedClock { clock: env.clock, watch: Arc::clone(&watch) });
    let client = ClientId::new(name, incarnation);
    let host = Host { cluster, name, client, env, watch };
    if name == CLIENT {
        // The customers act from here; the workload spawns them.
        std::future::pending::<()>().await;
    }
    match host.start().await {
        Ok(router) => net::serve(name, router).await,
        Err(why) => panic_free_exit(name, &why),
    }
}

/// A node that cannot start stays silent: the liveness check then names what is missing.
fn panic_free_exit(name: &str, why: &str) {
    eprintln!("node {name} cannot start: {why}");
}

/// One start of one node.
#[derive(Debug)]
pub(crate) struct Host {
    cluster: Arc<Cluster>,
    name: &'static str,
    client: ClientId,
    env: Environment,
    watch: Arc<Watch>,
}

/// How a member takes part in its group: a dead one is missed soon.
fn member() -> MemberOptions {
    MemberOptions { session_timeout: Duration::from_secs(4), ..MemberOptions::default() }
}

impl Host {
    async fn start(&self) -> Result<Router, String> {
        match self.service() {
            "gateway" => self.gateway(),
            "provider" => self.provider(),
            _ => self.backend().await,
        }
    }

    fn service(&self) -> &'static str {
        self.name.split('-').next().unwrap_or(self.name)
    }

    fn http(&self) -> Arc<HttpClient> {
        Arc::new(HttpClient::new(
            Arc::new(SimConnect::new()),
            Arc::new(SimSpawn),
            self.env.clone(),
            Config::default(),
        ))
    }

    fn entropy(&self, purpose: &str) -> SeededEntropy {
        SeededEntropy::new(self.cluster.seed, &format!("{} {purpose}", self.client))
    }

    fn ports(&self) -> Result<ServicePorts, String> {
        let database = self
            .cluster
            .databases
            .get(self.service())
            .ok_or_else(|| format!("{} has no database", self.name))?;
        let store = Arc::new(database.connect(self.client.clone()));
        Ok(ServicePorts { store: Arc::clone(&store) as _, views: store, env: self.env.clone() })
    }

    /// Starts the relay, a consumer per handler and a worker per kind of timer.
    fn drive(
        &self,
        ports: &ServicePorts,
        source: &'static str,
        handlers: Vec<Arc<dyn Handler>>,
        due: Vec<Arc<dyn DueHandler>>,
    ) -> Result<(), String> {
        let text = |e: amarra_messaging::ConfigError| e.to_string();
        let database = self
            .cluster
            .databases
            .get(self.service())
            .ok_or_else(|| format!("{} has no database", self.name))?;
        let owner = Owner::new(self.client.to_string());
        let log = database.outbox_log(self.client.clone());
        let transport = self.cluster.broker.transport(self.client.clone(), self.service());
        let relay = Relay::new(
            Arc::new(log),
            Arc::new(transport),
            self.env.clone(),
            owner.clone(),
            RelayConfig::default(),
        )
        .map_err(text)?;
        // A node of the simulation is killed, never asked to stop.
        let shutdown = Shutdown::never();
        tokio::spawn(relay.run(shutdown.clone()));
        for handler in handlers {
            let (group, topics) = (handler.group().clone(), handler.topics().to_vec());
            let processor = TransactionalProcessor::new(
                Arc::clone(&ports.store),
                handler,
                self.env.clone(),
                source,
            );
            self.consume(&group, &topics, Arc::new(processor), shutdown.clone())?;
        }
        for handler in due {
            let config = WorkerConfig { lease: CLAIM, ..WorkerConfig::default() };
            let worker = Worker::new(
                Arc::clone(&ports.store),
                handler,
                self.env.clone(),
                owner.clone(),
                config,
            )
            .map_err(text)?;
            tokio::spawn(worker.run(shutdown.clone()));
        }
        Ok(())
    }

    fn consume(
        &self,
        group: &Group,
        topics: &[Topic],
        processor: Arc<dyn Processor>,
        shutdown: Shutdown,
    ) -> Result<(), String> {
        let names = topics.iter().map(|t| Arc::from(t.as_str())).collect();
        let is_ours = self.service() != "gateway";
        if is_ours {
            self.cluster.subscribed(group, names);
        }
        let consumer = self
            .cluster
            .broker
            .consumer(self.client.clone(), group.clone(), topics, member())
            .map_err(|e| e.to_string())?;
        let config = RuntimeConfig::default();
        let runtime = Runtime::new(Box::new(consumer), processor, self.env.clone(), config)
            .map_err(|e| e.to_string())?;
        tokio::spawn(runtime.run(shutdown));
        Ok(())
    }
}
