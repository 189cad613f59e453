//! Tests of the simulated servers from outside: what no port's law can ask of a real one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::missing_docs_in_private_items,
    missing_docs,
    reason = "tests fail by panicking"
)]

mod commit;
mod conformance;
mod groups;
mod keys;
mod locking;
mod membership;
mod observing;
mod outbox;
mod publishing;
mod reference;
mod statements;
mod world;
