//! Payments on its database with a provider that loses, delays and refuses.

mod bench;
mod calls;
mod commands;
mod webhooks;
