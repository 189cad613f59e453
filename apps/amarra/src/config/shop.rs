//! What the services and the gateway allow.

use std::path::PathBuf;

use amarra_shop::contract::notifications::Channel;
use serde::Deserialize;

use super::guards::{BreakerSection, RetrySection};
use super::wait::Wait;

/// The gateway's limits.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GatewaySection {
    /// Requests per second from one address. 200.
    pub(crate) address_calls: u32,
    /// Requests from one address at once after a pause. 400.
    pub(crate) address_burst: u32,
    /// Requests per second from one address that try passwords or tokens. 5.
    pub(crate) credentials_calls: u32,
    /// The same at once after a pause. 20.
    pub(crate) credentials_burst: u32,
    /// Requests per second of one user. 50.
    pub(crate) principal_calls: u32,
    /// The same at once after a pause. 100.
    pub(crate) principal_burst: u32,
    /// Requests a service is given at once. 64.
    pub(crate) in_flight_max: u32,
    /// Requests that wait for a place. 64.
    pub(crate) queue_max: u32,
    /// How long one try may take. 3 s.
    pub(crate) try_timeout: Wait,
    /// When a service is believed ill; each service has a breaker of its own.
    pub(crate) breaker: BreakerSection,
    /// How a request to a service is tried again; each service has a budget of its own.
    pub(crate) retry: RetrySection,
}

impl Default for GatewaySection {
    fn default() -> Self {
        Self {
            address_calls: 200,
            address_burst: 400,
            credentials_calls: 5,
            credentials_burst: 20,
            principal_calls: 50,
            principal_burst: 100,
            in_flight_max: 64,
            queue_max: 64,
            try_timeout: Wait::secs(3),
            breaker: BreakerSection::default(),
            retry: RetrySection::default(),
        }
    }
}

/// Users.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UsersSection {
    /// Whether accounts are active at once, without a proof of the address. No, but yes in the
    /// embedded shop, which says so.
    pub(crate) auto_verify: Option<bool>,
    /// The file that tokens which prove an address are written to, in place of a mail: needed where
    /// `auto_verify` is off.
    pub(crate) verification_log: Option<PathBuf>,
    /// The first administrator's address.
    pub(crate) admin_email: String,
    /// Memory of a password hash, in KiB: 8 to 1,048,576. 19,456, the least that OWASP recommends.
    pub(crate) password_memory_kib: u32,
    /// Password hashes at once, at least 1; one more is answered 503. 16.
    pub(crate) hashes_in_flight_max: usize,
    /// How long handing one token over may take, above zero. 10 s.
    pub(crate) send_timeout: Wait,
    /// Tokens handed over at once, at least 1. 64.
    pub(crate) sends_in_flight_max: u32,
    /// When whoever carries the tokens is believed ill.
    pub(crate) breaker: BreakerSection,
}

impl Default for UsersSection {
    fn default() -> Self {
        Self {
            auto_verify: None,
            verification_log: None,
            admin_email: "admin@amarra.local".to_owned(),
            password_memory_kib: 19_456,
            hashes_in_flight_max: 16,
            send_timeout: Wait::secs(10),
            sends_in_flight_max: 64,
            breaker: BreakerSection::default(),
        }
    }
}

impl UsersSection {
    /// Checks the ranges.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.admin_email.contains('@') {
            return Ok(());
        }
        Err("users.admin_email must be a mail address".to_owned())
    }
}

/// Orders.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OrdersSection {
    /// Orders of one user that are neither confirmed nor ended, at least 1. 20.
    pub(crate) open_orders_max: usize,
    /// How long Inventory holds stock for an order; longer than `deadline`. 15 min.
    pub(crate) reserve_ttl: Wait,
    /// How long after it was placed an order that has not sent its capture is undone. 10 min.
    pub(crate) deadline: Wait,
    /// How long a step before the capture may take before the order is undone. 2 min.
    pub(crate) step_timeout: Wait,
    /// How long a capture or a step of undoing may take before it is asked for again. 30 s.
    pub(crate) repeat_after: Wait,
}

impl Default for OrdersSection {
    fn default() -> Self {
        Self {
            open_orders_max: 20,
            reserve_ttl: Wait::secs(900),
            deadline: Wait::secs(600),
            step_timeout: Wait::secs(120),
            repeat_after: Wait::secs(30),
        }
    }
}

/// Payments.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PaymentsSection {
    /// Calls to the provider at once, at least 1. 64.
    pub(crate) in_flight_max: u32,
    /// How long one try of a call may take, above zero; after it the outcome is asked for. 2 s.
    pub(crate) call_timeout: Wait,
    /// How long a call may take with its retries, at least `call_timeout` and shorter than
    /// `worker.lease`. 5 s.
    pub(crate) call_patience: Wait,
    /// The longest wait between two calls that settled nothing. 10 s.
    pub(crate) backoff_max: Wait,
    /// When the provider is believed ill.
    pub(crate) breaker: BreakerSection,
    /// How a call that surely had no effect is tried again.
    pub(crate) retry: RetrySection,
}

impl Default for PaymentsSection {
    fn default() -> Self {
        Self {
            in_flight_max: 64,
            call_timeout: Wait::secs(2),
            call_patience: Wait::secs(5),
            backoff_max: Wait::secs(10),
            breaker: BreakerSection::default(),
            retry: RetrySection::default(),
        }
    }
}

/// Notifications.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NotificationsSection {
    /// The channels the shop has: `"email"`, `"sms"`, `"push"`. Email and push.
    pub(crate) channels: Vec<Channel>,
    /// The file that messages are written to, in place of a mail or push: one line a message.
    pub(crate) sent_log: Option<PathBuf>,
    /// Messages whose keys are remembered, so that none is written twice; at least 1. At it the
    /// oldest is forgotten. A million.
    pub(crate) keys_max: usize,
    /// How long handing one message over may take, above zero and well below `worker.lease`. 3 s.
    pub(crate) send_timeout: Wait,
    /// Messages handed over at once on one channel, at least 1. 64.
    pub(crate) in_flight_max: u32,
    /// When a channel's provider is believed ill; each channel has a breaker of its own.
    pub(crate) breaker: BreakerSection,
}

impl Default for NotificationsSection {
    fn default() -> Self {
        Self {
            channels: vec![Channel::Email, Channel::Push],
            sent_log: None,
            keys_max: 1_000_000,
            send_timeout: Wait::secs(3),
            in_flight_max: 64,
            breaker: BreakerSection::default(),
        }
    }
}

/// The payment provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProviderSection {
    /// The file of its ledger; every request is in it, and on the disk, before it is answered.
    pub(crate) journal: Option<PathBuf>,
    /// Whether it takes more than was authorized when asked to: a double capture is then the
    /// merchant's to prevent. No.
    pub(crate) overcapture: bool,
    /// How long delivering one webhook may take, above zero. 2 s.
    pub(crate) webhook_timeout: Wait,
    /// Webhooks on their way at once, at least 1. 16.
    pub(crate) webhooks_in_flight_max: u32,
    /// When the merchant is believed ill.
    pub(crate) breaker: BreakerSection,
}

impl Default for ProviderSection {
    fn default() -> Self {
        Self {
            journal: None,
            overcapture: false,
            webhook_timeout: Wait::secs(2),
            webhooks_in_flight_max: 16,
            breaker: BreakerSection::default(),
        }
    }
}
