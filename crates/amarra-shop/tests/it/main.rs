//! Integration tests of the shop's services on the in-memory model.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs,
    reason = "tests fail by panicking"
)]

mod notifications;
mod orders;

mod inventory;
mod single;

mod catalog;
mod gateway;
mod payments;
mod provider;
mod users;
