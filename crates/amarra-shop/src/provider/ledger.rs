//! The provider's ledger: operations by idempotency key, money by authorization, webhooks to send.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use amarra_core::Timestamp;

use super::api::{ProviderRequest, ProviderResponse};
use crate::contract::{Money, OrderId};
use crate::payments::provider_port::{
    AuthorizeRequest, CaptureRequest, Operation, OperationKind, OperationOutcome, ProviderAnswer,
    RefundRequest, VoidRequest, WebhookEvent,
};
use crate::ports::ConfigError;

/// How the provider behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long an authorization can be captured; afterwards it is given up by itself.
    pub authorization_ttl: Duration,
    /// At most how many webhooks wait for delivery; the oldest is given up beyond it.
    pub webhooks_pending_max: usize,
    /// Whether more may be captured than was authorized, as some schemes let merchants do for tips:
    /// a double capture is then the merchant's own to prevent.
    pub overcapture: bool,
}

impl Default for Config {
    /// Seven days, as card schemes have it, ten thousand webhooks, and no overcapture.
    fn default() -> Self {
        Self {
            authorization_ttl: Duration::from_secs(7 * 24 * 3600),
            webhooks_pending_max: 10_000,
            overcapture: false,
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |field, why: &str| Err(ConfigError { field, why: why.to_owned() });
        if self.authorization_ttl.is_zero() {
            return refuse("provider.authorization_ttl", "must be above zero");
        }
        if self.webhooks_pending_max == 0 {
            return refuse("provider.webhooks_pending_max", "must be at least 1");
        }
        Ok(())
    }
}

/// What really happened to the money of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Truth {
    /// Minor units set aside in all, whatever became of them.
    pub authorized: i64,
    /// Minor units still set aside: neither captured nor voided nor expired.
    pub open: i64,
    /// Minor units taken.
    pub captured: i64,
    /// Minor units given back.
    pub refunded: i64,
    /// How many authorizations were approved.
    pub authorizations: u32,
    /// How many captures were approved; two are a double charge.
    pub captures: u32,
}

#[derive(Debug, Clone)]
struct Authorization {
    order_id: OrderId,
    amount: Money,
    token: String,
    approved_at: Timestamp,
    captured: Money,
    refunded: Money,
    voided: bool,
    captures: u32,
}

#[derive(Debug, Clone)]
struct Recorded {
    fingerprint: blake3::Hash,
    operation: Operation,
}

type Decision = Result<ProviderAnswer, (&'static str, bool)>;

/// The payment provider.
///
/// Tokens choose its behaviour: `tok_ok...` approves; `tok_decline...` declines for good;
/// `tok_insufficient...` declines, retryable; `tok_nocapture...` authorizes and refuses the
/// capture; `tok_norefund...` refuses the refund. Any other token is invalid.
///
/// # Example
/// ```
/// use amarra_core::Timestamp;
/// use amarra_shop::contract::{Currency, Money, OrderId};
/// use amarra_shop::payments::provider_port::{AuthorizeRequest, OperationOutcome};
/// use amarra_shop::provider::{Config, Provider, ProviderRequest, ProviderResponse};
///
/// let order_id: OrderId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
/// let mut provider = Provider::new(Config::default()).unwrap();
/// let request = ProviderRequest::Authorize(AuthorizeRequest {
///     key: "k1".into(),
///     order_id,
///     amount: Money::new(500, Currency::EUR),
///     token: "tok_ok".into(),
/// });
/// let first = provider.serve(&request, Timestamp::EPOCH);
/// assert_eq!(provider.serve(&request, Timestamp::EPOCH), first);
/// assert_eq!(provider.truth(order_id, Timestamp::EPOCH).authorizations, 1);
/// ```
#[derive(Debug, Clone)]
pub struct Provider {
    config: Config,
    by_key: BTreeMap<String, Recorded>,
    keys_by_order: BTreeMap<OrderId, Vec<String>>,
    authorizations: BTreeMap<String, Authorization>,
    webhooks: VecDeque<WebhookEvent>,
    references: u64,
    events: u64,
}

impl Provider {
    /// Starts with an empty ledger.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            config,
            by_key: BTreeMap::new(),
            keys_by_order: BTreeMap::new(),
            authorizations: BTreeMap::new(),
            webhooks: VecDeque::new(),
            references: 0,
            events: 0,
        })
    }

    /// Serves one request; a key seen before gets the answer it got then.
    pub fn serve(&mut self, request: &ProviderRequest, now: Timestamp) -> ProviderResponse {
        let (key, order_id, kind) = match request {
            ProviderRequest::Status(order_id) => {
                return ProviderResponse::Operations(self.operations(*order_id));
            }
            ProviderRequest::Authorize(r) => (&r.key, r.order_id, OperationKind::Authorize),
            ProviderRequest::Capture(r) => (&r.key, r.order_id, OperationKind::Capture),
            ProviderRequest::Void(r) => (&r.key, r.order_id, OperationKind::Void),
            ProviderRequest::Refund(r) => (&r.key, r.order_id, OperationKind::Refund),
        };
        let fingerprint = fingerprint(request);
        if let Some(seen) = self.by_key.get(key) {
            let same = seen.fingerprint == fingerprint;
            return ProviderResponse::Outcome(if same {
                seen.operation.outcome.clone()
            } else {
                rejected(("key_reused", false))
            });
        }
        let decision = match request {
            ProviderRequest::Authorize(r) => self.authorize(r, now),
            ProviderRequest::Capture(r) => self.capture(r, now),
            ProviderRequest::Void(r) => self.void(r),
            ProviderRequest::Refund(r) => self.refund(r),
            ProviderRequest::Status(_) => Err(("not_found", false)),
        };
        let outcome = decision.map_or_else(rejected, OperationOutcome::Approved);
        let operation = Operation { key: key.clone(), order_id, kind, outcome: outcome.clone() };
        self.record(operation, fingerprint, now);
        ProviderResponse::Outcome(outcome)
    }

    /// Returns up to `limit` webhooks that were not acknowledged, oldest first. Deliver each at
    /// least once, in any order.
    #[must_use]
    pub fn pending_webhooks(&self, limit: usize) -> Vec<WebhookEvent> {
        self.webhooks.iter().take(limit).cloned().collect()
    }

    /// Forgets a webhook once its receiver answered with success; unknown ones are ignored.
    pub fn acknowledge(&mut self, event_id: &str) {
        self.webhooks.retain(|event| event.event_id != event_id);
    }

    /// Returns what really happened to the money of an order.
    #[must_use]
    pub fn truth(&self, order_id: OrderId, now: Timestamp) -> Truth {
        let mut truth = Truth::default();
        for a in self.authorizations.values().filter(|a| a.order_id == order_id) {
            truth.add(a, self.is_open(a, now));
        }
        truth
    }

    /// Returns the truth of every order that was ever authorized, by order.
    #[must_use]
    pub fn truths(&self, now: Timestamp) -> BTreeMap<OrderId, Truth> {
        let mut truths: BTreeMap<OrderId, Truth> = BTreeMap::new();
        for a in self.authorizations.values() {
            truths.entry(a.order_id).or_default().add(a, self.is_open(a, now));
        }
        truths
    }

    /// Returns every operation on record for an order, oldest first.
    #[must_use]
    pub fn operations(&self, order_id: OrderId) -> Vec<Operation> {
        let keys = self.keys_by_order.get(&order_id).into_iter().flatten();
        keys.filter_map(|key| self.by_key.get(key)).map(|r| r.operation.clone()).collect()
    }

    fn authorize(&mut self, request: &AuthorizeRequest, now: Timestamp) -> Decision {
        let behaviour = request.token.strip_prefix("tok_").unwrap_or_default();
        if behaviour.starts_with("decline") {
            return Err(("declined", false));
        }
        if behaviour.starts_with("insufficient") {
            return Err(("insufficient_funds", true));
        }
        let known = ["ok", "nocapture", "norefund"];
        if !known.iter().any(|name| behaviour.starts_with(name)) {
            return Err(("invalid_token", false));
        }
        if !request.amount.is_positive() {
            return Err(("invalid_amount", false));
        }
        let psp_ref = self.next_reference();
        let zero = Money::zero(request.amount.currency);
        self.authorizations.insert(
            psp_ref.clone(),
            Authorization {
                order_id: request.order_id,
                amount: request.amount,
                token: request.token.clone(),
                approved_at: now,
                captured: zero,
                refunded: zero,
                voided: false,
                captures: 0,
            },
        );
        Ok(ProviderAnswer { psp_ref, amount: request.amount })
    }

    fn capture(&mut self, request: &CaptureRequest, now: Timestamp) -> Decision {
        let Config { authorization_ttl: ttl, overcapture, .. } = self.config;
        let a = self.authorization(request.order_id, &request.authorization)?;
        if a.voided {
            return Err(("voided", false));
        }
        if now.since(a.approved_at) >= ttl {
            return Err(("authorization_expired", false));
        }
        if a.token.starts_with("tok_nocapture") {
            return Err(("declined", false));
        }
        let captured = a.captured.plus(request.amount).map_err(|_| ("invalid_amount", false))?;
        let beyond = captured.minor > a.amount.minor && !overcapture;
        if !request.amount.is_positive() || beyond {
            return Err(("exceeds_authorized", false));
        }
        a.captured = captured;
        a.captures = a.captures.saturating_add(1);
        Ok(ProviderAnswer { psp_ref: self.next_reference(), amount: request.amount })
    }

    fn void(&mut self, request: &VoidRequest) -> Decision {
        let a = self.authorization(request.order_id, &request.authorization)?;
        if a.captured.is_positive() {
            return Err(("captured", false));
        }
        a.voided = true;
        let amount = a.amount;
        Ok(ProviderAnswer { psp_ref: self.next_reference(), amount })
    }

    fn refund(&mut self, request: &RefundRequest) -> Decision {
        let a = self.authorization(request.order_id, &request.authorization)?;
        if a.token.starts_with("tok_norefund") {
            return Err(("declined", false));
        }
        let refunded = a.refunded.plus(request.amount).map_err(|_| ("invalid_amount", false))?;
        if !request.amount.is_positive() || refunded.minor > a.captured.minor {
            return Err(("exceeds_captured", false));
        }
        a.refunded = refunded;
        Ok(ProviderAnswer { psp_ref: self.next_reference(), amount: request.amount })
    }

    fn authorization(
        &mut self,
        order_id: OrderId,
        psp_ref: &str,
    ) -> Result<&mut Authorization, (&'static str, bool)> {
        let found = self.authorizations.get_mut(psp_ref);
        found.filter(|a| a.order_id == order_id).ok_or(("not_found", false))
    }

    fn record(&mut self, operation: Operation, fingerprint: blake3::Hash, now: Timestamp) {
        self.events = self.events.saturating_add(1);
        if self.webhooks.len() >= self.config.webhooks_pending_max {
            self.webhooks.pop_front();
        }
        self.webhooks.push_back(WebhookEvent {
            event_id: format!("evt_{}", self.events),
            operation: operation.clone(),
            occurred_at: now,
        });
        self.keys_by_order.entry(operation.order_id).or_default().push(operation.key.clone());
        self.by_key.insert(operation.key.clone(), Recorded { fingerprint, operation });
    }

    fn next_reference(&mut self) -> String {
        self.references = self.references.saturating_add(1);
        format!("psp_{}", self.references)
    }

    fn is_open(&self, a: &Authorization, now: Timestamp) -> bool {
        let expired = now.since(a.approved_at) >= self.config.authorization_ttl;
        !a.voided && !expired && a.captures == 0
    }
}

impl Truth {
    fn add(&mut self, a: &Authorization, open: bool) {
        self.authorized = self.authorized.saturating_add(a.amount.minor);
        self.open = self.open.saturating_add(if open { a.amount.minor } else { 0 });
        self.captured = self.captured.saturating_add(a.captured.minor);
        self.refunded = self.refunded.saturating_add(a.refunded.minor);
        self.authorizations = self.authorizations.saturating_add(1);
        self.captures = self.captures.saturating_add(a.captures);
    }
}

fn rejected((reason, retryable): (&'static str, bool)) -> OperationOutcome {
    OperationOutcome::Rejected { reason: reason.to_owned(), retryable }
}

/// Hashes a request, to tell a repetition from another request under the same key.
fn fingerprint(request: &ProviderRequest) -> blake3::Hash {
    blake3::hash(&serde_json::to_vec(request).unwrap_or_default())
}
