//! Tests of the HTTP adapter from outside, over streams in memory.
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

mod provider;
