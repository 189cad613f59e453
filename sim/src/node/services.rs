//! Puts each service together, with the bounds that suit a short simulation.

use std::sync::Arc;
use std::time::Duration;

use amarra_http::caller::Api;
use amarra_http::provider::HttpProvider;
use amarra_http::services;
use amarra_http::upstream::HttpUpstream;
use amarra_http::webhooks::HttpMerchant;
use amarra_resilience::PerMille;
use amarra_resilience::breaker::SlowCalls;
use amarra_resilience::limiter::LimiterConfig;
use amarra_resilience::retry::BudgetConfig;
use amarra_shop::ServicePorts;
use amarra_shop::auth::{
    KeyConfig, Purpose, QuoteVerifier, RevocationFeed, Revocations, TokenVerifier, VerifierConfig,
};
use amarra_shop::catalog::{self, Catalog};
use amarra_shop::contract::notifications::Channel;
use amarra_shop::contract::topics;
use amarra_shop::contract::users::Secret;
use amarra_shop::gateway::{self, Gateway};
use amarra_shop::inventory::{self, Inventory};
use amarra_shop::notifications::{self, Notifications};
use amarra_shop::orders::{self, Orders};
use amarra_shop::payments::{self, Payments, WebhookKey};
use amarra_shop::provider::{WebhookConfig, Webhooks};
use amarra_shop::users::{self, BootstrapAdmin, PasswordConfig, Users};
use axum::Router;

use super::mailbox::SimSender;
use super::{Host, provider};
use crate::watch::{
    Bounds, WatchedCarrier, WatchedMerchant, WatchedProvider, WatchedSender, WatchedUpstream,
};

/// The administrator that exists from the start.
pub(crate) const ADMIN: (&str, &str) = ("admin@shop.test", "a long enough password");
/// The secret that the provider and Payments share.
const WEBHOOK_SECRET: &str = "provider and payments share this";
/// The channels of the simulated shop: two suffice to tell them apart.
pub(crate) const CHANNELS: &[Channel] = &[Channel::Email, Channel::Push];
/// Largest request body, in bytes.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Keys that sign nothing outside a simulation.
fn keys(fill: &str) -> KeyConfig {
    KeyConfig { active: Secret::new(fill.repeat(42) + "A"), standby: None }
}

fn token_keys() -> KeyConfig {
    keys("A")
}

fn quote_keys() -> KeyConfig {
    keys("B")
}

impl Host {
    /// Makes the verifier of access tokens; the leeway covers the skew that plans ask for.
    fn verifier(&self, revocations: Arc<Revocations>) -> Result<Arc<TokenVerifier>, String> {
        let keys = token_keys().key_set(Purpose::AccessToken).map_err(|e| e.to_string())?;
        let config =
            VerifierConfig { leeway: Duration::from_secs(300), ..VerifierConfig::default() };
        TokenVerifier::new(config, keys, Arc::clone(&self.env.clock), revocations)
            .map(Arc::new)
            .map_err(|e| e.to_string())
    }

    fn api<S>(&self, service: Arc<S>) -> Result<Api<S>, String> {
        Ok(Api {
            service,
            verifier: self.verifier(Arc::new(Revocations::new(1000)))?,
            env: self.env.clone(),
            request_bytes_max: REQUEST_BYTES_MAX,
        })
    }

    pub(super) async fn backend(&self) -> Result<Router, String> {
        let ports = self.ports()?;
        match self.service() {
            "users" => self.users(ports).await,
            "catalog" => self.catalog(ports),
            "orders" => self.orders(ports),
            "inventory" => self.inventory(ports),
            "payments" => self.payments(ports),
            "notifications" => self.notifications(ports),
            other => Err(format!("{other} is no service")),
        }
    }

    async fn users(&self, ports: ServicePorts) -> Result<Router, String> {
        let mut config = users::Config::new(token_keys(), Secret::new("C".repeat(42) + "A"));
        // Argon2 at its least: the simulation tests what is done with hashes, not how strong they
        // are.
        config.password =
            PasswordConfig { memory_kib: 8, passes: 1, lanes: 1, hashes_in_flight_max: 64 };
        config.verification_backoff = Duration::from_millis(500);
        config.bootstrap_admin =
            Some(BootstrapAdmin { email: ADMIN.0.to_owned(), password: Secret::new(ADMIN.1) });
        let bounds = Bounds { breaker: config.breaker, timeout: config.send_timeout, retry: None };
        let way = SimSender::new(Arc::clone(&self.cluster.mailbox), self.entropy("carrier"));
        let carrier = WatchedCarrier { way: Arc::new(way), watch: Arc::clone(&self.watch) };
        let users = Users::new(ports.clone(), config, Some(Arc::new(carrier)))
            .map_err(|e| e.to_string())?;
        self.watch.add(users.guards(), bounds);
        self.drive(&ports, Users::SOURCE, users.handlers(), users.due_handlers())?;
        while users.bootstrap().await.is_err() {
            self.env.sleep(Duration::from_millis(200)).await;
        }
        Ok(services::users::router(&self.api(users)?))
    }

    fn catalog(&self, ports: ServicePorts) -> Result<Router, String> {
        let catalog = Catalog::new(ports.clone(), catalog::Config::new(quote_keys()))
            .map_err(|e| e.to_string())?;
        self.drive(&ports, Catalog::SOURCE, catalog.handlers(), catalog.due_handlers())?;
        Ok(services::catalog::router(&self.api(catalog)?))
    }

    fn orders(&self, ports: ServicePorts) -> Result<Router, String> {
        let keys = quote_keys().key_set(Purpose::Quote).map_err(|e| e.to_string())?;
        let config = orders::Config {
            reserve_ttl: Duration::from_secs(40),
            deadline: Duration::from_secs(30),
            reserve_timeout: Duration::from_secs(12),
            authorize_timeout: Duration::from_secs(12),
            commit_timeout: Duration::from_secs(12),
            capture_timeout: Duration::from_secs(6),
            undo_timeout: Duration::from_secs(5),
            backoff_max: Duration::from_secs(4),
            open_orders_max: 50,
            ..orders::Config::default()
        };
        let orders = Orders::new(ports.clone(), Arc::new(QuoteVerifier::new(keys)), config)
            .map_err(|e| e.to_string())?;
        self.drive(&ports, Orders::SOURCE, orders.handlers(), orders.due_handlers())?;
        Ok(services::orders::router(&self.api(orders)?))
    }

    fn inventory(&self, ports: ServicePorts) -> Result<Router, String> {
        let inventory = Inventory::new(ports.clone(), inventory::Config::default())
            .map_err(|e| e.to_string())?;
        self.drive(&ports, Inventory::SOURCE, inventory.handlers(), inventory.due_handlers())?;
        Ok(services::inventory::router(&self.api(inventory)?))
    }

    fn payments(&self, ports: ServicePorts) -> Result<Router, String> {
        let mut config = payments::Config {
            backoff_max: Duration::from_secs(2),
            void_recheck_after: Duration::from_secs(2),
            ..payments::Config::new(Secret::new(WEBHOOK_SECRET))
        };
        let rate = PerMille::percent(50);
        config.breaker.slow_calls = Some(SlowCalls { after: Duration::from_millis(1200), rate });
        let retry = Some((config.retry, config.budget));
        let bounds = Bounds { breaker: config.breaker, timeout: config.call_timeout, retry };
        let way = Arc::new(HttpProvider::new(self.http(), "provider"));
        let provider = Arc::new(WatchedProvider { way, watch: Arc::clone(&self.watch) });
        let payments = Payments::new(ports.clone(), provider, config).map_err(|e| e.to_string())?;
        self.watch.add(payments.guards(), bounds);
        self.drive(&ports, Payments::SOURCE, payments.handlers(), payments.due_handlers())?;
        Ok(services::payments::router(&self.api(payments)?))
    }

    fn notifications(&self, ports: ServicePorts) -> Result<Router, String> {
        let config = notifications::Config {
            channels: CHANNELS.to_vec(),
            backoff_first: Duration::from_millis(300),
            backoff_max: Duration::from_secs(3),
            attempts_max: 50,
            ..notifications::Config::default()
        };
        let bounds = Bounds { breaker: config.breaker, timeout: config.send_timeout, retry: None };
        let way = SimSender::new(Arc::clone(&self.cluster.mailbox), self.entropy("sender"));
        let sender = WatchedSender { way: Arc::new(way), watch: Arc::clone(&self.watch) };
        let notifications = Notifications::new(ports.clone(), Arc::new(sender), config)
            .map_err(|e| e.to_string())?;
        self.watch.add(notifications.guards(), bounds);
        self.drive(
            &ports,
            Notifications::SOURCE,
            notifications.handlers(),
            notifications.due_handlers(),
        )?;
        Ok(services::notifications::router(&self.api(notifications)?))
    }

    pub(super) fn provider(&self) -> Result<Router, String> {
        let node = Arc::new(provider::Node::new(
            Arc::clone(&self.cluster.provider),
            Arc::clone(&self.cluster.provider_faults),
            Arc::clone(&self.cluster.injector),
        ));
        let config = WebhookConfig::default();
        let way = Arc::new(HttpMerchant::new(self.http(), "gateway"));
        let merchant = Arc::new(WatchedMerchant { way, watch: Arc::clone(&self.watch) });
        let key = WebhookKey::new(&Secret::new(WEBHOOK_SECRET));
        let webhooks =
            Webhooks::new(self.env.clone(), key, merchant, &config).map_err(|e| e.to_string())?;
        let bounds = Bounds { breaker: config.breaker, timeout: config.timeout, retry: None };
        self.watch.add(vec![Arc::clone(webhooks.guard())], bounds);
        let (delivering, env) = (Arc::clone(&node), self.env.clone());
        tokio::spawn(async move { delivering.deliver_webhooks(&env, &webhooks).await });
        Ok(amarra_http::provider::router(node))
    }

    pub(super) fn gateway(&self) -> Result<Router, String> {
        let revocations = Arc::new(Revocations::new(1000));
        let verifier = self.verifier(Arc::clone(&revocations))?;
        let shutdown = amarra_messaging::Shutdown::never();
        let group = amarra_messaging::Group::new(format!("revocations of {}", self.client));
        let feed = Arc::new(RevocationFeed::new(revocations));
        self.consume(&group, &[topics::USERS.into()], feed, shutdown)?;
        let way = Arc::new(HttpUpstream::new(self.http()));
        // One address stands for all customers of a run.
        let config = gateway::Config {
            address: LimiterConfig { calls: 2000, burst: 2000, ..LimiterConfig::default() },
            credentials: LimiterConfig { calls: 100, burst: 100, ..LimiterConfig::default() },
            budget: BudgetConfig { tokens_max: 2, per_second_milli: 100, ..Default::default() },
            ..gateway::Config::default()
        };
        let (timeout, watch) = (config.try_timeout, Arc::clone(&self.watch));
        let retry = Some((config.retry, config.budget));
        let bounds = Bounds { breaker: config.breaker, timeout, retry };
        let upstream = Arc::new(WatchedUpstream { way, watch, timeout });
        let gateway = Gateway::new(self.env.clone(), verifier, upstream, config)
            .map_err(|e| e.to_string())?;
        self.watch.add(gateway.guards(), bounds);
        Ok(amarra_http::gateway::router(&gateway, "customers"))
    }
}
