//! The payment provider's process: a simulated foreign company with a durable ledger.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amarra_core::{Environment, Timestamp};
use amarra_http::provider::{ProviderNode, Refused};
use amarra_http::webhooks::HttpMerchant;
use amarra_messaging::Shutdown;
use amarra_resilience::bulkhead::BulkheadConfig;
use amarra_shop::payments::WebhookKey;
use amarra_shop::payments::provider_port::WebhookEvent;
use amarra_shop::provider::{
    Config, Provider, ProviderRequest, ProviderResponse, WebhookConfig, Webhooks,
};
use async_trait::async_trait;
use axum::Router;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::Context;
use crate::journal::Journal;
use crate::name::Name;
use crate::refusal::{Failure, Refuse};
use crate::stages::{Plan, Stage};

/// The pause after a webhook that was not taken.
const WEBHOOK_PAUSE: Duration = Duration::from_millis(500);

/// What is in the journal: replayed in order, it makes the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    /// A request was served.
    Served {
        /// When.
        at: Timestamp,
        /// What was asked.
        request: ProviderRequest,
    },
    /// A webhook was taken.
    Taken {
        /// Its id.
        event_id: String,
    },
}

/// Does to the ledger what an entry says.
pub(crate) fn apply(ledger: &mut Provider, entry: &Entry) -> Option<ProviderResponse> {
    match entry {
        Entry::Served { at, request } => Some(ledger.serve(request, *at)),
        Entry::Taken { event_id } => {
            ledger.acknowledge(event_id);
            None
        }
    }
}

/// Makes an empty ledger.
pub(crate) fn ledger(overcapture: bool) -> Result<Provider, Failure> {
    Provider::new(Config { overcapture, ..Config::default() }).refuse()
}

/// Returns where the configuration puts the journal.
pub(crate) fn journal_path(cx: &crate::config::Config) -> Result<PathBuf, Failure> {
    let missing = || Failure::refused("provider.journal is missing: name a file");
    Ok(cx.folder.join(cx.provider.journal.as_ref().ok_or_else(missing)?))
}

/// Puts the provider together.
pub(super) fn compose(cx: &Context, plan: &mut Plan) -> Result<Router, Failure> {
    let webhook = cx.secret("keys.webhook", cx.config.keys.webhook.as_ref())?;
    let ledger = Arc::new(Mutex::new(ledger(cx.config.provider.overcapture)?));
    let changed = Arc::new(Notify::new());
    let journal = Journal::open(&journal_path(&cx.config)?, {
        let (ledger, changed) = (Arc::clone(&ledger), Arc::clone(&changed));
        move |entry: &Entry| {
            let answer = apply(&mut lock(&ledger), entry);
            changed.notify_one();
            answer
        }
    })?;
    let webhooks = webhooks(cx, &WebhookKey::new(&webhook))?;
    let at_once = usize::try_from(cx.config.provider.webhooks_in_flight_max).unwrap_or(usize::MAX);
    let node = Arc::new(Node { journal, ledger, changed, env: cx.env.clone(), webhooks, at_once });
    let deliveries = Arc::clone(&node);
    plan.add(Stage::Work, "provider: webhooks", |shutdown| async move {
        deliveries.deliver_webhooks(shutdown).await;
    });
    Ok(amarra_http::provider::router(node))
}

/// Makes the way to the merchant: its gateway.
fn webhooks(cx: &Context, key: &WebhookKey) -> Result<Webhooks, Failure> {
    let (section, own) = (&cx.config.provider, WebhookConfig::default());
    let concurrency_max = section.webhooks_in_flight_max;
    let config = WebhookConfig {
        timeout: section.webhook_timeout.0,
        breaker: section.breaker.over(own.breaker),
        bulkhead: BulkheadConfig { concurrency_max, ..own.bulkhead },
    };
    let merchant = HttpMerchant::new(Arc::clone(&cx.client), Name::Gateway.as_str());
    let webhooks = Webhooks::new(cx.env.clone(), key.clone(), Arc::new(merchant), &config);
    let webhooks = webhooks.refuse()?;
    cx.metrics.callee(Name::Provider.as_str(), Arc::clone(webhooks.guard()));
    Ok(webhooks)
}

fn lock(ledger: &Mutex<Provider>) -> MutexGuard<'_, Provider> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The provider's process.
#[derive(Debug)]
struct Node {
    journal: Journal<Entry, Option<ProviderResponse>>,
    ledger: Arc<Mutex<Provider>>,
    changed: Arc<Notify>,
    env: Environment,
    webhooks: Webhooks,
    /// Webhooks of one round.
    at_once: usize,
}

impl Node {
    /// Delivers webhooks until asked to stop, each until it is taken.
    async fn deliver_webhooks(&self, shutdown: Shutdown) {
        loop {
            let batch = lock(&self.ledger).pending_webhooks(self.at_once);
            let (work, pause) =
                if batch.is_empty() { (None, None) } else { (Some(batch), Some(WEBHOOK_PAUSE)) };
            let round = async {
                let Some(batch) = work else { return self.changed.notified().await };
                let mut calls = Vec::new();
                for event in &batch {
                    calls.push(self.deliver(event));
                }
                let taken = futures_util::future::join_all(calls).await;
                let failed = taken.contains(&false);
                if let Some(pause) = pause.filter(|_| failed) {
                    self.env.sleep(pause).await;
                }
            };
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = round => {}
            }
        }
    }

    async fn deliver(&self, event: &WebhookEvent) -> bool {
        // One that is not noted is delivered again, which webhooks may be.
        self.webhooks.deliver(event).await
            && self.journal.append(Entry::Taken { event_id: event.event_id.clone() }).await.is_ok()
    }
}

#[async_trait]
impl ProviderNode for Node {
    async fn serve(&self, request: ProviderRequest) -> Option<Result<ProviderResponse, Refused>> {
        if matches!(request, ProviderRequest::Status(_)) {
            return Some(Ok(lock(&self.ledger).serve(&request, self.env.now())));
        }
        match self.journal.append(Entry::Served { at: self.env.now(), request }).await {
            Ok(answer) => answer.map(Ok),
            // Nothing of it is in the ledger: it was turned away.
            Err(_) => Some(Err(Refused)),
        }
    }
}
