//! A payment provider with a ledger of its own, for simulations and local runs.
//!
//! The ledger is a pure model: whoever hosts it adds the network, the waiting and the faults. It
//! stands for a foreign company: nothing in it trusts Payments, and [`Provider::truths`] is the
//! ground truth that invariant I7 compares our journal with.

pub mod api;
pub mod ledger;
pub mod webhooks;

pub use api::{ProviderRequest, ProviderResponse};
pub use ledger::{Config, Provider, Truth};
pub use webhooks::{Merchant, NotTaken, WebhookConfig, Webhooks};
