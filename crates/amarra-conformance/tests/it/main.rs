//! Tests of the suites themselves: they pass on a model that is right and fail on one that is not.
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

mod broken;
mod catalogue;
#[path = "../../../../adapters/amarra-memory/tests/it/conformance/mod.rs"]
mod memory;
