//! Payments: one payment per order, its refunds, the double-entry journal, and the provider port.

mod commands;
mod config;
pub mod journal;
pub mod model;
mod outgoing;
pub mod provider_port;
mod service;
pub mod view;
pub mod webhook;

pub use config::Config;
pub use journal::{Account, EntryKind, JournalEntry, Posting};
pub use model::{Payment, PaymentStatus};
pub use provider_port::{PaymentProvider, ProviderAnswer, ProviderError};
pub use service::Payments;
pub use view::{PaymentView, WebhookReceipt};
pub use webhook::{SignedWebhook, WebhookKey};
