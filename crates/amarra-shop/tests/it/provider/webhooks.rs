//! Webhooks leave through the guards, signed as they leave.

use std::sync::{Arc, Mutex};

use amarra_conformance::Harness;
use amarra_resilience::breaker::Mode;
use amarra_shop::Ending;
use amarra_shop::contract::users::Secret;
use amarra_shop::payments::provider_port::{OperationKind, OperationOutcome, WebhookEvent};
use amarra_shop::payments::{SignedWebhook, WebhookKey};
use amarra_shop::provider::{Merchant, NotTaken, WebhookConfig, Webhooks};
use async_trait::async_trait;

use super::{NOW, order};

/// Takes webhooks, after failing as told.
#[derive(Debug, Default)]
struct Door {
    seen: Mutex<Vec<SignedWebhook>>,
    failures: Mutex<Vec<NotTaken>>,
}

#[async_trait]
impl Merchant for Door {
    async fn take(&self, webhook: &SignedWebhook) -> Result<(), NotTaken> {
        self.seen.lock().unwrap().push(webhook.clone());
        self.failures.lock().unwrap().pop().map_or(Ok(()), Err)
    }
}

fn key() -> WebhookKey {
    WebhookKey::new(&Secret::new("shared by the two of them"))
}

fn event() -> WebhookEvent {
    let outcome = OperationOutcome::Rejected { reason: "declined".to_owned(), retryable: true };
    let operation = amarra_shop::payments::provider_port::Operation {
        key: "k".to_owned(),
        order_id: order(),
        kind: OperationKind::Authorize,
        outcome,
    };
    WebhookEvent { event_id: "e-1".to_owned(), operation, occurred_at: NOW }
}

#[test]
fn a_webhook_is_signed_anew_each_time_and_none_passes_the_guards() {
    let harness = Harness::new(5);
    let (env, door) = (harness.environment("provider"), Arc::new(Door::default()));
    let merchant = Arc::clone(&door) as Arc<dyn Merchant>;
    let webhooks = Webhooks::new(env.clone(), key(), merchant, &WebhookConfig::default()).unwrap();
    let deliver = || harness.block_on(webhooks.deliver(&event()));
    let breaker = webhooks.guard().breaker().unwrap();
    breaker.set_mode(env.monotonic(), Mode::ForcedOpen);
    assert!(!deliver());
    assert!(door.seen.lock().unwrap().is_empty());
    breaker.set_mode(env.monotonic(), Mode::Automatic);
    door.failures.lock().unwrap().extend([
        NotTaken::Refused { status: 401 },
        NotTaken::NoAnswer { why: "reset".to_owned() },
        NotTaken::Unavailable { why: "503".to_owned() },
    ]);
    for taken in [false, false, false, true] {
        assert_eq!(deliver(), taken);
        harness.clock().advance(std::time::Duration::from_secs(7));
    }
    let seen = door.seen.lock().unwrap().clone();
    let signatures: std::collections::BTreeSet<_> = seen.iter().map(|w| &w.signature).collect();
    assert_eq!((seen.len(), signatures.len()), (4, 4), "a delay does not make a webhook a replay");
    assert_eq!(webhooks.guard().tries(), 4);
    let endings =
        [Ending::BreakerOpen, Ending::Failed, Ending::Unknown, Ending::Rejected, Ending::Answered];
    assert!(endings.iter().all(|ending| webhooks.guard().ended(*ending) == 1));
}

#[test]
fn a_configuration_that_cannot_work_is_refused_by_name() {
    let env = Harness::new(5).environment("provider");
    let check = |change: fn(&mut WebhookConfig), field: &str| {
        let mut config = WebhookConfig::default();
        change(&mut config);
        let made = Webhooks::new(env.clone(), key(), Arc::new(Door::default()), &config);
        assert_eq!(made.unwrap_err().field, field);
    };
    check(|c| c.timeout = std::time::Duration::ZERO, "provider.timeout");
    check(|c| c.breaker.calls_min = 0, "provider.breaker");
    check(|c| c.bulkhead.concurrency_max = 0, "provider.bulkhead");
}
