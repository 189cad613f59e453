//! Integration tests: processor, replay and worker on the in-memory database, on virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs,
    reason = "tests fail by panicking"
)]

mod command;
mod ledger;
mod pipeline;
mod processor;
mod replay;
#[path = "../../../amarra-messaging/tests/it/virtual_time.rs"]
mod virtual_time;
mod worker;
