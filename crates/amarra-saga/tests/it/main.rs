//! Integration tests of amarra-saga: definitions, engine, shell, driver and barrier.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::missing_docs_in_private_items,
    missing_docs,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

mod barrier;
mod definition;
mod driver;
mod engine;
mod explorer;
mod properties;
mod shell;
mod specs;
mod support;
