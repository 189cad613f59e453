//! Puts each service together on the storage, broker and addresses of this process.

mod aged;
mod catalog;
pub(crate) mod feed;
mod followed;
mod gateway;
mod inventory;
mod notifications;
mod orders;
mod payments;
pub(crate) mod provider;
mod users;
pub(crate) mod written;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::Environment;
use amarra_http::HttpClient;
use amarra_http::caller::Api;
use amarra_messaging::OutboxLog;
use amarra_messaging::message::Owner;
use amarra_messaging::relay::Relay;
use amarra_messaging::runtime::{Processor, Runtime};
use amarra_shop::auth::{Jwks, KeyConfig, KeySet, Revocations, TokenVerifier, VerifierConfig};
use amarra_shop::contract::users::Secret;
use amarra_shop::{Guard, ServicePorts};
use amarra_store::{DueHandler, Handler, TransactionalProcessor, Worker};
use axum::Router;

use self::aged::Aged;
use crate::config::{Config, RelaySource, Source};
use crate::http::health::Health;
use crate::http::metrics::Metrics;
use crate::name::Name;
use crate::refusal::{Failure, Refuse};
use crate::stages::{Plan, Stage};
use crate::storage::{Broker, Member, Storage};

/// Users whose access tokens were revoked that a process remembers.
const REVOKED_USERS_MAX: usize = 100_000;
/// How far the clocks of the processes may differ.
const CLOCK_LEEWAY: Duration = Duration::from_secs(60);

/// What everything in one process shares.
#[derive(Debug)]
pub(crate) struct Context {
    /// Clock, timer and entropy.
    pub(crate) env: Environment,
    /// The configuration.
    pub(crate) config: Config,
    /// The way to other services.
    pub(crate) client: Arc<HttpClient>,
    /// What `/readyz` looks at.
    pub(crate) health: Arc<Health>,
    /// What `/metrics` shows.
    pub(crate) metrics: Arc<Metrics>,
}

impl Context {
    /// Makes the context of a process.
    pub(crate) fn new(env: Environment, config: Config, client: Arc<HttpClient>) -> Self {
        let health = Arc::new(Health::new(env.clone()));
        let metrics = Arc::new(Metrics::new(env.clone()));
        Self { env, config, client, health, metrics }
    }

    fn secret(&self, key: &str, source: Option<&Source>) -> Result<Secret, Failure> {
        self.config.secret(key, source)
    }

    /// Reads the seeds that sign for one purpose.
    fn seeds(&self, key: &str, source: Option<&Source>) -> Result<KeyConfig, Failure> {
        let keys = KeyConfig { active: self.secret(key, source)?, standby: None };
        keys.validate().map_err(|e| Failure::refused(format!("{key} {}", e.why)))?;
        Ok(keys)
    }

    /// Reads the public keys of one purpose.
    fn key_set(&self, key: &str, source: Option<&Source>) -> Result<KeySet, Failure> {
        let text = self.secret(key, source)?;
        let bad = || Failure::refused(format!("{key} is no JSON key set of ours"));
        let jwks: Jwks = serde_json::from_str(text.expose()).map_err(|_| bad())?;
        KeySet::from_jwks(&jwks).map_err(|_| bad())
    }

    /// Makes the verifier of access tokens.
    fn verifier(&self, revocations: Arc<Revocations>) -> Result<Arc<TokenVerifier>, Failure> {
        let keys = self.key_set("keys.token_public", self.config.keys.token_public.as_ref())?;
        let config = VerifierConfig { leeway: CLOCK_LEEWAY, ..VerifierConfig::default() };
        let clock = Arc::clone(&self.env.clock);
        TokenVerifier::new(config, keys, clock, revocations).map(Arc::new).refuse()
    }

    /// Returns the path of a file that the configuration has to name.
    fn file(&self, key: &str, path: Option<&PathBuf>) -> Result<PathBuf, Failure> {
        let path =
            path.ok_or_else(|| Failure::refused(format!("{key} is missing: name a file")))?;
        Ok(self.config.folder.join(path))
    }

    fn owner(&self, service: &str) -> Owner {
        Owner::new(format!("{service}-{:016x}", self.env.entropy.next_u64()))
    }
}

/// The servers behind one service.
#[derive(Debug, Clone)]
pub(crate) struct Backing {
    /// Its database, none for the gateway.
    pub(crate) storage: Option<Storage>,
    /// The broker, none where nothing is to run.
    pub(crate) broker: Option<Broker>,
}

/// One service while it is put together.
#[derive(Debug)]
struct Host<'a> {
    cx: &'a Context,
    name: Name,
    backing: &'a Backing,
    plan: &'a mut Plan,
}

/// Puts one of the processes together; its tasks go into the plan.
pub(crate) async fn router(
    cx: &Context,
    name: Name,
    backing: Option<&Backing>,
    plan: &mut Plan,
) -> Result<Router, Failure> {
    if name == Name::Provider {
        return provider::compose(cx, plan);
    }
    let backing = backing.ok_or_else(|| Failure::refused(format!("{name} has no broker")))?;
    let mut host = Host { cx, name, backing, plan };
    let router = match name {
        Name::Users => users::compose(&mut host).await,
        Name::Catalog => catalog::compose(&mut host).await,
        Name::Orders => orders::compose(&mut host).await,
        Name::Inventory => inventory::compose(&mut host).await,
        Name::Payments => payments::compose(&mut host).await,
        Name::Notifications => notifications::compose(&mut host).await,
        Name::Gateway => gateway::compose(&mut host).await,
        Name::Provider => Ok(Router::new()),
    };
    let named = |failure| match failure {
        Failure::Refused(why) => Failure::Refused(format!("{name}: {why}")),
        other => other,
    };
    Ok(crate::http::counted(router.map_err(named)?, name.as_str(), &cx.metrics))
}

impl Host<'_> {
    fn storage(&self) -> Result<&Storage, Failure> {
        let why = || Failure::refused(format!("{} has no database", self.name));
        self.backing.storage.as_ref().ok_or_else(why)
    }

    fn ports(&self) -> Result<ServicePorts, Failure> {
        Ok(self.storage()?.ports(&self.cx.env))
    }

    /// Shows the guards of the service's calls from now on.
    fn guarded(&self, guards: Vec<Arc<Guard>>) {
        for guard in guards {
            self.cx.metrics.callee(self.name.as_str(), guard);
        }
    }

    fn api<S>(&self, service: Arc<S>) -> Result<Api<S>, Failure> {
        let verifier = self.cx.verifier(Arc::new(Revocations::new(REVOKED_USERS_MAX)))?;
        let request_bytes_max = self.cx.config.http.request_bytes_max;
        Ok(Api { service, verifier, env: self.cx.env.clone(), request_bytes_max })
    }

    /// Plans the relay, a consumer for each handler and a worker for each kind of timer.
    async fn drive(
        &mut self,
        source: &'static str,
        handlers: Vec<Arc<dyn Handler>>,
        due: Vec<Arc<dyn DueHandler>>,
    ) -> Result<(), Failure> {
        let (cx, service) = (self.cx, self.name.as_str());
        let ports = self.ports()?;
        let owner = cx.owner(service);
        for handler in &handlers {
            self.plan.handles(source, Arc::clone(handler));
        }
        let Some(broker) = &self.backing.broker else { return Ok(()) };
        cx.health.store(service, Arc::clone(&ports.store));
        self.relay(source, broker, &owner).await?;
        for handler in handlers {
            let (group, topics) = (handler.group().clone(), handler.topics().to_vec());
            let member = broker.consumer(&group, &topics)?;
            let store = Arc::clone(&ports.store);
            let processor = TransactionalProcessor::new(store, handler, cx.env.clone(), source);
            self.consume(group.as_str(), member, Arc::new(processor))?;
        }
        for handler in due {
            let kind = handler.kind().to_owned();
            let (store, config) = (Arc::clone(&ports.store), cx.config.worker.config());
            let worker = Worker::new(store, handler, cx.env.clone(), owner.clone(), config);
            let worker =
                worker.refuse_for("worker")?.observed_by(cx.metrics.worker(service, &kind));
            self.plan.add(Stage::Work, format!("{service}: worker of {kind}"), |shutdown| {
                worker.run(shutdown)
            });
        }
        Ok(())
    }

    async fn relay(&mut self, source: &str, broker: &Broker, owner: &Owner) -> Result<(), Failure> {
        let (cx, service) = (self.cx, self.name.as_str());
        let table: Arc<dyn OutboxLog> = self.storage()?.outbox_log(source).await?;
        let log = match cx.config.relay.source {
            RelaySource::Table => table,
            RelaySource::Wal => followed::follow(self, table).await?,
        };
        let transport = broker.transport(log.source())?;
        let config = cx.config.relay.config();
        let watch = cx.health.relay(service);
        cx.metrics.relay(service, Arc::clone(&watch), Arc::clone(&log));
        let relay = Relay::new(log, transport, cx.env.clone(), owner.clone(), config);
        let relay = relay.refuse_for("relay")?.observed_by(watch);
        self.plan.add(Stage::Relay, format!("{service}: relay"), |shutdown| relay.run(shutdown));
        Ok(())
    }

    fn consume(
        &mut self,
        group: &str,
        member: Member,
        processor: Arc<dyn Processor>,
    ) -> Result<(), Failure> {
        let (cx, service) = (self.cx, self.name.as_str());
        let config = cx.config.consumer.config();
        let watch = cx.health.member(service, group);
        let Member { consumer, left, lag } = member;
        cx.metrics.member(service, group, Arc::clone(&watch), lag);
        let processor = Arc::new(Aged::new(processor, Arc::clone(&watch), cx.env.clone()));
        let runtime = Runtime::new(consumer, processor, cx.env.clone(), config);
        let runtime = runtime.refuse_for("consumer")?.observed_by(watch);
        self.plan.add(Stage::Work, format!("{service}: consumer {group}"), |shutdown| async move {
            runtime.run(shutdown).await;
            left.await;
        });
        Ok(())
    }
}
