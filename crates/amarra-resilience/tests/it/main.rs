//! Tests of the whole crate from outside, on a clock that moves by hand.
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

mod adaptive;
mod amplification;
mod automaton;
mod breaker;
mod budget;
mod bulkhead;
mod cancel;
mod hedge;
mod limiter;
mod model;
mod peer_defects;
mod pipeline;
mod reference;
mod registry;
mod retry;
mod suite;
mod support;
mod threads;
mod throttle;
mod tower;
mod unusual;
