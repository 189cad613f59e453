//! The payment provider's node: its ledger, its misbehaviour, and its webhooks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amarra_core::{Environment, Timestamp};
use amarra_http::provider::{ProviderNode, Refused};
use amarra_shop::contract::OrderId;
use amarra_shop::payments::provider_port::WebhookEvent;
use amarra_shop::provider::{Config, Provider, ProviderRequest, ProviderResponse, Truth, Webhooks};
use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::env::Skew;
use crate::fault::{Injector, ProviderFaults};

/// Webhooks of one round.
const BATCH: usize = 8;
/// The pause after a webhook that was not taken.
const PAUSE: Duration = Duration::from_millis(500);

/// The provider's ledger, shared by every incarnation of its node.
pub(crate) type Ledger = Arc<Mutex<Provider>>;

/// The provider as the simulation holds it.
#[derive(Debug)]
pub(crate) struct ProviderHost {
    ledger: Ledger,
    env: Environment,
    changed: Notify,
}

impl ProviderHost {
    /// Starts with an empty ledger.
    ///
    /// # Errors
    /// When the configuration is refused.
    pub(crate) fn new(epoch: tokio::time::Instant) -> Result<Self, String> {
        // It would take the money twice: that it does not is for Payments to see to.
        let config = Config { overcapture: true, ..Config::default() };
        let provider = Provider::new(config).map_err(|e| e.to_string())?;
        let env = crate::env::environment(epoch, Skew::default(), 0, "provider ledger");
        Ok(Self { ledger: Arc::new(Mutex::new(provider)), env, changed: Notify::new() })
    }

    /// Returns the ledger.
    pub(crate) fn ledger(&self) -> Ledger {
        Arc::clone(&self.ledger)
    }

    /// Returns what really happened to the money of every order.
    pub(crate) fn truths(&self) -> BTreeMap<OrderId, Truth> {
        self.lock().truths(self.now())
    }

    /// Tells whether webhooks wait for delivery.
    pub(crate) fn has_webhooks(&self) -> bool {
        !self.lock().pending_webhooks(1).is_empty()
    }

    fn now(&self) -> Timestamp {
        self.env.now()
    }

    fn lock(&self) -> MutexGuard<'_, Provider> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One incarnation of the provider's node.
#[derive(Debug)]
pub(crate) struct Node {
    host: Arc<ProviderHost>,
    faults: Arc<ProviderFaults>,
    injector: Arc<Injector>,
}

impl Node {
    /// Makes an incarnation.
    pub(crate) fn new(
        host: Arc<ProviderHost>,
        faults: Arc<ProviderFaults>,
        injector: Arc<Injector>,
    ) -> Self {
        Self { host, faults, injector }
    }

    /// Delivers webhooks until the node dies, each until it is taken.
    pub(crate) async fn deliver_webhooks(&self, env: &Environment, webhooks: &Webhooks) {
        loop {
            let misbehaviour = self.faults.now();
            let batch = self.host.lock().pending_webhooks(BATCH);
            if batch.is_empty() || misbehaviour.silent {
                let idle = Duration::from_secs(if misbehaviour.silent { 1 } else { 2 });
                env.timeout(idle, self.host.changed.notified()).await.ok();
                continue;
            }
            let times = if misbehaviour.duplicate { 2 } else { 1 };
            let calls = batch.iter().flat_map(|event| std::iter::repeat_n(event, times));
            let calls = calls.map(|event| self.deliver(webhooks, event));
            let mut failed = false;
            if misbehaviour.reorder {
                // One at a time, or the network would mix the newest with the oldest again.
                for call in calls.collect::<Vec<_>>().into_iter().rev() {
                    failed |= !call.await;
                }
            } else {
                failed |= join_all(calls).await.contains(&false);
            }
            if failed {
                env.sleep(PAUSE).await;
            }
        }
    }

    async fn deliver(&self, webhooks: &Webhooks, event: &WebhookEvent) -> bool {
        let taken = webhooks.deliver(event).await;
        if taken {
            self.host.lock().acknowledge(&event.event_id);
        }
        taken
    }
}

#[async_trait]
impl ProviderNode for Node {
    async fn serve(&self, request: ProviderRequest) -> Option<Result<ProviderResponse, Refused>> {
        let misbehaviour = self.faults.now();
        if misbehaviour.outage {
            return Some(Err(Refused));
        }
        let now = self.host.now();
        let answer = self.host.lock().serve(&request, now);
        self.host.changed.notify_one();
        if !misbehaviour.delay.is_zero() {
            tokio::time::sleep(misbehaviour.delay).await;
        }
        let is_query = matches!(request, ProviderRequest::Status(_));
        if !is_query && self.faults.loses_answer() {
            self.injector.count("provider-timeout", "provider");
            return None;
        }
        Some(Ok(answer))
    }
}
