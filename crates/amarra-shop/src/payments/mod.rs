//! Payments: one payment per order, its refunds, the double-entry journal, and the provider port.

pub mod provider_port;
pub mod webhook;

pub use provider_port::{PaymentProvider, ProviderAnswer, ProviderError};
pub use webhook::{SignedWebhook, WebhookKey};
